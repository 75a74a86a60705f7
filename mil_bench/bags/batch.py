"""Packed ragged batches: the rows of all bags stacked, without padding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mil_bench import devices


@dataclass(frozen=True, eq=False)
class BagBatch:
    """B bags with N rows in total. A method sees nothing else of a slide: no id, group or path.

    Args:
        features: ``[N, D]`` floating point.
        offsets: ``[B + 1]`` int64; bag b has the rows ``offsets[b]`` to ``offsets[b + 1] - 1``, at
            least one.
        bag_of: ``[N]`` int64, the bag of each row.
        labels: ``[B]`` int64 fine classes.
        coords: ``[N, 2]`` or None.
        instance_labels: ``[N]`` int64, fine class a row is a witness of, -1 for background; or
            None.
        lengths: rows of each bag as plain numbers, so that they need not be read from a GPU.
    """

    features: Tensor  # [N, D]
    offsets: Tensor  # [B + 1]
    bag_of: Tensor  # [N]
    labels: Tensor  # [B]
    coords: Tensor | None  # [N, 2]
    instance_labels: Tensor | None  # [N]
    lengths: tuple[int, ...]  # [B]

    @classmethod
    def pack(
        cls,
        features: Tensor,
        sizes: Tensor,
        labels: Tensor,
        coords: Tensor | None = None,
        instance_labels: Tensor | None = None,
    ) -> BagBatch:
        """From rows in bag order and the number of rows of each bag ``[B]``, faster from the CPU.

        Raises:
            ValueError: a bag is empty, or the sizes do not add up to the rows.
        """
        lengths, device = tuple(sizes.tolist()), features.device
        if min(lengths) < 1 or sum(lengths) != len(features):
            raise ValueError(
                f"bag sizes {list(lengths)} do not fit {len(features)} rows; no bag may be empty"
            )
        sizes = devices.send(sizes, device)
        offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        bags = torch.arange(len(lengths), device=device)
        bag_of = torch.repeat_interleave(bags, sizes, output_size=len(features))
        return cls(features, offsets, bag_of, labels, coords, instance_labels, lengths)

    @property
    def n_bags(self) -> int:
        """B."""
        return len(self.labels)

    @property
    def sizes(self) -> Tensor:
        """Rows of each bag ``[B]``."""
        return self.offsets.diff()

    def select(self, bags: Tensor) -> BagBatch:
        """The batch of some bags in the order given; positions in this batch, best on the CPU."""
        lengths, device = [self.lengths[bag] for bag in bags.tolist()], self.features.device
        bags, sizes = devices.send(bags, device), devices.send(torch.tensor(lengths), device)
        shift = self.offsets[bags] - (sizes.cumsum(0) - sizes)
        shift = torch.repeat_interleave(shift, sizes, output_size=sum(lengths))
        rows = torch.arange(len(shift), device=device) + shift

        def take(column: Tensor | None) -> Tensor | None:
            return None if column is None else column[rows]

        return BagBatch.pack(
            self.features[rows],
            torch.tensor(lengths),
            self.labels[bags],
            take(self.coords),
            take(self.instance_labels),
        )

    def to(self, device: torch.device) -> BagBatch:
        """The batch on a device, features as they are."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)
