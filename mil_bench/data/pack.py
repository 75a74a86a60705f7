"""Packing: one feature file a slide and a label sheet become one bag store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mil_bench.data.bag import Bag
from mil_bench.data.catalogue import store_path
from mil_bench.data.labels import LabelSheet, SlideLabel, parse_label_sheet
from mil_bench.data.readers import FeatureFile, RawBag, open_features
from mil_bench.data.spec import DatasetSpec
from mil_bench.data.store import BagStore, StoreHeader, create_store
from mil_bench.errors import InputError

# CLAM writes each slide twice; the .h5 has coordinates, so it comes first.
_SUBFOLDERS = ("h5_files", "pt_files")
_ENDINGS = (".h5", ".pt")
_REMEDY = "Nothing was packed. Correct these and pack again."


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Args:
        store: the new store.
        formats: number of files by format.
        without_features: labelled slides that have no file.
        without_group: slides whose group is blank in a sheet that has groups.
    """

    store: BagStore
    formats: Counter[str]
    without_features: tuple[str, ...]
    without_group: tuple[str, ...]


def pack(
    folder: Path,
    spec: DatasetSpec,
    labels: Path,
    data_dir: Path,
    watch: Callable[[Iterable[FeatureFile], int], Iterable[FeatureFile]],
) -> Packed:
    """Pack a folder of feature files; every problem of the input is found before the user is told.

    Args:
        folder: one file a slide, named by slide id; or CLAM's feature folder, which has them in ``h5_files``.
        spec: the dataset's card.
        labels: the label sheet.
        data_dir: folder of the stores.
        watch: wraps the iteration over the files, given them and their number (a progress bar).

    Raises:
        InputError: with all problems; no store is left behind.
    """
    target = store_path(spec, data_dir)
    if spec.generator is not None:
        raise InputError(f"packing {spec.name}", ["it is generated, nothing is to be packed"], "Run it as it is.")
    if target.exists():
        problem = f"{target} exists; results refer to it, so it is not replaced"
        raise InputError(f"packing {spec.name}", [problem], "Move it away, or name another folder with --data.")
    sheet = None
    try:
        sheet, faults = parse_label_sheet(labels, spec)
    except InputError as error:
        faults = list(error.problems)
    problems = [f"{labels}: {fault}" for fault in faults]
    paths, more = _feature_paths(folder)
    problems += more
    files, more = _open_all(paths, sheet)
    problems += more + _mixed(files)
    if sheet is None or problems:
        for file in watch(files, len(files)):
            problems += _read(file)[1]
        raise InputError(f"packing {folder}", problems, _REMEDY)
    _write(target, _header(spec, sheet, files), files, sheet, watch)
    packed = {file.path.stem for file in files}
    absent = tuple(slide for slide in sheet.rows if slide not in packed)
    return Packed(BagStore(target), Counter(file.format for file in files), absent, sheet.without_group)


def _open_all(paths: Sequence[Path], sheet: LabelSheet | None) -> tuple[list[FeatureFile], list[str]]:
    """The files that can be packed, and what is wrong with names and shapes of all."""
    problems, files = [], []
    seen: dict[str, Path] = {}
    for path in paths:
        slide = path.stem
        if slide.lower() in seen:
            problems.append(f"{path.name} and {seen[slide.lower()].name} are the same slide")
        seen.setdefault(slide.lower(), path)
        if sheet is not None and slide not in sheet.named:
            problems.append(f"{path.name}: slide '{slide}' has no label in the sheet")
        try:
            file = open_features(path)
        except InputError as error:
            problems += error.problems
            continue
        if file.rows == 0 or file.width == 0:
            problems.append(f"{path.name}: an empty bag, no {'features' if file.rows else 'instances'}")
        elif file.dtype not in ("float16", "float32"):
            problems.append(f"{path.name}: features are {file.dtype}, expected float16 or float32")
        else:
            files.append(file)
    return files, problems


def _feature_paths(folder: Path) -> tuple[list[Path], list[str]]:
    if not folder.is_dir():
        return [], [f"{folder}: it is not a folder"]
    for place in (folder, *(folder / name for name in _SUBFOLDERS)):
        paths = sorted(p for p in place.glob("*") if p.suffix in _ENDINGS) if place.is_dir() else []
        if paths:
            return paths, []
    return [], [f"{folder}: no .h5 or .pt file in it, nor in its folder {' or '.join(_SUBFOLDERS)}"]


def _mixed(files: list[FeatureFile]) -> list[str]:
    """Widths, types and encoders must be one."""
    problems = []
    for what, of in (
        ("feature widths", lambda f: str(f.width)),
        ("number types", lambda f: f.dtype),
        ("encoders", lambda f: f.encoder or "unnamed"),
    ):
        kinds: dict[str, list[str]] = {}
        for file in files:
            kinds.setdefault(of(file), []).append(file.path.name)
        if len(kinds) > 1:
            most, *others = sorted(kinds.items(), key=lambda item: -len(item[1]))
            listed = "; ".join(f"{kind} in {', '.join(names)}" for kind, names in others)
            problems.append(f"several {what}: {most[0]} in {len(most[1])} files such as {most[1][0]}, but {listed}")
    return problems


def _header(spec: DatasetSpec, sheet: LabelSheet, files: list[FeatureFile]) -> StoreHeader:
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
        coords_unit="level-0 pixels" if all(file.has_coords for file in files) else "",
    )


def _write(
    target: Path,
    header: StoreHeader,
    files: list[FeatureFile],
    sheet: LabelSheet,
    watch: Callable[[Iterable[FeatureFile], int], Iterable[FeatureFile]],
) -> None:
    problems: list[str] = []
    with create_store(target, header) as writer:
        for file in watch(files, len(files)):
            raw, more = _read(file)
            problems += more
            if raw is not None and not problems:
                writer.add(_bag(file, raw, sheet.rows[file.path.stem]))
        if problems:
            raise InputError(f"packing {target.stem}", problems, _REMEDY)


def _read(file: FeatureFile) -> tuple[RawBag | None, Sequence[str]]:
    """A file's rows, and what is wrong with them."""
    try:
        raw = file.read()
    except InputError as error:
        return None, error.problems
    problems = []
    for what, values in (("features", raw.features), ("coordinates", raw.coords)):
        broken = 0 if values is None else int(np.count_nonzero(~np.isfinite(values).all(1)))
        if broken:
            problems.append(f"{file.path.name}: {broken} of {file.rows} instances hold NaN or infinite {what}")
    return raw, problems


def _bag(file: FeatureFile, raw: RawBag, row: SlideLabel) -> Bag:
    return Bag(file.path.stem, row.label, row.group, raw.features, raw.coords, raw.patch_size, split=row.split)
