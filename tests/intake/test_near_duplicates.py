"""Near-duplicates: copies are found whatever was done to them, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.intake.inspection.near_duplicates import near_duplicate_bags, near_duplicates

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mil_bench.bags.store import BagStore

ROWS, WIDTH = 400, 64


def some_rows(bag: int, rows: int = ROWS) -> np.ndarray:
    """Rows as encoders make them: most of their length in common, none negative."""
    rng = np.random.default_rng(bag)
    return np.maximum(rng.standard_normal((rows, WIDTH)) + 1, 0).astype(np.float32)


def pairs_of(bags: list[np.ndarray]) -> list[tuple[str, str, float, float]]:
    frame = near_duplicate_bags([f"s{i}" for i in range(len(bags))], bags.__getitem__)
    return list(frame.itertuples(index=False, name=None))


def study(copy: np.ndarray) -> list[np.ndarray]:
    """Twenty different bags and a changed copy of the fifth, s20."""
    return [*(some_rows(bag) for bag in range(20)), copy]


RNG = np.random.default_rng(5)
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "equal": lambda rows: rows.copy(),
    "another order": lambda rows: RNG.permutation(rows),
    "rounded to half precision": lambda rows: rows.astype(np.float16),
    "encoded again": lambda rows: (
        rows * (1 + 1e-3 * RNG.standard_normal(rows.shape)).astype(np.float32)
    ),
    "encoded again with noise in zeros": lambda rows: (
        rows + np.float32(1e-3) * RNG.standard_normal(rows.shape)
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_copy_is_found_that_is(change: Callable) -> None:
    ((a, b, share, back),) = pairs_of(study(change(some_rows(4))))
    assert {a, b} == {"s4", "s20"}
    assert share >= 0.98
    assert back >= 0.98


@pytest.mark.parametrize("kept", [0.5, 0.25, 0.1])
def test_a_part_of_a_bag_is_found_and_is_named_first(kept: float) -> None:
    part = RNG.permutation(some_rows(4, 2000))[: int(2000 * kept)].astype(np.float16)
    bags = study(part)
    bags[4] = some_rows(4, 2000)
    ((a, b, share, back),) = pairs_of(bags)
    assert (a, b) == ("s20", "s4")
    assert share >= 0.98
    assert back == pytest.approx(kept, abs=0.02)


@pytest.mark.parametrize(("common", "found"), [(0.7, 1), (0.3, 0)])
def test_half_of_the_rows_decide(common: float, found: int) -> None:
    cut = int(common * ROWS)
    mixed = np.concatenate([some_rows(4)[:cut], some_rows(99)[cut:]])
    pairs = pairs_of(study(mixed))
    assert len(pairs) == found
    assert all(share == pytest.approx(common, abs=0.02) for _, _, share, _ in pairs)


def test_different_bags_are_no_pair() -> None:
    assert pairs_of([some_rows(bag) for bag in range(30)]) == []


def test_empty_glass_in_every_bag_makes_no_pairs() -> None:
    glass = np.full((300, WIDTH), 0.25, np.float32)
    assert pairs_of([np.concatenate([some_rows(bag), glass]) for bag in range(80)]) == []


def test_sixty_copies_of_one_bag_are_all_found() -> None:
    bags = [some_rows(bag) for bag in range(5)] + [some_rows(77)] * 60
    pairs = pairs_of(bags)
    assert {name for pair in pairs for name in pair[:2]} == {f"s{i}" for i in range(5, 65)}


@pytest.mark.parametrize("bags", [0, 1])
def test_less_than_two_bags_are_no_pair(bags: int) -> None:
    assert pairs_of([some_rows(0)] * bags) == []


def test_bags_of_one_row_are_compared() -> None:
    bags = [some_rows(bag, 1) for bag in range(10)]
    assert pairs_of([*bags, bags[3]]) == [("s3", "s10", 1.0, 1.0)]


def test_the_frame_has_the_columns_that_audits_use(small_store: BagStore) -> None:
    frame = near_duplicates(small_store)
    assert list(frame.columns) == ["slide_a", "slide_b", "share", "share_back"]
    assert frame.empty  # no two simulated bags have a row in common


def test_bags_of_digits_share_images_within_a_writer_and_not_across(tmp_path: Path) -> None:
    store = open_store(find_dataset("digits:bags=140"), tmp_path)
    frame = near_duplicates(store)
    writer = store.slides.set_index("slide")["group"]
    assert len(frame)  # by construction: a bag draws from sixty images
    assert (writer[frame["slide_a"]].to_numpy() == writer[frame["slide_b"]].to_numpy()).all()
