"""Stacks of folds, optimizers and the training loop."""
