"""What a person points ``data check`` at, opened: its bags, and what can be told before the first one is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mil_bench.bags.store import BagStore
from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.datasets.labels import LabelTable, read_label_sheet
from mil_bench.errors import InputError
from mil_bench.intake.folders import find_feature_files, named_as_labelled
from mil_bench.intake.inspection.look import Finding, counted, some
from mil_bench.intake.inspection.sources import BagSource, files_source, npz_source, store_source
from mil_bench.intake.readers import FeatureFile
from mil_bench.intake.row_packing import open_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.progress import Watch


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
        target: the folder, the file (``.npz`` or a bag store), or a dataset's name or card file.
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
        return CheckTarget(source, source.slides, findings=tuple(_repeated(source)))
    if path.exists() and not path.is_file() and not path.is_dir():
        remedy = (
            "Name a folder of feature files, a packed dataset, its card or its store, or an .npz."
        )
        raise InputError(
            f"checking {target}", [f"{path} is not a file (a pipe or a device)"], remedy
        )
    named = not path.exists() or (path.is_file() and path.suffix == ".toml")
    if named:
        spec = find_dataset(target)
    if labels is not None and spec is None:
        problem = "a label sheet alone does not say which classes there are"
        raise InputError(
            f"checking {target}",
            [problem],
            "Name the dataset's card too: --dataset NAME or CARD.toml.",
        )
    sheet = None if labels is None or spec is None else read_label_sheet(labels, spec)
    if path.is_dir():
        return _folder(path, spec, sheet, watch)
    store = open_store(spec, data_dir) if named and spec is not None else BagStore(path)
    return _store(store, spec, sheet)


def _repeated(source: BagSource) -> list[Finding]:
    repeated = [slide for slide, times in Counter(source.slides).items() if times > 1]
    if not repeated:
        return []
    count = counted(len(repeated), "id stands for several bags", "ids stand for several bags each")
    return [Finding(True, f"bag_ids: {count}: {some(repeated)}.")]


def _store(store: BagStore, spec: DatasetSpec | None, sheet: LabelTable | None) -> CheckTarget:
    frame, fine = store.slides, store.hierarchy.fine
    findings = _compared(tuple(frame["slide"]), sheet)
    if sheet is not None:
        stored = zip(frame["slide"], store.labels, strict=True)
        other = [
            f"{s} ({fine[c]}, in the sheet {fine[sheet.rows[s].label]})"
            for s, c in stored
            if _differs(sheet, s, c)
        ]
        if other:
            count = counted(len(other), "slide has", "slides have")
            findings.append(Finding(True, f"{count} another label in the sheet: {some(other)}."))
    source = store_source(str(store.path), store)
    return CheckTarget(source, tuple(frame["group"]), _expected(spec, source), tuple(findings))


def _expected(spec: DatasetSpec | None, source: BagSource) -> tuple[int, ...]:
    """The card's counts, if the bags have its classes and it does not describe generated ones, which may be fewer."""
    known = spec is not None and spec.generator is None and spec.hierarchy.fine == source.classes
    return spec.class_counts if spec is not None and known else ()


def _differs(sheet: LabelTable, slide: str, label: int) -> bool:
    return slide in sheet.rows and sheet.rows[slide].label != label


def _folder(
    folder: Path, spec: DatasetSpec | None, sheet: LabelTable | None, watch: Watch
) -> CheckTarget:
    found = find_feature_files(folder)
    ambiguous: list[str] = []
    if sheet is not None:
        found, ambiguous = named_as_labelled(found, sheet.named)
    opened = [open_one(each) for each in watch(found, len(found), "looking at the files")]
    findings = [Finding(True, problem) for problem in ambiguous]
    findings += [Finding(True, problem) for each in opened for problem in each.problems]
    files = [each.file for each in opened if each.file is not None]
    findings += _kinds([file for file in files if file.rows])
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
            kinds = ", ".join(
                f"{name} in {counted(count, 'file', 'files')}"
                for name, count in named.most_common()
            )
            findings.append(Finding(True, f"{what} differ: {kinds}."))
    for what, has in (
        ("coordinates", [file.has_coords for file in files]),
        ("labels of their instances", [file.has_instance_labels for file in files]),
    ):
        if any(has) and not all(has):
            said = f"{has.count(False)} of {len(files)} files come without {what}; packing leaves those of all out."
            findings.append(Finding(False, said))
    return findings


def _compared(slides: Sequence[str], sheet: LabelTable | None) -> list[Finding]:
    """Slides without a label and labels without a slide."""
    if sheet is None:
        return []
    hints = {slide: sheet.near_miss(slide) for slide in slides if slide not in sheet.named}
    surplus = [f"{slide}{hint and f' ({hint})'}" for slide, hint in hints.items()]
    here = set(slides)
    missing = [slide for slide in sheet.rows if slide not in here]
    findings = []
    if surplus:
        count = counted(len(surplus), "slide has", "slides have")
        findings.append(Finding(True, f"{count} no label in the sheet: {some(surplus)}."))
    if missing:
        count = counted(len(missing), "labelled slide has", "labelled slides have")
        findings.append(Finding(False, f"{count} no features: {some(missing)}."))
    return findings
