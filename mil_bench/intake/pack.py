"""Packing: one feature file per slide and a label table become one bag store."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mil_bench.bags.store import BagEntry, BagStore, StoreHeader
from mil_bench.datasets.catalogue import store_path
from mil_bench.datasets.labels import LabelTable, parse_label_table
from mil_bench.errors import InputError
from mil_bench.intake.folders import FoundFile, find_feature_files, named_as_labelled
from mil_bench.intake.partial_store import PartialStore, open_partial
from mil_bench.intake.readers import AS_USUAL, Reading
from mil_bench.intake.row_packing import (
    OpenedFile,
    RowJob,
    Spread,
    open_one,
    pack_rows,
    parted,
    row_problems,
    spread_over,
)
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.intake.readers import FeatureFile
    from mil_bench.progress import Watch

_REMEDY = "Nothing was packed. Correct these, or take the files out of the folder, and pack again."


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Args:
        store: the new store.
        formats: number of files per format.
        without_features: labelled slides that have no file.
        unlabelled: slides that are left out because their label is missing in the table.
        notes: what was noticed in the label table, one sentence each.
        empty: slides that are left out because their file has no instances, as if a tool found no
            tissue.
        without_coords: files without coordinates, if others have them; the store has none then.
        without_instance_labels: files without labels of their instances, likewise.
        doubles: files with float64 features, of which the store has float32.
        resumed: slides whose rows an interrupted call had written.
    """

    store: BagStore
    formats: Counter[str]
    without_features: tuple[str, ...]
    unlabelled: tuple[str, ...]
    notes: tuple[str, ...]
    empty: tuple[str, ...]
    without_coords: int
    without_instance_labels: int
    doubles: int
    resumed: int


def pack(
    folder: Path,
    spec: DatasetSpec,
    labels: Path,
    data_dir: Path,
    watch: Watch,
    workers: int = 1,
    how: Reading = AS_USUAL,
    allow_missing: bool = False,
) -> Packed:
    """Pack a folder of feature files; all problems of the input are reported together.

    A call that was interrupted, even killed, leaves a hidden file, and the same call continues from
    it: no slide is packed twice unless the size or time of its file has changed.

    Args:
        folder: one file per slide, or the output folder of a tool (see ``find_feature_files``).
        spec: the dataset's card.
        labels: the label table.
        data_dir: folder of the stores.
        watch: wraps the iterations over the files.
        workers: number of processes that read and write; 0: this one, which a damaged file can then
            hold for ever.
        how: how the files are read.
        allow_missing: leave slides out whose label is missing in the table.

    Raises:
        InputError: with all problems; no store is left behind.
        StorageError: the disk refuses, or another process packs the same dataset.
    """
    target = store_path(spec, data_dir)
    if spec.generator is not None:
        raise InputError(
            f"packing {spec.name}",
            ["it is generated, so there is nothing to pack"],
            "Use it in a run as it is.",
        )
    _refuse_existing(target, spec)
    table, found, problems = _look(folder, spec, labels, allow_missing)
    with spread_over(workers) as spread:
        opened, unreadable = parted(
            watch(
                spread(functools.partial(open_one, how=how), found), len(found), "opening the files"
            )
        )
        usable, empty, featureless = _with_instances(opened)
        files = [file.file for file in usable]
        problems += [*_name_problems(found, table), *unreadable, *featureless, *_mixed(files)]
        if empty and not usable:
            problems.append(f"{folder}: none of its {len(empty)} readable slides has any instances")
        if table is None or problems:
            looked = watch(spread(row_problems, usable), len(usable), "looking for more problems")
            problems += [problem for lines in looked for problem in lines]
            raise InputError(f"packing {folder}", problems, _REMEDY)
        sizes = {file.slide: file.rows for file in files}
        with open_partial(target, _header(spec, table, files), sizes) as partial:
            problems, resumed = _fill(partial, usable, table, watch, spread)
        if problems:
            raise InputError(f"packing {folder}", problems, _REMEDY)
    present = {file.slide for file in files} | set(empty)
    return Packed(
        store=BagStore(target),
        formats=Counter(file.format for file in files),
        without_features=tuple(slide for slide in table.slides if slide not in present),
        unlabelled=tuple(sorted(table.unlabelled)),
        notes=table.notes,
        empty=tuple(empty),
        without_coords=_without([file.has_coords for file in files]),
        without_instance_labels=_without([file.has_instance_labels for file in files]),
        doubles=sum(file.is_double for file in files),
        resumed=resumed,
    )


def _without(has: Sequence[bool]) -> int:
    """How many lack what others have."""
    return has.count(False) if any(has) else 0


def _look(
    folder: Path, spec: DatasetSpec, labels: Path, allow_missing: bool
) -> tuple[LabelTable | None, list[FoundFile], list[str]]:
    """The label table and the files, and the problems of both."""
    table, found, problems = None, [], []
    try:
        table, faults = parse_label_table(labels, spec, allow_missing)
        problems += [f"{labels}: {fault}" for fault in faults]
    except InputError as error:
        problems += [f"{labels}: {fault}" for fault in error.advised()]
    try:
        found = find_feature_files(folder)
    except InputError as error:
        problems += error.advised()
    if table is None:
        return None, found, problems
    found, ambiguous = named_as_labelled(found, table.named)
    found = [file for file in found if file.slide not in table.unlabelled]
    if not found and table.unlabelled and not problems:
        problems.append(f"{labels}: no slide with a feature file has a label")
    return table, found, problems + ambiguous


def _refuse_existing(target: Path, spec: DatasetSpec) -> None:
    if target.exists():
        problem = f"{target} exists; results refer to it, so it is not replaced"
        raise InputError(
            f"packing {spec.name}", [problem], "Move it away, or name another folder with --data."
        )


def _fill(
    partial: PartialStore,
    usable: Sequence[OpenedFile],
    table: LabelTable,
    watch: Watch,
    spread: Spread,
) -> tuple[list[str], int]:
    """Write rows and index.

    Returns:
        What is wrong with the rows, and how many slides were already written.
    """
    jobs, first, resumed = [], 0, 0
    for opened in usable:
        file = opened.file
        job = RowJob(opened, first, table.slides[file.slide].label, partial.target)
        stamp, claimed = partial.claimed.get(file.slide, (None, None))
        if stamp == job.stamp:
            job, resumed = replace(job, claimed=claimed), resumed + 1
        jobs.append(job)
        first += file.rows
    packed, problems = parted(watch(spread(pack_rows, jobs), len(jobs), "packing"))
    if problems:
        partial.discard()
        return problems, resumed
    files = [opened.file for opened in usable]
    partial.complete(
        [
            BagEntry(table.slides[file.slide], file.rows, rows.patch_size, rows.digests)
            for file, rows in zip(files, packed, strict=True)
        ]
    )
    return [], resumed


def _name_problems(found: Sequence[FoundFile], table: LabelTable | None) -> list[str]:
    """Slides with two files, and slides without a label."""
    problems = []
    paths: dict[str, Path] = {}
    for file in found:
        slide = file.slide
        if slide.lower() in paths:
            problems.append(f"{file.path} and {paths[slide.lower()]} are the same slide")
        paths.setdefault(slide.lower(), file.path)
        if table is not None and slide not in table.named:
            hint = table.near_miss(slide)
            problems.append(
                f"{file.path}: slide '{slide}' is not in the label table{hint and f'; {hint}'}"
            )
    return problems


def _with_instances(
    opened: Sequence[OpenedFile],
) -> tuple[list[OpenedFile], list[str], list[str]]:
    """The files that can be packed, the slides without instances, and what lacks features."""
    usable, empty, problems = [], [], []
    for candidate in opened:
        file = candidate.file
        if not file.rows:
            empty.append(file.slide)
        elif not file.width:
            problems.append(f"{file.path}: its {file.rows} instances have no features")
        else:
            usable.append(candidate)
    return usable, empty, problems


def _mixed(files: list[FeatureFile]) -> list[str]:
    """What should be the same in all files and is not."""
    problems = []
    for what, values in (
        ("feature widths", [str(file.width) for file in files]),
        ("number types", [file.dtype for file in files]),
        ("encoders", [file.encoder or "unnamed" for file in files]),
        ("units of coordinates", [file.coords_unit for file in files]),
    ):
        kinds: dict[str, list[str]] = {}
        for value, file in zip(values, files, strict=True):
            if value:  # files without coordinates have no unit
                kinds.setdefault(value, []).append(str(file.path))
        if len(kinds) > 1:
            (most, paths), *others = sorted(kinds.items(), key=lambda item: -len(item[1]))
            listed = "; ".join(f"{kind} in {first_names(paths)}" for kind, paths in others)
            count = plural(len(paths), "file")
            problems.append(f"several {what}: {most} in {count} such as {paths[0]}, but {listed}")
    return problems


def _header(spec: DatasetSpec, table: LabelTable, files: list[FeatureFile]) -> StoreHeader:
    formats = ", ".join(sorted({file.format for file in files}))
    encoder = files[0].encoder or "encoder not named"
    return StoreHeader(
        dataset=spec.slug,
        hierarchy=spec.hierarchy,
        rows=sum(file.rows for file in files),
        width=files[0].width,
        dtype=files[0].dtype,
        origin=f"{formats}, {encoder}",
        group_name=table.group_name,
        coords_unit=files[0].coords_unit if all(file.has_coords for file in files) else "",
        has_instance_labels=all(file.has_instance_labels for file in files),
    )
