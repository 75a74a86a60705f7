"""Finds bags whose rows are equal or almost equal.

Such bags are one slide under two names, scanned again, cut or re-encoded.

Comparing all bags row by row would take days. So each bag is reduced to a sketch: the signs of 64
random projections of its centred rows make a code of 64 bits per row, which rounding to half
precision leaves as it is for nearly all rows, and the 128 codes with the lowest hashes are kept.
The choice depends on the rows alone, so copies of a row are kept in both bags or in neither, in
whatever order and among whatever other rows. Bags whose sketches share enough are compared on
their real rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mil_bench import seeds
from mil_bench.progress import Watch, unwatched

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mil_bench.bags.store import BagStore

SHARE = 0.5
"""Pairs with this share of common rows or more are reported.

Two stains of one block, or two cuts of it, share none.
"""
_BITS = 64
_KEPT = 128  # so a part of a tenth of a large bag still has a dozen codes in common with it
_SKETCH_SHARE = 0.25  # half of the share that is reported: a sketch only guesses it
# A code in more bags than these is a patch of background, or one slide copied very often.
_CROWD = 50
_SAMPLED_BAGS = 64  # for the centre of all rows
_SAMPLED_ROWS = 256
# Of a row's length: re-encoding moves a row by 1e-3, the next patch is 100 times farther away.
_TOLERANCE = 5e-3
# Of its distance from the centre, for encoders whose rows all have much in common.
_CENTRED_TOLERANCE = 0.1
_BLOCK = 2048  # rows compared at once


@dataclass(frozen=True)
class _Sketch:
    """The codes of a bag with the lowest hashes.

    Args:
        hashes: sorted, at most ``_KEPT``.
        limit: every code of the bag with a hash below it is among them.
    """

    hashes: np.ndarray
    limit: int


def near_duplicates(store: BagStore, watch: Watch = unwatched) -> pd.DataFrame:
    """``near_duplicate_bags`` of all bags of a store."""

    def read(bag: int) -> np.ndarray:
        return store.features[store.rows_of(bag)]

    return near_duplicate_bags(tuple(store.slides["slide"]), read, watch)


def near_duplicate_bags(
    slides: Sequence[str], read: Callable[[int], np.ndarray], watch: Watch = unwatched
) -> pd.DataFrame:
    """Pairs of bags of which one has at least half of its rows in the other, equal or almost so.

    1 KB per bag is held in memory. Parts of less than about a twentieth of a large bag can be
    missed.

    Args:
        slides: names of the bags.
        read: the finite rows ``[n, D]`` of the bag at a position, n >= 1; most are read once.
        watch: wraps the iteration over the positions, given their number and what is being done (a
            progress bar).

    Returns:
        Columns slide_a, slide_b, share, share_back; one row per pair. ``share`` is the share of a's
        rows that have such a row in b, each distinct row counted once; a is the bag of which more
        is found in the other, and ``share_back`` is b's share. Highest shares first.
    """
    duplicates = []
    if len(slides) > 1:
        rows = _Rows(len(slides), read)
        sketches = [
            rows.sketch(i)
            for i in watch(range(len(slides)), len(slides), "looking for near-duplicates")
        ]
        pairs = _candidates(sketches)
        for a, b in watch(pairs, len(pairs), "comparing bags"):
            share, back = rows.share(a, b), rows.share(b, a)
            if max(share, back) >= SHARE:
                duplicates.append(
                    (slides[a], slides[b], share, back)
                    if share >= back
                    else (slides[b], slides[a], back, share)
                )
    frame = pd.DataFrame(duplicates, columns=["slide_a", "slide_b", "share", "share_back"])
    return frame.sort_values(
        ["share", "slide_a", "slide_b"], ascending=[False, True, True], ignore_index=True
    )


class _Rows:
    """The bags, centred and projected."""

    def __init__(self, bags: int, read: Callable[[int], np.ndarray]) -> None:
        self._stored = read
        sample = np.unique(np.linspace(0, bags - 1, _SAMPLED_BAGS).astype(int))
        self._centre = np.mean([self._read(i)[:_SAMPLED_ROWS].mean(0) for i in sample], axis=0)
        draw = seeds.generator("near-duplicates", len(self._centre)).standard_normal(
            (len(self._centre), _BITS)
        )
        self._directions = draw.astype(np.float32)
        # One bag is in many candidate pairs in succession.
        self._recent = lru_cache(8)(self._distinct)

    def sketch(self, bag: int) -> _Sketch:
        """The bag's sketch."""
        hashes = np.unique(_scatter(_codes(self._project(self._read(bag)))))
        limit = int(hashes[_KEPT]) if len(hashes) > _KEPT else 2**64
        return _Sketch(hashes[:_KEPT], limit)

    def share(self, a: int, b: int) -> float:
        """Share of a's distinct rows that have an equal or almost equal row in b."""
        (rows, projected), (others, other_projected) = self._recent(a), self._recent(b)
        count = 0
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            nearest = _nearest(projected[block], other_projected)
            apart = np.linalg.norm(rows[block] - others[nearest], axis=1)
            length = np.linalg.norm(rows[block], axis=1)
            centred = np.linalg.norm(rows[block] - self._centre, axis=1)
            count += int(
                np.count_nonzero(
                    apart <= np.minimum(_TOLERANCE * length, _CENTRED_TOLERANCE * centred)
                )
            )
        return count / len(rows)

    def _distinct(self, bag: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._read(bag)
        projected = self._project(rows)
        _, first = np.unique(_codes(projected), return_index=True)
        return rows[first], projected[first]

    def _read(self, bag: int) -> np.ndarray:
        return self._stored(bag).astype(np.float32)

    def _project(self, rows: np.ndarray) -> np.ndarray:
        return rows @ self._directions - self._centre @ self._directions  # [n, _BITS]


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each point the position of the nearest among the others."""
    best = np.full(len(points), np.inf, dtype=np.float32)
    position = np.zeros(len(points), dtype=np.int64)
    for start in range(0, len(others), _BLOCK):
        block = others[start : start + _BLOCK]
        # Without the point's own length, which is the same for all.
        distance = (block**2).sum(1) - 2 * points @ block.T
        nearest = distance.argmin(1)
        value = distance[np.arange(len(points)), nearest]
        closer = value < best
        best[closer], position[closer] = value[closer], start + nearest[closer]
    return position


def _codes(projected: np.ndarray) -> np.ndarray:
    """One number of 64 bits per row: on which side of each direction it lies."""
    return np.packbits(projected > 0, axis=1).view(np.uint64)[:, 0]


def _scatter(codes: np.ndarray) -> np.ndarray:
    """Spread codes evenly over 64 bits (the finalizer of SplitMix64)."""
    mixed = codes.copy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _candidates(sketches: list[_Sketch]) -> list[tuple[int, int]]:
    """Pairs whose sketches share enough codes, in order of the first bag."""
    hashes = np.concatenate([sketch.hashes for sketch in sketches])
    owner = np.repeat(np.arange(len(sketches)), [len(sketch.hashes) for sketch in sketches])
    order = np.lexsort((owner, hashes))
    hashes, owner = hashes[order], owner[order]
    starts = np.flatnonzero(np.diff(hashes, prepend=hashes[0] + np.uint64(1)))
    pairs: set[tuple[int, int]] = set()
    for bags in np.split(owner, starts[1:]):
        if len(bags) > 1:
            pairs.update(
                combinations(bags.tolist(), 2) if len(bags) <= _CROWD else pairwise(bags.tolist())
            )
    return [
        pair
        for pair in sorted(pairs)
        if _sketch_share(*(sketches[bag] for bag in pair)) >= _SKETCH_SHARE
    ]


def _sketch_share(a: _Sketch, b: _Sketch) -> float:
    """The share of the smaller bag's rows that the other has too, estimated from the sketches."""
    limit = min(a.limit, b.limit)
    ours, theirs = (
        np.array([h for h in s.hashes.tolist() if h < limit], dtype=np.uint64) for s in (a, b)
    )
    return len(np.intersect1d(ours, theirs, assume_unique=True)) / max(
        1, min(len(ours), len(theirs))
    )
