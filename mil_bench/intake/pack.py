"""Packing: one feature file per slide and a label table become one bag store."""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mil_bench.bags.bag import Slide
from mil_bench.bags.index import UNLABELLED
from mil_bench.bags.label_file import read_labels
from mil_bench.bags.layout import BagEntry, StoreHeader
from mil_bench.bags.store import BagStore
from mil_bench.datasets.catalogue import labels_path, on_the_command_line, store_path
from mil_bench.datasets.labels import LabelTable, parse_label_table
from mil_bench.datasets.slide_ids import SlideNames, own_group
from mil_bench.errors import InputError
from mil_bench.intake.file_problems import (
    encoder_problems,
    mixed_kinds,
    names_without_text,
    same_slides,
)
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
        unneeded: slides that are packed and have no label in this table.
        left: number of files that are not packed because the table does not name them.
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
    unneeded: tuple[str, ...]
    left: int
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
    only: bool = False,
    encoder: str = "",
) -> Packed:
    """Pack a folder of feature files; all problems of the input are reported together.

    Slides that the label table does not name are packed too, for label files of other datasets.

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
        allow_missing: leave slides out whose label is missing in the table, and those of the table
            that have no file.
        only: pack only slides that have a label.
        encoder: name of the encoder, for a store beside those of others; "" for the only store. If
            the files name theirs, it must be the same.

    Raises:
        InputError: with all problems; no store is left behind.
        StorageError: the disk refuses, or another process packs the same dataset.
    """
    target = store_path(spec, data_dir, encoder)
    if spec.generator is not None:
        raise InputError(
            f"packing {spec.name}",
            ["it is generated, so there is nothing to pack"],
            "Use it in a run as it is.",
        )
    _refuse_name(target, spec, data_dir, encoder)
    table, found, problems = _look(folder, spec, labels, allow_missing)
    everything = len(found)
    if only and table is not None:
        found = [file for file in found if file.slide in table.slides]
    with spread_over(workers) as spread:
        opened, unreadable = parted(
            watch(
                spread(functools.partial(open_one, how=how), found), len(found), "opening the files"
            )
        )
        usable, empty, featureless = _with_instances(opened)
        files = [file.file for file in usable]
        problems += [*names_without_text(found), *same_slides(found), *unreadable, *featureless]
        problems += [*mixed_kinds(files), *encoder_problems(files, encoder)]
        if empty and not usable:
            problems.append(f"{folder}: none of its {len(empty)} readable slides has any instances")
        if table and not problems and table.slides.keys().isdisjoint(file.slide for file in files):
            problems.append(f"{labels}: no slide with a feature file has a label")
        if table is None or problems:
            looked = watch(spread(row_problems, usable), len(usable), "looking for more problems")
            problems += [problem for lines in looked for problem in lines]
            raise InputError(f"packing {folder}", problems, _REMEDY)
        sizes = {file.slide: file.rows for file in files}
        header = _header(spec, table, files, encoder)
        with open_partial(target, header, sizes) as partial:
            problems, resumed = _fill(partial, usable, table, watch, spread)
        if problems:
            raise InputError(f"packing {folder}", problems, _REMEDY)
    present = {file.slide for file in files} | set(empty)
    return Packed(
        store=BagStore(target),
        formats=Counter(file.format for file in files),
        without_features=tuple(slide for slide in table.slides if slide not in present),
        unneeded=tuple(file.slide for file in files if file.slide not in table.slides),
        left=everything - len(found),
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
    problems += ambiguous
    present = {file.slide for file in found}
    if found and not allow_missing:
        names = SlideNames(present)
        for slide in table.slides:
            if slide not in present:
                near = names.near_miss(slide, "the folder")
                rest = near or "--allow-missing leaves such slides out"
                problems.append(f"{labels}: slide '{slide}': no feature file; {rest}")
    return table, found, problems


def _refuse_name(target: Path, spec: DatasetSpec, data_dir: Path, encoder: str) -> None:
    """Refuse names of files that are taken, and of encoders that could not be part of one."""
    what, named = f"packing {spec.name}", on_the_command_line(spec.slug)
    if encoder and not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", encoder, re.ASCII):
        problem = f"'{encoder}' is not a name of letters, digits and . _ + -"
        raise InputError("--encoder", [problem], "Give a name such as uni_v1.")
    if target.exists():
        problem = f"{target} exists; results refer to it, so it is not replaced"
        raise InputError(
            what,
            [problem],
            "Move it away, or name another folder with --data. To give its slides other labels: "
            f"mil-bench data label --dataset {named} --labels TABLE. To pack features of another "
            "encoder beside it, name the encoder with --encoder.",
        )
    file = labels_path(spec, data_dir)
    features = read_labels(file).features if file.exists() else spec.name
    if features != spec.name:
        problem = f"according to {file}, its features are those of {features}"
        raise InputError(what, [problem], "Remove that file first, or pack another dataset.")


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
        job = RowJob(opened, first, max(0, _slide(file, table).label), partial.target)
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
            BagEntry(_slide(file, table), file.rows, rows.patch_size, rows.digests)
            for file, rows in zip(files, packed, strict=True)
        ]
    )
    return [], resumed


def _slide(file: FeatureFile, table: LabelTable) -> Slide:
    """What the table says of a file's slide."""
    return table.slides.get(file.slide) or Slide(file.slide, UNLABELLED, own_group(file.slide))


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


def _header(
    spec: DatasetSpec, table: LabelTable, files: list[FeatureFile], encoder: str
) -> StoreHeader:
    formats = ", ".join(sorted({file.format for file in files}))
    named = files[0].encoder or encoder
    return StoreHeader(
        dataset=spec.slug,
        hierarchy=spec.hierarchy,
        rows=sum(file.rows for file in files),
        width=files[0].width,
        dtype=files[0].dtype,
        origin=f"{formats}, {named or 'encoder not named'}",
        group_name=table.group_name,
        coords_unit=files[0].coords_unit if all(file.has_coords for file in files) else "",
        has_instance_labels=all(file.has_instance_labels for file in files),
        encoder=encoder or named,
        without_features=len(table.slides.keys() - {file.slide for file in files}),
    )
