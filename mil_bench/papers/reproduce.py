"""Reproduce tables and figures of a paper: run what its protocol files ask for, with the ordinary runner.

Results are shared: items with the same trainings train them once. A real dataset without packed
features is left out with what is missing; a generated twin takes its place only if it is asked for
by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench.api import execute, prepare
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.errors import InputError, MissingFeaturesError, SplitError
from mil_bench.papers.items import Item, find_item, item_names
from mil_bench.planning.request import RunRequest
from mil_bench.split_files.formats.own import read_split_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.papers.request import ReproduceRequest
    from mil_bench.planning.prepare import Prepared
    from mil_bench.running.setup import Setup
    from mil_bench.runs.result import RunResult

QUICK_TWIN: Mapping[str, str] = {"slides": "120", "rows": "15"}
"""Settings of a twin at the quick preset that are not given; with ``QUICK_EPOCHS`` chosen by cost alone, the same for
every method: TransMIL takes about 30 ms a slide on one core, and everything is to end within 15
minutes on two."""
QUICK_EPOCHS = 20
"""Epochs on a twin at the quick preset."""


@dataclass(frozen=True)
class Part:
    """One item on one dataset: the run that it asks for.

    Args:
        item: what is reproduced.
        name: of the dataset, as it was asked for.
        spec: its card.
        request: the run, with the settings of the preset.
    """

    item: Item
    name: str
    spec: DatasetSpec
    request: RunRequest


@dataclass(frozen=True, eq=False)
class PartResult:
    """What became of a part: its result, or why it has none."""

    part: Part
    result: RunResult | None
    reason: str = ""


def parts_of(request: ReproduceRequest) -> list[Part]:
    """The runs behind a request, checked as far as it can be without bags.

    Raises:
        UnknownNameError: an item, dataset, or preset that does not exist.
        InputError: a dataset or split file that no item asked for is about, or an item without its
            datasets.
    """
    everything = "all" in request.items
    items = [
        find_item(name) for name in (item_names() if everything else dict.fromkeys(request.items))
    ]
    asked = {text: find_dataset(text) for text in request.datasets}
    splits = _split_files(request)
    found = [(item, text) for item in items for text in _datasets(item, asked)]
    if everything and not asked:
        found = [(item, text) for item, text in found if find_dataset(text).generator is None]
    parts = [_part(item, text, request, splits) for item, text in found]
    bases = {_base(text) for _, text in found}
    problems = [
        f"no item that was asked for is about {text}" for text in asked if _base(text) not in bases
    ]
    if not everything:
        missing = [item for item in items if item not in [each for each, _ in found]]
        problems += [
            f"{item.name} is about {', '.join(item.datasets)}, or a twin of it" for item in missing
        ]
    slugs = {part.spec.slug for part in parts}
    problems += [
        f"{path}: no dataset asked for is {slug}"
        for slug, path in splits.items()
        if slug not in slugs
    ]
    if problems:
        raise InputError("what is to be reproduced", problems, "See mil-bench reproduce --help.")
    return parts


def _base(text: str) -> str:
    return text.partition(":")[0]


def _datasets(item: Item, asked: Mapping[str, DatasetSpec]) -> list[str]:
    """The item's datasets, or those asked for in their place; the item's own settings stay."""
    if not asked:
        return list(item.datasets)
    return [
        _with_settings(text, _settings(own))
        for own in item.datasets
        for text, spec in asked.items()
        if _base(own) in (spec.name, spec.simulates)
    ]


def _settings(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.partition(":")[2].split(",") if pair)


def _with_settings(text: str, more: Mapping[str, str]) -> str:
    settings = {**_settings(text), **more}
    return (
        _base(text)
        + (":" if settings else "")
        + ",".join(f"{name}={value}" for name, value in settings.items())
    )


def _split_files(request: ReproduceRequest) -> dict[str, Path]:
    """Slug of a dataset to its split file."""
    files: dict[str, Path] = {}
    for path in request.splits:
        slug = read_split_file(path).dataset
        if slug in files:
            problem = f"{files[slug]} and {path} are both splits of {slug}"
            raise InputError(
                "what is to be reproduced", [problem], "Give one split file a dataset."
            )
        files[slug] = path
    return files


def _part(item: Item, text: str, request: ReproduceRequest, splits: Mapping[str, Path]) -> Part:
    name, epochs = text, request.epochs
    if request.preset == "quick" and find_dataset(text).simulates:
        text = _with_settings(_with_settings(_base(text), QUICK_TWIN), _settings(text))
        epochs = epochs or QUICK_EPOCHS
    spec = find_dataset(text)
    file = splits.get(spec.slug)
    run = RunRequest(
        dataset=text,
        methods=item.rows,
        protocol=None if file else item.protocol,
        splits=file,
        seeds=item.seeds,
        preset=request.preset,
        epochs=epochs,
        tune=request.tune,
    )
    return Part(item, name, spec, run)


def reproduce(parts: list[Part], setup: Setup) -> Iterator[PartResult]:
    """Run all parts that can be run, one after another; all of them are checked before the first trains.

    Args:
        parts: from ``parts_of``.
        setup: where and how they run.

    Raises:
        InputError: a setting of a row cannot be, or a split file does not fit its dataset.
    """
    prepared: list[Prepared | str] = []
    for part in parts:
        try:
            prepared.append(prepare(part.request, setup))
        except (MissingFeaturesError, SplitError) as error:
            prepared.append(str(error))
    for part, ready in zip(parts, prepared, strict=True):
        yield (
            PartResult(part, None, ready)
            if isinstance(ready, str)
            else PartResult(part, execute(ready, setup))
        )
