"""Stacks of folds, optimizers and the loop that trains them."""
