"""Inspects bags for what would invalidate a benchmark, before a GPU-week is spent on it.

One bag is in memory at a time; of each, only its size, its label and a digest are kept.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from mil_bench.errors import InputError
from mil_bench.intake.inspection.leaks import LabelLeaks, LeakingColumn
from mil_bench.intake.inspection.near_duplicates import near_duplicate_bags
from mil_bench.intake.readers import problem_lines
from mil_bench.wording import first_names, gathered, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from mil_bench.intake.inspection.sources import BagSource
    from mil_bench.progress import Watch


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed.

    Args:
        wrong: whether the data must not be used as they are; else the finding is a note.
        text: one sentence.
    """

    wrong: bool
    text: str


@dataclass
class _Seen:
    """What is kept of the bags."""

    sizes: np.ndarray
    widths: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    dtypes: set[str] = field(default_factory=set)
    copies: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    not_finite: list[str] = field(default_factory=list)
    same_place: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    featureless: list[str] = field(default_factory=list)
    sound: list[int] = field(default_factory=list)
    leaks: LabelLeaks | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None


@dataclass(frozen=True)
class Inspection:
    """What an inspection of bags found.

    Args:
        sizes: instances of each bag, 0 if it could not be read.
        width: feature width, D.
        findings: what was noticed.
    """

    sizes: np.ndarray
    width: int
    findings: tuple[Finding, ...]


def inspect_bags(source: BagSource, groups: Sequence[str], watch: Watch) -> Inspection:
    """Inspect all bags of a source, then compare those that are whole for near-duplicates.

    Args:
        source: the bags.
        groups: group of each bag.
        watch: wraps the iterations over the bags (a progress bar).
    """
    seen = _Seen(np.zeros(len(source.slides), dtype=np.int64))
    for position in watch(range(len(source.slides)), len(source.slides), "inspecting the bags"):
        slide = source.slides[position]
        try:
            features, coords = source.read(position)
        except InputError as error:
            seen.unreadable += problem_lines(error)
            continue
        _look(seen, source, position, features)
        if coords is not None:
            if not np.isfinite(coords).all():
                seen.not_finite.append(f"{slide} (coordinates)")
            elif len(np.unique(coords, axis=0)) < len(coords):
                seen.same_place.append(slide)
    findings = [*_broken(seen), *_copies(seen, source), *_columns(seen, source), *_sizes(seen)]
    sound = seen.sound
    pairs = near_duplicate_bags(
        [source.slides[i] for i in sound], lambda i: source.read(sound[i])[0], watch
    )
    findings += _near_copies(pairs, source, groups)
    return Inspection(seen.sizes, 0 if seen.low is None else len(seen.low), tuple(findings))


def _look(seen: _Seen, source: BagSource, position: int, features: np.ndarray) -> None:
    slide = source.slides[position]
    rows, width = features.shape
    seen.sizes[position] = rows
    if not rows or not width:
        (seen.featureless if rows else seen.empty).append(slide)
        return
    seen.widths[width].append(slide)
    seen.dtypes.add(features.dtype.name)
    seen.copies[
        xxhash.xxh3_128_hexdigest(np.ascontiguousarray(features).view(np.uint8).data)
    ].append(position)
    with np.errstate(over="ignore"):  # what overflows single precision is reported as not finite
        values = features.astype(np.float32)
    if not np.isfinite(values).all():
        seen.not_finite.append(slide)
        return
    lowest, highest = values.min(0), values.max(0)
    if seen.low is None or seen.high is None:
        seen.low, seen.high = lowest, highest
        seen.leaks = LabelLeaks(max(1, len(source.classes)), width)
    if width == len(seen.low):
        seen.sound.append(position)
        np.minimum(seen.low, lowest, out=seen.low)
        np.maximum(seen.high, highest, out=seen.high)
        if seen.leaks is not None and source.labels[position] >= 0:
            seen.leaks.add(int(source.labels[position]), lowest, values.mean(0), highest)


def _broken(seen: _Seen) -> Iterable[Finding]:
    for problem in gathered(seen.unreadable):
        yield Finding(True, problem)
    if seen.not_finite:
        hold = "holds" if len(seen.not_finite) == 1 else "hold"
        yield Finding(True, f"{_bags(seen.not_finite)} {hold} NaN or infinite values.")
    if len(seen.widths) > 1:
        kinds = "; ".join(
            f"{width} in {_bags(slides)}" for width, slides in sorted(seen.widths.items())
        )
        yield Finding(True, f"Feature widths differ: {kinds}.")
    if len(seen.dtypes) > 1:
        yield Finding(True, f"Number types differ: {', '.join(sorted(seen.dtypes))}.")
    if seen.same_place:
        yield Finding(
            False,
            f"{_bags(seen.same_place)} {_has(len(seen.same_place))} several instances at the same "
            "coordinates.",
        )


def _copies(seen: _Seen, source: BagSource) -> Iterable[Finding]:
    for positions in seen.copies.values():
        if len(positions) > 1:
            slides = [source.slides[p] for p in positions]
            labels = {int(source.labels[p]) for p in positions} - {-1}
            if len(labels) > 1:
                named = [
                    f"{source.slides[p]} ({source.classes[source.labels[p]]})" for p in positions
                ]
                yield Finding(True, f"Equal features, different labels: {first_names(named)}.")
            else:
                yield Finding(False, f"Equal features: {first_names(slides)}.")


def _columns(seen: _Seen, source: BagSource) -> Iterable[Finding]:
    if seen.low is None or seen.high is None or seen.leaks is None:
        return
    leaking = seen.leaks.columns()
    for leak in leaking:
        yield Finding(True, _leak_sentence(leak, source.classes))
    metadata = sorted(
        {*seen.leaks.constant_within_bags().tolist()} - {leak.column for leak in leaking}
    )
    if metadata and seen.sizes.max() > 1:
        yield Finding(
            False,
            f"Constant within every bag, so probably slide-level metadata: {_positions(metadata)}.",
        )
    constant = np.flatnonzero(seen.low == seen.high)
    zero = [c for c in constant.tolist() if seen.low[c] == 0]
    other = [c for c in constant.tolist() if seen.low[c] != 0]
    if zero:
        yield Finding(False, f"Always zero: {_positions(zero)} of {len(seen.low)}.")
    if other:
        yield Finding(False, f"Always the same value: {_positions(other)} of {len(seen.low)}.")


def _leak_sentence(leak: LeakingColumn, classes: Sequence[str]) -> str:
    clusters = " < ".join(" = ".join(classes[c] for c in cluster) for cluster in leak.clusters)
    return (
        f"Feature column {leak.column} (counted from 0) is the label: its {leak.statistic} per bag "
        f"separates {clusters} perfectly. Remove it; results computed with it are invalid."
    )


def _sizes(seen: _Seen) -> Iterable[Finding]:
    single = int(np.count_nonzero(seen.sizes == 1))
    if single:
        yield Finding(
            False, f"{single} of {len(seen.sizes)} bags {_has(single)} a single instance."
        )
    if seen.empty:
        effect = "packing leaves such slides out" if seen.sizes.any() else "no bag has any"
        yield Finding(
            not seen.sizes.any(),
            f"{_bags(seen.empty)} {_has(len(seen.empty))} no instances; {effect}.",
        )
    if seen.featureless:
        yield Finding(
            True,
            f"{_bags(seen.featureless)} {_has(len(seen.featureless))} instances without features.",
        )


def _near_copies(pairs: pd.DataFrame, source: BagSource, groups: Sequence[str]) -> list[Finding]:
    """What pairs of near-duplicates mean for a benchmark."""
    if pairs.empty:
        return []
    position = {slide: i for i, slide in enumerate(source.slides)}
    a, b = (pairs[name].map(position).to_numpy() for name in ("slide_a", "slide_b"))
    group_of = np.asarray(groups)
    across = group_of[a] != group_of[b]
    other_label = source.labels[a] != source.labels[b]
    shown = _shown_pairs(pairs[across] if across.any() else pairs)
    count = plural(len(pairs), "pair of bags has", "pairs of bags have")
    findings = [
        Finding(
            False,
            f"{count} at least half of their rows in common, {across.sum()} of them in different "
            f"groups, which a split can separate: {shown}.",
        )
    ]
    whole = (
        (pairs["share"].to_numpy() > 0.95) & (pairs["share_back"].to_numpy() > 0.95) & other_label
    )
    if whole.any():
        findings.append(
            Finding(True, f"Almost equal features, different labels: {_shown_pairs(pairs[whole])}.")
        )
    return findings


def _shown_pairs(pairs: pd.DataFrame) -> str:
    return first_names(
        [f"{pair.slide_a} in {pair.slide_b} ({pair.share:.0%})" for pair in pairs.itertuples()]
    )


def _bags(slides: Sequence[str]) -> str:
    return f"{plural(len(slides), 'bag')} ({first_names(slides)})"


def _has(number: int) -> str:
    return "has" if number == 1 else "have"


def _positions(columns: Sequence[int]) -> str:
    count = plural(len(columns), "feature column")
    return f"{count} ({first_names([str(column) for column in columns])})"
