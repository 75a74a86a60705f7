"""Opens what a user names to ``data inspect``, with what is known before the first bag is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mil_bench.bags.opening import open_bags
from mil_bench.bags.reading_process import ReadingProcess
from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.datasets.labels import LabelTable, read_label_table
from mil_bench.errors import InputError
from mil_bench.intake.folders import find_feature_files, named_as_labelled
from mil_bench.intake.inspection.look import Finding
from mil_bench.intake.inspection.sources import BagSource, files_source, npz_source, store_source
from mil_bench.intake.readers import AS_USUAL, Reading
from mil_bench.intake.readers.interface import read_as
from mil_bench.intake.row_packing import open_one, parted, read_in
from mil_bench.wording import first_names, gathered, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.intake.readers import FeatureFile
    from mil_bench.progress import Watch


@dataclass(frozen=True)
class InspectionTarget:
    """Bags to inspect.

    Args:
        source: the bags.
        groups: group of each slide; each slide its own if groups are unknown.
        expected: slides of each class according to the dataset's card, () if it does not say.
        findings: what was noticed so far.
    """

    source: BagSource
    groups: tuple[str, ...]
    expected: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()


def open_target(
    target: str,
    spec: DatasetSpec | None,
    labels: Path | None,
    data_dir: Path,
    watch: Watch,
    how: Reading = AS_USUAL,
    allow_missing: bool = False,
) -> InspectionTarget:
    """Open a folder of feature files, a packed dataset or a bag file.

    Args:
        target: the folder, the file (``.npz`` or a bag store), or a dataset's name or card file.
        spec: the dataset's card, or None.
        labels: a label table to compare with, or None.
        data_dir: folder of the stores.
        watch: wraps the iteration over a folder's files.
        how: how feature files are read.
        allow_missing: whether labels may be missing in the table.

    Raises:
        MilBenchError: nothing of that kind is there, or it cannot be opened.
    """
    path = Path(target)
    if path.is_file() and path.suffix == ".npz":
        with read_as(how):
            source = npz_source(path)
        return InspectionTarget(source, source.slides, findings=tuple(_repeated(source)))
    if path.exists() and not path.is_file() and not path.is_dir():
        remedy = (
            "Name a folder of feature files, a packed dataset, its card or its store, or an .npz."
        )
        problem = f"{path} is not a file (a pipe or a device)"
        raise InputError(f"inspecting {target}", [problem], remedy)
    named = not path.exists() or (path.is_file() and path.suffix == ".toml")
    if named:
        spec = find_dataset(target)
    if labels is not None and spec is None:
        raise InputError(
            f"inspecting {target}",
            ["a label table alone does not say which classes there are"],
            "Name the dataset's card too: --dataset NAME or CARD.toml.",
        )
    table = (
        None if labels is None or spec is None else read_label_table(labels, spec, allow_missing)
    )
    if path.is_dir():
        return _folder(path, spec, table, watch, how, allow_missing)
    store = open_store(spec, data_dir) if named and spec is not None else open_bags(path)
    return _store(store, spec, table, allow_missing)


def _repeated(source: BagSource) -> list[Finding]:
    repeated = [slide for slide, times in Counter(source.slides).items() if times > 1]
    if not repeated:
        return []
    count = plural(len(repeated), "id names several bags", "ids name several bags each")
    return [Finding(True, f"bag_ids: {count}: {first_names(repeated)}.")]


def _store(
    store: BagStore, spec: DatasetSpec | None, table: LabelTable | None, allow_missing: bool
) -> InspectionTarget:
    frame, fine = store.slides, store.hierarchy.fine
    findings = _compared(tuple(frame["slide"]), table, allow_missing)
    if table is not None:
        different = [
            f"{slide} ({fine[label]}, {fine[table.slides[slide].label]} in the table)"
            for slide, label in zip(frame["slide"], store.labels, strict=True)
            if slide in table.slides and table.slides[slide].label != label
        ]
        if different:
            count = plural(len(different), "slide has", "slides have")
            shown = first_names(different)
            findings.append(
                Finding(True, f"{count} a different label in the label table: {shown}.")
            )
    source = store_source(str(store.path), store)
    expected = _expected(spec, source)
    return InspectionTarget(source, tuple(frame["group"]), expected, tuple(findings))


def _expected(spec: DatasetSpec | None, source: BagSource) -> tuple[int, ...]:
    """The card's class counts, if they describe these bags: real ones of the same classes."""
    if spec is None or spec.generator is not None or spec.hierarchy.fine != source.classes:
        return ()
    return spec.class_counts


def _folder(
    folder: Path,
    spec: DatasetSpec | None,
    table: LabelTable | None,
    watch: Watch,
    how: Reading,
    allow_missing: bool,
) -> InspectionTarget:
    found = find_feature_files(folder)
    ambiguous: list[str] = []
    if table is not None:
        found, ambiguous = named_as_labelled(found, table.named)
    reader = ReadingProcess(open_one.__module__)
    watched = watch(found, len(found), "opening the files")
    opened, unreadable = parted(
        read_in(reader, partial(open_one, how=how), file) for file in watched
    )
    files = [readable.file for readable in opened]
    findings = [Finding(True, problem) for problem in gathered([*ambiguous, *unreadable])]
    findings += _kinds([file for file in files if file.rows])
    findings += _compared([file.slide for file in found], table, allow_missing)
    source = files_source(str(folder), files, table, spec.hierarchy.fine if spec else (), reader)
    slides = table.slides if table else {}
    groups = [slides[file.slide].group if file.slide in slides else file.slide for file in files]
    return InspectionTarget(source, tuple(groups), _expected(spec, source), tuple(findings))


def _kinds(files: Sequence[FeatureFile]) -> list[Finding]:
    """Encoders and units of coordinates, which must be the same in all files of a store."""
    findings = []
    for what, named in (
        ("Encoders", Counter(file.encoder or "not named" for file in files)),
        ("Units of coordinates", Counter(file.coords_unit for file in files if file.coords_unit)),
    ):
        if len(named) > 1:
            kinds = ", ".join(
                f"{name} in {plural(count, 'file')}" for name, count in named.most_common()
            )
            findings.append(Finding(True, f"{what} differ: {kinds}."))
    doubles = sum(file.is_double for file in files)
    if doubles:
        held = plural(doubles, "file holds", "files hold")
        findings.append(Finding(False, f"{held} float64 features, which are read as float32."))
    for what, has in (
        ("coordinates", [file.has_coords for file in files]),
        ("labels of their instances", [file.has_instance_labels for file in files]),
    ):
        if any(has) and not all(has):
            lacking = f"{has.count(False)} of {len(files)} files have no {what}"
            findings.append(Finding(False, f"{lacking}; packing then drops those of all files."))
    return findings


def _compared(
    slides: Sequence[str], table: LabelTable | None, allow_missing: bool
) -> list[Finding]:
    """Slides without a label, and labels without a slide, which packing refuses by default."""
    if table is None:
        return []
    hints = {slide: table.near_miss(slide) for slide in slides if slide not in table.named}
    surplus = [f"{slide}{hint and f' ({hint})'}" for slide, hint in hints.items()]
    present = set(slides)
    missing = [slide for slide in table.slides if slide not in present]
    findings = [Finding(False, note) for note in table.notes]
    if table.unlabelled:
        count = plural(len(table.unlabelled), "slide has", "slides have")
        shown = first_names(sorted(table.unlabelled))
        findings.append(Finding(False, f"{count} no label; packing leaves such out: {shown}."))
    if surplus:
        count, shown = plural(len(surplus), "slide is", "slides are"), first_names(surplus)
        findings.append(Finding(False, f"{count} not in the label table: {shown}."))
    if missing:
        count = plural(len(missing), "labelled slide has", "labelled slides have")
        hint = "" if allow_missing else "; --allow-missing leaves such slides out"
        shown = f"{first_names(missing)}{hint}"
        findings.append(Finding(not allow_missing, f"{count} no features: {shown}."))
    return findings
