"""Layers and training steps written for speed: the same numbers in fewer passes over the rows.

The method files say what is computed. Here is how it is computed fast: dropout that draws fewer
random bits, and gradients written by hand. Whatever autograd sees also runs under
``torch.func.vmap``.
"""
