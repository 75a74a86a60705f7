"""Soft labels for grades: a slide of grade 2 counts as a little of grades 1 and 3, too.

R. Díaz, A. Marathe, Soft Labels for Ordinal Regression, CVPR 2019: a label t becomes a distribution
over the classes i, the softmax of minus a penalty for taking i for t. The penalty here is
(t - i)^2, the distance of the quadratic kappa. The network stays as it is, with one logit per
class.
"""

from __future__ import annotations

import torch
from torch import Tensor


def soft_labels(classes: int) -> Tensor:
    """The distribution that takes the place of each label ``[C, C]`` float64; rows sum to 1."""
    grades = torch.arange(classes, dtype=torch.float64)
    return (-((grades[:, None] - grades) ** 2)).softmax(1)
