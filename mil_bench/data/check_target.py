"""What a person points ``data check`` at, opened: its bags, and what can be told before the first one is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mil_bench.data.bag_sources import BagSource, files_source, npz_source, store_source
from mil_bench.data.catalogue import find_dataset, open_store
from mil_bench.data.check import Finding, some
from mil_bench.data.labels import LabelSheet, read_label_sheet
from mil_bench.data.readers import FeatureFile, find_feature_files
from mil_bench.data.row_packing import open_one
from mil_bench.data.spec import DatasetSpec
from mil_bench.data.store import BagStore
from mil_bench.data.watch import Watch
from mil_bench.errors import InputError


@dataclass(frozen=True)
class CheckTarget:
    """Bags to look through.

    Args:
        source: the bags.
        groups: group of each slide; each slide its own where groups are unknown.
        expected: slides of each class as the dataset's card expects them, () where it does not say.
        findings: what was noticed so far.
    """

    source: BagSource
    groups: tuple[str, ...]
    expected: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()


def open_target(
    target: str, spec: DatasetSpec | None, labels: Path | None, data_dir: Path, watch: Watch
) -> CheckTarget:
    """Open a folder of feature files, a packed dataset or a bag file.

    Args:
        target: the folder, the file (``.npz`` or a bag store), or a dataset's name.
        spec: the dataset's card, or None.
        labels: a label sheet to compare with, or None.
        data_dir: folder of the stores.
        watch: wraps the iteration over a folder's files.

    Raises:
        MilBenchError: nothing of that kind is there, or it cannot be opened.
    """
    path = Path(target)
    if path.is_file() and path.suffix == ".npz":
        source = npz_source(path)
        return CheckTarget(source, source.slides)
    if not path.exists():
        spec = find_dataset(target)
    if labels is not None and spec is None:
        problem = "a label sheet alone does not say which classes there are"
        raise InputError(f"checking {target}", [problem], "Name the dataset's card too: --dataset NAME or CARD.toml.")
    sheet = None if labels is None or spec is None else read_label_sheet(labels, spec)
    if path.is_dir():
        return _folder(path, spec, sheet, watch)
    store = BagStore(path) if path.exists() or spec is None else open_store(spec, data_dir)
    return _store(store, spec, sheet)


def _store(store: BagStore, spec: DatasetSpec | None, sheet: LabelSheet | None) -> CheckTarget:
    frame, fine = store.slides, store.hierarchy.fine
    findings = _compared(tuple(frame["slide"]), sheet)
    if sheet is not None:
        stored = zip(frame["slide"], store.labels, strict=True)
        other = [
            f"{s} ({fine[c]}, in the sheet {fine[sheet.rows[s].label]})" for s, c in stored if _differs(sheet, s, c)
        ]
        if other:
            findings.append(Finding(True, f"{len(other)} slides have another label in the sheet: {some(other)}."))
    source = store_source(str(store.path), store)
    return CheckTarget(source, tuple(frame["group"]), _expected(spec, source), tuple(findings))


def _expected(spec: DatasetSpec | None, source: BagSource) -> tuple[int, ...]:
    """The card's counts, if the bags have its classes and it does not describe generated ones, which may be fewer."""
    known = spec is not None and spec.generator is None and spec.hierarchy.fine == source.classes
    return spec.class_counts if spec is not None and known else ()


def _differs(sheet: LabelSheet, slide: str, label: int) -> bool:
    return slide in sheet.rows and sheet.rows[slide].label != label


def _folder(folder: Path, spec: DatasetSpec | None, sheet: LabelSheet | None, watch: Watch) -> CheckTarget:
    found = find_feature_files(folder)
    opened = [open_one(each) for each in watch(found, len(found), "looking at the files")]
    findings = [Finding(True, problem) for each in opened for problem in each.problems]
    files = [each.file for each in opened if each.file is not None]
    findings += _kinds(files)
    findings += _compared([each.slide for each in found], sheet)
    source = files_source(str(folder), files, sheet, spec.hierarchy.fine if spec else ())
    rows = sheet.rows if sheet else {}
    groups = tuple(rows[file.slide].group if file.slide in rows else file.slide for file in files)
    return CheckTarget(source, groups, _expected(spec, source), tuple(findings))


def _kinds(files: Sequence[FeatureFile]) -> list[Finding]:
    """Encoders and units that must be one in a store."""
    findings = []
    for what, named in (
        ("Encoders", Counter(file.encoder or "not named" for file in files)),
        ("Units of coordinates", Counter(file.coords_unit for file in files if file.coords_unit)),
    ):
        if len(named) > 1:
            kinds = ", ".join(f"{name} in {count} files" for name, count in named.most_common())
            findings.append(Finding(True, f"{what} differ: {kinds}."))
    without = sum(not file.has_coords for file in files)
    if 0 < without < len(files):
        findings.append(Finding(False, f"{without} of {len(files)} files have no coordinates; packing leaves all out."))
    return findings


def _compared(slides: Sequence[str], sheet: LabelSheet | None) -> list[Finding]:
    """Slides without a label and labels without a slide."""
    if sheet is None:
        return []
    hints = {slide: sheet.near_miss(slide) for slide in slides if slide not in sheet.named}
    surplus = [f"{slide}{hint and f' ({hint})'}" for slide, hint in hints.items()]
    here = set(slides)
    missing = [slide for slide in sheet.rows if slide not in here]
    findings = []
    if surplus:
        findings.append(Finding(True, f"{len(surplus)} slides have no label in the sheet: {some(surplus)}."))
    if missing:
        findings.append(Finding(False, f"{len(missing)} labelled slides have no features: {some(missing)}."))
    return findings
