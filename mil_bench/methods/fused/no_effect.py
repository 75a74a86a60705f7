"""Layers whose output is known beforehand to change nothing are not computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def no_effect(layer: nn.Module) -> Tensor:
    """0, whose backward pass gives all parameters of a layer a gradient of 0.

    An optimizer treats that differently from no gradient: moments and weights still decay.
    """
    return 0 * torch.stack([p.flatten()[0] for p in layer.parameters()]).sum()
