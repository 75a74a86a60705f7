"""Packing: one feature file a slide and a label sheet become one bag store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mil_bench.bags.store import BagEntry, BagStore, StoreHeader
from mil_bench.datasets.catalogue import store_path
from mil_bench.datasets.labels import LabelTable, parse_label_table
from mil_bench.errors import InputError
from mil_bench.intake.folders import FoundFile, find_feature_files, named_as_labelled
from mil_bench.intake.partial_store import PackedRows, PartialStore, open_partial
from mil_bench.intake.readers import FeatureFile
from mil_bench.intake.row_packing import Opened, RowJob, Spread, open_one, pack_rows, spread_over

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.progress import Watch

_REMEDY = "Nothing was packed. Correct these, or take the files out of the folder, and pack again."
_SHOWN = 5


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Args:
        store: the new store.
        formats: number of files by format.
        without_features: labelled slides that have no file.
        empty: slides that are left out: their file has no instances, as where a tool found no
            tissue.
        without_coords: files without coordinates, if others have them; the store has none then.
        without_instance_labels: files without labels of their instances, likewise.
        resumed: slides whose rows an interrupted call had written.
    """

    store: BagStore
    formats: Counter[str]
    without_features: tuple[str, ...]
    empty: tuple[str, ...]
    without_coords: int
    without_instance_labels: int
    resumed: int


def pack(
    folder: Path, spec: DatasetSpec, labels: Path, data_dir: Path, watch: Watch, workers: int = 1
) -> Packed:
    """Pack a folder of feature files; every problem of the input is found before the user is told.

    A call that was interrupted, even killed, has left a hidden file, and the same call goes on from
    it: no slide is packed twice unless its file has another size or time by then.

    Args:
        folder: one file a slide, or the output folder of a tool (see ``find_feature_files``).
        spec: the dataset's card.
        labels: the label sheet.
        data_dir: folder of the stores.
        watch: wraps the iterations over the files.
        workers: number of processes that read and write; 1 is this one.

    Raises:
        InputError: with all problems; no store is left behind.
        StorageError: the disk refuses, or another process packs the same dataset.
    """
    target = store_path(spec, data_dir)
    if spec.generator is not None:
        raise InputError(
            f"packing {spec.name}", ["it is generated, nothing is to be packed"], "Run it as it is."
        )
    _refuse_existing(target, spec)
    sheet, found, problems = _look(folder, spec, labels)
    with spread_over(workers) as spread:
        opened = list(watch(spread(open_one, found), len(found), "looking at the files"))
        usable, empty, more = _usable(opened, sheet)
        files = [each.file for each in usable if each.file is not None]
        problems += more + _mixed(files)
        if empty and not usable:
            problems.append(
                f"{folder}: none of its {len(empty)} slides that can be read has any instances"
            )
        if sheet is None or problems:
            jobs = [RowJob(each) for each in usable]
            problems += _problems(
                watch(spread(pack_rows, jobs), len(jobs), "looking for more problems")
            )
            raise InputError(f"packing {folder}", problems, _REMEDY)
        with open_partial(
            target, _header(spec, sheet, files), {file.slide: file.rows for file in files}
        ) as partial:
            problems, resumed = _fill(partial, usable, sheet, watch, spread)
        if problems:
            raise InputError(f"packing {folder}", problems, _REMEDY)
    present = {file.slide for file in files} | set(empty)
    return Packed(
        store=BagStore(target),
        formats=Counter(file.format for file in files),
        without_features=tuple(slide for slide in sheet.rows if slide not in present),
        empty=tuple(empty),
        without_coords=_without([file.has_coords for file in files]),
        without_instance_labels=_without([file.has_instance_labels for file in files]),
        resumed=resumed,
    )


def _without(has: Sequence[bool]) -> int:
    """How many lack what others have."""
    return has.count(False) if any(has) else 0


def _look(
    folder: Path, spec: DatasetSpec, labels: Path
) -> tuple[LabelTable | None, list[FoundFile], list[str]]:
    """The sheet, the files, and what is wrong so far; a fault of one does not hide those of the other."""
    sheet, found, problems = None, [], []
    try:
        sheet, faults = parse_label_table(labels, spec)
        problems += [f"{labels}: {fault}" for fault in faults]
    except InputError as error:
        problems += [f"{labels}: {fault}" for fault in error.advised()]
    try:
        found = find_feature_files(folder)
    except InputError as error:
        problems += error.advised()
    if sheet is None:
        return None, found, problems
    found, ambiguous = named_as_labelled(found, sheet.named)
    return sheet, found, problems + ambiguous


def _refuse_existing(target: Path, spec: DatasetSpec) -> None:
    if target.exists():
        problem = f"{target} exists; results refer to it, so it is not replaced"
        raise InputError(
            f"packing {spec.name}", [problem], "Move it away, or name another folder with --data."
        )


def _fill(
    partial: PartialStore, usable: Sequence[Opened], sheet: LabelTable, watch: Watch, spread: Spread
) -> tuple[list[str], int]:
    """Write rows and index; returns what is wrong with the rows, and how many slides were there already."""
    jobs, first, resumed = [], 0, 0
    for each in usable:
        file = each.file
        assert file is not None
        job = RowJob(each, first, sheet.rows[file.slide].label, partial.place)
        stamp, claimed = partial.claimed.get(file.slide, (None, None))
        if stamp == job.stamp:
            job, resumed = replace(job, claimed=claimed), resumed + 1
        jobs.append(job)
        first += file.rows
    done = list(watch(spread(pack_rows, jobs), len(jobs), "packing"))
    problems = _problems(done)
    if problems:
        partial.discard()
    else:
        partial.complete([_entry(job, rows, sheet) for job, rows in zip(jobs, done, strict=True)])
    return problems, resumed


def _problems(results: Iterable[PackedRows | tuple[str, ...]]) -> list[str]:
    return [
        problem for result in results if not isinstance(result, PackedRows) for problem in result
    ]


def _entry(job: RowJob, rows: PackedRows, sheet: LabelTable) -> BagEntry:
    file = job.opened.file
    assert file is not None
    row = sheet.rows[file.slide]
    named = file.slide, row.label, row.group, row.split, row.centre
    return BagEntry(*named, file.rows, rows.patch_size, rows.digests)


def _usable(
    opened: Sequence[Opened], sheet: LabelTable | None
) -> tuple[list[Opened], list[str], list[str]]:
    """The files that can be packed, the slides without instances, and what is wrong with names and shapes of all."""
    problems, usable, empty = [], [], []
    seen: dict[str, Path] = {}
    for each in opened:
        path, slide = each.found.path, each.found.slide
        if slide.lower() in seen:
            problems.append(f"{path} and {seen[slide.lower()]} are the same slide")
        seen.setdefault(slide.lower(), path)
        if sheet is not None and slide not in sheet.named:
            hint = sheet.near_miss(slide)
            problems.append(
                f"{path}: slide '{slide}' has no label in the sheet{hint and f'; {hint}'}"
            )
        problems += each.problems
        file = each.file
        if file is None:
            continue
        if not file.rows:
            empty.append(slide)
        elif not file.width:
            problems.append(f"{path}: its {file.rows} instances have no features")
        else:
            usable.append(each)
    return usable, empty, problems


def _mixed(files: list[FeatureFile]) -> list[str]:
    """Widths, types and encoders must be one."""
    problems = []
    for what, of in (
        ("feature widths", lambda f: str(f.width)),
        ("number types", lambda f: f.dtype),
        ("encoders", lambda f: f.encoder or "unnamed"),
        ("units of coordinates", lambda f: f.coords_unit),
    ):
        kinds: dict[str, list[str]] = {}
        for file in files:
            if not of(file):
                continue  # no coordinates
            kinds.setdefault(of(file), []).append(str(file.path))
        if len(kinds) > 1:
            most, *others = sorted(kinds.items(), key=lambda item: -len(item[1]))
            listed = "; ".join(f"{kind} in {_first(paths)}" for kind, paths in others)
            count = f"{len(most[1])} file{'s' * (len(most[1]) > 1)}"
            problems.append(
                f"several {what}: {most[0]} in {count} such as {most[1][0]}, but {listed}"
            )
    return problems


def _first(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more


def _header(spec: DatasetSpec, sheet: LabelTable, files: list[FeatureFile]) -> StoreHeader:
    formats = ", ".join(sorted({file.format for file in files}))
    encoder = files[0].encoder or "encoder not named"
    return StoreHeader(
        dataset=spec.slug,
        hierarchy=spec.hierarchy,
        rows=sum(file.rows for file in files),
        width=files[0].width,
        dtype=files[0].dtype,
        origin=f"{formats}, {encoder}",
        group_name=sheet.group_name,
        coords_unit=files[0].coords_unit if all(file.has_coords for file in files) else "",
        has_instance_labels=all(file.has_instance_labels for file in files),
    )
