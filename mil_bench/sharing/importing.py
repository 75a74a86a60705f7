"""Runs from a bundle that others made, into a folder of results: all of it or nothing."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mil_bench import durable
from mil_bench.datasets.card import MAIN_METRIC
from mil_bench.errors import InputError, MilBenchError
from mil_bench.evaluation.main_metric import measure_named
from mil_bench.evaluation.metrics import named_values
from mil_bench.progress import unwatched
from mil_bench.running.result_store import ResultStore
from mil_bench.sharing.agreement import (
    disagreements,
    has_same_items,
    known_slides,
    own_plans,
    packed_digest,
)
from mil_bench.sharing.bundle import MANIFEST, SOURCE_RULE, is_source
from mil_bench.sharing.checked_values import plans_of, present, trained_fold
from mil_bench.sharing.reading import BundleReader, open_bundle
from mil_bench.split_files.formats.own import SplitFile
from mil_bench.wording import with_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mil_bench.planning.plan import RunPlan
    from mil_bench.progress import Watch
    from mil_bench.results import Results
    from mil_bench.sharing.agreement import SlideFacts

_ELSEWHERE = (
    "Nothing was imported: results on other data or splits do not belong in one table. Import it "
    "into a folder of its own (--results DIR)."
)


@dataclass(frozen=True)
class Imported:
    """What was taken over from a bundle.

    Args:
        source: who trained it.
        plans: the runs under their new names, with marked rows.
        stored: run id to the number of its trainings that the bundle holds.
        own: run id to a run of the folder on the same data and split, if there is one.
        folder: where it lies.
        is_new: False if the same bundle had been imported before.
    """

    source: str
    plans: Sequence[RunPlan]
    stored: Mapping[str, int]
    own: Mapping[str, str]
    folder: Path
    is_new: bool = True

    def split_file(self, plan: RunPlan) -> Path:
        """A split file with the folds of a run; there is none for repeated folds."""
        return self.folder / f"split-{plan.splits.digest}.json"


def import_results(
    results: Results, path: Path, data: Path, source: str = "", watch: Watch = unwatched
) -> Imported:
    """Check a bundle and take its runs over; they are there completely or not at all.

    Nothing in a bundle is executed, unpickled or unpacked under its own name. Metric values are
    computed again from the predictions.

    Args:
        results: the folder that takes them.
        path: the bundle.
        data: folder of packed features, whose digests the bundle must have.
        source: who trained it, if tables shall not say what the bundle says.
        watch: wraps the iteration over trainings (a progress bar).

    Raises:
        InputError: it is no bundle, was altered, holds what no training gives, or is of other data
            or splits than the runs here; lists the problems.
        StorageError: the disk refuses, or a stored result is broken.
    """
    with open_bundle(path) as bundle:
        source = source or bundle.manifest.source
        if not is_source(source):
            problem = f"its source '{source:.60}' is not {SOURCE_RULE}"
            raise InputError(f"bundle {path}", [problem], "Name it with --source NAME.")
        plans = plans_of(bundle, path)
        store = ResultStore(results.runs)
        own = own_plans(store)
        problems = [
            line
            for run_id, plan in plans.items()
            for line in disagreements(run_id, plan, own, packed_digest(plan, data))
        ]
        if problems:
            raise InputError(f"bundle {path}", problems, _ELSEWHERE)
        name = hashlib.sha256(f"{bundle.digest} {source}".encode()).hexdigest()[:16]
        imported = _summary(bundle, plans, source, own, results.imported / name)
        with durable.exclusive(results.imported):
            if imported.folder.exists():
                return replace(imported, is_new=False)
            _require_new(store, imported, path)
            _sweep(results.imported)
            staging = results.imported / f".{name}-{uuid.uuid4().hex[:8]}.partial"
            try:
                slides = [known_slides(store, plan, own) for plan in plans.values()]
                _fill(ResultStore(staging), bundle, imported, list(plans.values()), slides, watch)
                staging.rename(imported.folder)
            except OSError as error:
                raise durable.cannot_write(imported.folder, error) from error
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    return imported


def _marked(plan: RunPlan, source: str) -> RunPlan:
    """A plan whose rows and jobs name who trained them."""

    def of_rows(texts: Mapping[str, str]) -> dict[str, str]:
        return {with_source(label, source): text for label, text in texts.items()}

    jobs = [replace(j, source=source, label=with_source(j.label, source)) for j in plan.jobs]
    return replace(
        plan,
        jobs=tuple(jobs),
        skipped=of_rows(plan.skipped),
        remarks=of_rows(plan.remarks),
        main_metric=_known_metric(plan.main_metric),
        command="",  # it would repeat the training of others, with paths of theirs
    )


def _known_metric(key: str) -> str:
    """The main metric of a plan; the usual one if that is of a package that is not here."""
    try:
        measure_named(key)
    except MilBenchError:
        return MAIN_METRIC
    return key


def _summary(
    bundle: BundleReader,
    plans: Mapping[str, RunPlan],
    source: str,
    own: Sequence[RunPlan],
    folder: Path,
) -> Imported:
    stored: dict[str, int] = {}
    matching: dict[str, str] = {}
    marked_plans = []
    for plan in plans.values():
        marked = _marked(plan, source)
        marked_plans.append(marked)
        stored[marked.run_id] = len(present(bundle, plan))
        for other in own:
            if has_same_items(other, plan) and other.combine == plan.combine:
                matching.setdefault(marked.run_id, other.run_id)
    return Imported(source, marked_plans, stored, matching, folder)


def _require_new(store: ResultStore, imported: Imported, path: Path) -> None:
    """Refuse a bundle with trainings of the same source that are imported already."""
    folders = {store.folder(job).parents[2] for p in imported.plans for job in p.jobs}
    taken = sorted(str(folder) for folder in folders - {store.root})
    if taken:
        problem = f"trainings of {imported.source} that it holds are imported: {', '.join(taken)}"
        remedy = "Remove that folder first, or name this bundle's source with --source NAME."
        raise InputError(f"bundle {path}", [problem], f"Nothing was imported. {remedy}")


def _sweep(folder: Path) -> None:
    """Remove what a killed import left; the caller has the folder to itself."""
    for left in folder.glob(".*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def _fill(
    staging: ResultStore,
    bundle: BundleReader,
    imported: Imported,
    plans: Sequence[RunPlan],
    slides: Sequence[SlideFacts],
    watch: Watch,
) -> None:
    """Write everything into a folder that nobody reads yet."""
    trainings = [
        (facts, plan, marked, job, fold)
        for plan, marked_plan, facts in zip(plans, imported.plans, slides, strict=True)
        for marked, original in zip(marked_plan.jobs, plan.jobs, strict=True)
        for job, fold in present(bundle, plan)
        if job is original
    ]
    for facts, plan, marked, job, fold in watch(trainings, len(trainings), "checking trainings"):
        trained = trained_fold(bundle, plan, job, fold, facts)
        values = named_values(trained.predictions, plan.hierarchy, plan.ordered)
        staging.save_fold(marked, replace(trained, job_key=marked.key), values)
    for plan in imported.plans:
        staging.save_plan(plan)
        splits = plan.splits
        if splits.repeats > 1:  # split files hold one division of the slides
            continue
        path = staging.root / imported.split_file(plan).name
        source = splits.source or f"the split of {imported.source}"
        SplitFile(plan.dataset, splits.protocol, source, splits.folds).write(path)
    manifest = bundle.manifest.model_dump_json(indent=1)
    durable.replace(staging.root / MANIFEST, manifest)
