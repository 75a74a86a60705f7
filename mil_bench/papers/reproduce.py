"""Run what the protocol files of a paper ask for, with the ordinary runner.

Results are shared: items with the same trainings train them once. A real dataset without packed
features is left out, with what is missing; a simulated dataset takes its place only if the user
names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench.api import execute, prepare
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.errors import InputError, MissingFeaturesError, SplitError
from mil_bench.papers.items import Item, find_item, item_names
from mil_bench.papers.values_file import read_values, with_values
from mil_bench.planning.request import RunRequest
from mil_bench.split_files.formats.own import read_split_file
from mil_bench.wording import split_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.papers.request import ReproduceRequest
    from mil_bench.planning.asked import Asked
    from mil_bench.planning.prepare import Prepared
    from mil_bench.running.setup import Setup
    from mil_bench.runs.result import RunResult

QUICK_SIMULATED: Mapping[str, str] = {"slides": "120", "rows": "15"}
"""Settings of a simulated dataset at the quick preset, unless they are given. Like ``QUICK_EPOCHS``
they are chosen by cost alone and are the same for every method: TransMIL takes about 30 ms per
slide on one core, and everything is to end within 15 minutes on two."""
QUICK_EPOCHS = 20
"""Epochs on a simulated dataset at the quick preset."""
_WHAT = "what is to be reproduced"


@dataclass(frozen=True)
class Part:
    """One item on one dataset: the run that it asks for.

    Args:
        item: what is reproduced.
        name: of the dataset, as the item or the user gives it.
        spec: its card.
        request: the run, with the settings of the preset.
    """

    item: Item
    name: str
    spec: DatasetSpec
    request: RunRequest


@dataclass(frozen=True, eq=False)
class PartResult:
    """The result of a part, or the reason why it has none."""

    part: Part
    result: RunResult | None
    reason: str = ""


def parts_of(request: ReproduceRequest) -> list[Part]:
    """The runs behind a request, checked as far as possible without bags.

    Raises:
        UnknownNameError: an item, dataset, or preset that does not exist.
        InputError: a dataset, split file or file of published values that belongs to no requested
            item, an item without its datasets, or errors in a file.
    """
    everything = "all" in request.items
    items = [
        find_item(name) for name in (item_names() if everything else dict.fromkeys(request.items))
    ]
    if request.published is not None:
        items = _with_published(items, request.published)
    given = {text: find_dataset(text) for text in request.datasets}
    splits = _split_files(request)
    pairs = [(item, text) for item in items for text in _datasets(item, given)]
    if everything and not given:
        pairs = [(item, text) for item, text in pairs if find_dataset(text).generator is None]
    parts = [_part(item, text, request, splits) for item, text in pairs]
    bases = {_base(text) for _, text in pairs}
    problems = [f"no requested item is about {text}" for text in given if _base(text) not in bases]
    if not everything:
        with_datasets = [item for item, _ in pairs]
        problems += [
            f"{item.name} is about {', '.join(item.datasets)}, or simulated data like it"
            for item in items
            if item not in with_datasets
        ]
    slugs = {part.spec.slug for part in parts}
    problems += [
        f"{path}: it is a split of {slug}, which no requested item is about"
        for slug, path in splits.items()
        if slug not in slugs
    ]
    if problems:
        raise InputError(_WHAT, problems, "See mil-bench reproduce --help.")
    return parts


def _base(text: str) -> str:
    return split_settings(text)[0]


def _datasets(item: Item, given: Mapping[str, DatasetSpec]) -> list[str]:
    """The item's datasets, or the given ones in their place, with the settings of both."""
    if not given:
        return list(item.datasets)
    return [
        _with_settings(text, split_settings(dataset)[1])
        for dataset in item.datasets
        for text, spec in given.items()
        if _base(dataset) in (spec.name, spec.simulates)
    ]


def _with_settings(text: str, more: Mapping[str, str]) -> str:
    base, settings = split_settings(text)
    words = ",".join(f"{name}={value}" for name, value in {**settings, **more}.items())
    return f"{base}:{words}" if words else base


def _with_published(items: list[Item], path: Path) -> list[Item]:
    values = read_values(path, map(find_item, item_names()))
    names = [item.name for item in items]
    if not values.keys() & set(names):
        problem = f"no line is about {', '.join(names)}; its lines are about {', '.join(values)}"
        raise InputError(f"published values {path}", [problem], "Give values of a requested item.")
    return [with_values(item, values.get(item.name, ())) for item in items]


def _split_files(request: ReproduceRequest) -> dict[str, Path]:
    """Slug of a dataset to its split file."""
    files: dict[str, Path] = {}
    for path in request.splits:
        slug = read_split_file(path).dataset
        if slug in files:
            problem = f"{files[slug]} and {path} are both splits of {slug}"
            raise InputError(_WHAT, [problem], "Give one split file per dataset.")
        files[slug] = path
    return files


def _part(item: Item, text: str, request: ReproduceRequest, splits: Mapping[str, Path]) -> Part:
    name, epochs = text, request.epochs
    if request.preset == "quick" and find_dataset(text).simulates:
        base, settings = split_settings(text)
        text = _with_settings(_with_settings(base, QUICK_SIMULATED), settings)
        epochs = epochs or QUICK_EPOCHS
    spec = find_dataset(text)
    file = splits.get(spec.slug)
    run = RunRequest(
        dataset=text,
        methods=item.rows,
        protocol=None if file else item.protocol,
        splits=file,
        allow_missing=request.allow_missing,
        seeds=item.seeds,
        preset=request.preset,
        epochs=epochs,
        tune=request.tune,
    )
    return Part(item, name, spec, run)


def reproduce(parts: list[Part], setup: Setup, asked: Asked) -> Iterator[PartResult]:
    """Run all parts that can be run, one after another; all are checked before the first trains.

    Args:
        parts: from ``parts_of``.
        setup: where and how they run.
        asked: on which metric, and with what margin, the questions are answered.

    Raises:
        InputError: a row has an impossible setting, a split file does not fit its dataset, or the
            metric does not.
    """
    prepared: list[Prepared | str] = []
    for part in parts:
        try:
            planned = prepare(part.request, setup)
            asked.require(planned.plan)
            prepared.append(planned)
        except (MissingFeaturesError, SplitError) as error:
            prepared.append(str(error))
    for part, plan_or_reason in zip(parts, prepared, strict=True):
        yield (
            PartResult(part, None, plan_or_reason)
            if isinstance(plan_or_reason, str)
            else PartResult(part, execute(plan_or_reason, setup, asked))
        )
