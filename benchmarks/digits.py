"""Digits: a small MIL dataset of real images, with nothing to download.

A bag contains handwritten digits of one writer. Most are 0, 2, 3 or 5, which are background. The
fine class of a bag is its rare witness digit: 1 or 7 (coarse class stroke), 4 or 9 (angle), 6 or 8
(loop), or none of them. The images are the 1,797 of the Optical Recognition of Handwritten Digits
data that scikit-learn contains. They are in the order of collection, so neighbouring images come
from one hand. The file does not name writers: consecutive blocks of images serve as writers, and no
image is in two of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mil_bench import seeds
from mil_bench.bags.bag import Bag, Slide
from mil_bench.datasets.card import BagProfile, DatasetSpec, GroupProfile, check_limits
from mil_bench.hierarchy import LabelHierarchy

if TYPE_CHECKING:
    from collections.abc import Iterator

_WITNESS_DIGIT = {"none": None, "one": 1, "seven": 7, "four": 4, "nine": 9, "six": 6, "eight": 8}
_BACKGROUND = (0, 2, 3, 5)
_WRITERS = 30  # 60 images each: about six of every digit


@dataclass(frozen=True)
class DigitBags:
    """How bags are filled; change it as ``digits:bags=600``.

    Args:
        bags: number of bags, distributed evenly over writers and classes.
        rows: mean number of digits per bag.
        witnesses: maximum number of witness digits per bag (the minimum is one).
    """

    version: ClassVar[int] = 1
    bags: int = 420
    rows: int = 24
    witnesses: int = 3

    def __post_init__(self) -> None:
        limits = {"bags": (20, 10**5), "rows": (4, 10**4), "witnesses": (1, self.rows // 2)}
        check_limits("digits", self, limits)

    def describe(self) -> str:
        """The settings in words."""
        return (
            f"{self.bags} bags of about {self.rows} handwritten digits, "
            f"1 to {self.witnesses} witnesses"
        )

    def size(self, spec: DatasetSpec) -> tuple[int, int]:  # noqa: ARG002  # the protocol has it
        """Number of bags and number of instances."""
        return self.bags, int(self._sizes().sum())

    def _sizes(self) -> np.ndarray:
        return seeds.generator("digits", "sizes").integers(
            self.rows // 2, self.rows * 3 // 2 + 1, self.bags
        )

    def generate(self, spec: DatasetSpec) -> Iterator[Bag]:
        """All bags, in id order."""
        from sklearn.datasets import load_digits

        images, digits = load_digits(return_X_y=True)
        images = (images / 16.0).astype(np.float32)  # grey levels 0..16
        writer_of_image = np.arange(len(images)) * _WRITERS // len(images)
        for i, size in enumerate(self._sizes()):
            label, writer = i % spec.hierarchy.n_fine, (i // spec.hierarchy.n_fine) % _WRITERS
            rng = seeds.generator("digits", "bag", i)
            by_writer = writer_of_image == writer
            chosen = rng.choice(np.flatnonzero(by_writer & np.isin(digits, _BACKGROUND)), size)
            shown = np.full(size, -1, dtype=np.int16)
            witness = _WITNESS_DIGIT[spec.hierarchy.fine[label]]
            if witness is not None:
                places = rng.choice(size, rng.integers(1, self.witnesses + 1), replace=False)
                images_of_witness = np.flatnonzero(by_writer & (digits == witness))
                chosen[places] = rng.choice(images_of_witness, len(places))
                shown[places] = label
            slide = Slide(f"digits-{i:04d}", label, f"writer-{writer:02d}")
            yield Bag(slide, images[chosen], instance_labels=shown)


DIGITS = DatasetSpec(
    name="digits",
    title="bags of handwritten digits, 420 bags of 30 writers, "
    "7 fine and 4 coarse classes, built in",
    hierarchy=LabelHierarchy.from_groups(
        {
            "none": ["none"],
            "stroke": ["one", "seven"],
            "angle": ["four", "nine"],
            "loop": ["six", "eight"],
        }
    ),
    class_counts=(60,) * 7,
    groups=GroupProfile("writer", _WRITERS, grows=False, purity=0.0),
    bags=BagProfile(24, 0.3, "by construction"),
    protocols=("patient-kfold", "paper"),
    source="scikit-learn's load_digits, part of the package",
    licence="as distributed with scikit-learn",
    citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, "
    "UCI repository, 1998",
    traps=("Writers are blocks of the file, not known persons.",),
    generator=DigitBags(),
)
