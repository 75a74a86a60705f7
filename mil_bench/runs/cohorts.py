"""The trained models of a run on other cohorts, next to their own test slides.

Every model predicts all slides of a cohort. All models then test the same patients, so what differs
between them is training alone, and no rule for folds with other patients applies. The models count
as seeds of a single split: a value is their mean, its interval is over the cohort's patients, and
verdicts follow the rule for one split, which doubles that variance.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mil_bench import durable
from mil_bench.datasets.card import PATIENT, SLIDE
from mil_bench.datasets.catalogue import find_dataset, open_store, stores_of
from mil_bench.datasets.patients import require_patients
from mil_bench.errors import InputError
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.predictions import Predictions, TrainedFold
from mil_bench.evaluation.verdicts import Evidence, Verdict, verdicts
from mil_bench.inference.audit import training_overlap
from mil_bench.inference.patients import Patients
from mil_bench.inference.predictions import predict_slides
from mil_bench.inference.slides import slides_of
from mil_bench.progress import progress_bar
from mil_bench.report.render import write_report
from mil_bench.report.result_tables import pooled_tables, result_tables
from mil_bench.report.sentences import summary
from mil_bench.report.tables import Cell, ResultTable
from mil_bench.report.verdict_tables import main_measure, verdict_tables
from mil_bench.runs.predicting import (
    ModelChoice,
    chosen_models,
    groups_of,
    groups_of_run,
    labels_of,
    trained_on,
)
from mil_bench.wording import first_names, in_unit, plural

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.bags.store import BagStore
    from mil_bench.inference.slides import NewSlides
    from mil_bench.planning.plan import Job
    from mil_bench.runs.result import RunResult

_DROP = (
    ("fine", "macro_auc"),
    ("fine", "balanced_accuracy"),
    ("fine", "accuracy"),
    ("coarse", "macro_auc"),
)
_NOTE = (
    "Internal: the run's own test slides. External: all scored slides of the cohort. Drop: "
    "internal minus external, in percentage points. Mean ± sample standard deviation over the "
    "trained models, each of which gives one pair of values."
)
_SHOWN = ("fine", "coarse", "drop", "verdicts")


@dataclass(frozen=True, eq=False)
class Cohort:
    """A run's models on another dataset.

    Args:
        name: of the dataset, as it is asked for.
        result: of the run.
        trained: method to its trained folds, with their predictions of the cohort.
        group_name: what a group of the cohort is, "" if groups are unknown.
        notes: what was left out, one sentence each.
    """

    name: str
    result: RunResult
    trained: dict[str, tuple[TrainedFold, ...]]
    group_name: str
    notes: tuple[str, ...]

    @cached_property
    def evidence(self) -> Evidence:
        """What the models measured on the cohort; they count as seeds of a single split."""
        own, models = self.result.evidence, max(map(len, self.trained.values()))
        slides = len(next(iter(self.trained.values()))[0].predictions.slides)
        as_seeds = {
            method: tuple(replace(fold, seed=i, fold=0) for i, fold in enumerate(folds))
            for method, folds in self.trained.items()
        }
        train = round(float(np.mean([size for size, _ in own.sizes])))
        return replace(
            own,
            trained=as_seeds,
            sizes=((train, slides),),
            seeds=models,
            repeats=1,
            group_name=self.group_name,
            centres={},
        )

    @cached_property
    def _main(self) -> tuple[Measure, str]:
        return main_measure(self.evidence)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """The pairs of methods compared on the cohort."""
        return verdicts(self.evidence, self._main[0])

    @property
    def sentences(self) -> list[str]:
        """The result in a few sentences, and what was left out."""
        reason = self._main[1]
        words = [
            *([reason] if reason else []),
            *summary(self.evidence, self.verdicts, self._main[0]),
        ]
        return [*(in_unit(line, self.result.plan.unit) for line in words), *self.notes]

    @property
    def caption(self) -> str:
        """What holds for all tables."""
        folds = next(iter(self.trained.values()))
        unit = self.result.plan.unit
        slides = plural(len(folds[0].predictions.slides), unit)
        return (
            f"External cohort {self.name}: {slides}, predicted by every model of the run "
            f"{self.result.run_id}. ± is the sample standard deviation over "
            f"{plural(len(folds), 'model')}, which all test the same {self.group_name or unit}s."
        )

    @cached_property
    def report_tables(self) -> list[ResultTable]:
        """Tables of the cohort, and the drop from the run's own test slides."""
        tables = [
            *result_tables(self.evidence, self.caption),
            self._drop_table(),
            *verdict_tables(self.evidence, self.verdicts, self._main[0], self.caption),
            *pooled_tables(self.evidence, self.caption),
        ]
        return [table.in_unit(self.result.plan.unit) for table in tables]

    @property
    def main_tables(self) -> list[ResultTable]:
        """Those that a terminal shows."""
        return [table for table in self.report_tables if table.name in _SHOWN]

    def _drop_table(self) -> ResultTable:
        levels = ("fine",) if self.result.plan.hierarchy.is_flat else ("fine", "coarse")
        measures = [Measure(*name) for name in _DROP if name[0] in levels]
        cells: dict[str, dict[str, Cell | str]] = {}
        for method, folds in self.trained.items():
            inside = self.result.evidence.measured[method]
            outside = list(self.evidence.measured[method].values())
            cells[method] = {}
            for measure in measures:
                before = [100 * inside[f.seed, f.fold].values[measure] for f in folds]
                after = [100 * values.values[measure] for values in outside]
                words = measure.words.capitalize()
                for what, values in (
                    ("internal", before),
                    ("external", after),
                    ("drop", [a - b for a, b in zip(before, after, strict=True)]),
                ):
                    defined = [value for value in values if not np.isnan(value)]
                    cells[method][f"{words}, {what}"] = Cell.of(defined)
        title = f"From the run's own slides to {self.name} (%)"
        return ResultTable("drop", title, self.caption, cells, note=_NOTE)

    def write(self, folder: Path) -> Path:
        """Write the tables as Markdown, CSV and LaTeX; returns the path of the Markdown page."""
        title = f"{self.result.run_id} on {self.name}"
        return write_report(folder, title, self.sentences, self.report_tables)


def tested_on(result: RunResult, dataset: str, data: Path) -> Cohort:
    """Predict a packed or generated dataset with every stored model of a run.

    Predictions are stored next to the models, so that a second call only reads them.

    Args:
        result: of the run.
        dataset: name or card file of the cohort.
        data: folder of the bag stores.

    Raises:
        MilBenchError: the dataset is not there, its features are not those of the training, or none
            of its slides can be scored.
    """
    store = _opened(result, dataset, data)
    jobs = {
        (job.label, job.key, fold): job for job, fold in result.plan.trainings if job.is_trained
    }
    methods = [
        name
        for name, folds in result.trained.items()
        if folds and all((name, fold.job_key, fold.fold) in jobs for fold in folds)
    ]
    if not methods:
        raise InputError(f"testing on {dataset}", ["no training is stored"], "Repeat the run.")
    first, _ = chosen_models(result, ModelChoice(methods[0]))
    expected, own = trained_on(result, first, data)
    slides, plan = slides_of(store, expected), result.plan
    labels, notes = labels_of(slides, slides.declared, slides.classes, result)
    groups = groups_of(slides.declared, slides.slides)
    seen = training_overlap(
        first, slides.slides, groups, groups_of_run(result, own), plan.splits.group_name
    )
    notes += [line for line in seen.sentences(len(first), False) if line != seen.blind]
    patients = Patients.among(slides.slides, groups, plan)
    items, names, counts = slides, list(slides.slides), seen.counts
    if patients is not None:
        items, names = patients.items(slides), list(patients.slides_of)
        labels, counts = patients.labels(labels, plan.hierarchy.fine), patients.counts(counts)
        groups, notes = {name: name for name in names}, notes + patients.notes
    absent = [c for i, c in enumerate(plan.hierarchy.fine) if i not in labels.values()]
    if absent:
        notes.append(f"{dataset} has no {plan.unit} of {', '.join(absent)}.")
    scored = [name for name in names if name in labels and name not in counts]
    if not scored:
        problems = [f"none of its {len(names)} {plan.unit}s can be scored", *notes]
        raise InputError(f"testing on {dataset}", problems, "Name another dataset.")
    if counts:
        notes.append(f"They are left out: {first_names(list(counts))}.")
    places = np.array([names.index(name) for name in scored])
    truth = np.array([labels[name] for name in scored])
    of_group = np.array([groups.get(name, "") for name in scored])
    trained: dict[str, tuple[TrainedFold, ...]] = {}
    for method in progress_bar(methods, len(methods), f"testing on {dataset}"):
        folds = []
        for fold in result.trained[method]:
            job = jobs[method, fold.job_key, fold.fold]
            whole = _predicted(result, job, fold, items, store.digest, expected.coords_unit != "")
            if patients is not None and items is slides:
                of = np.array([patients.patient_of[slide] for slide in whole.slides.tolist()])
                whole = replace(whole, groups=of).of_patients()
            chosen = replace(
                whole,
                slides=whole.slides[places],
                labels=truth,
                fine=whole.fine[places],
                groups=of_group,
                coarse_head=None if whole.coarse_head is None else whole.coarse_head[places],
            )
            folds.append(replace(fold, predictions=chosen))
        trained[method] = tuple(folds)
    return Cohort(dataset, result, trained, store.group_name, tuple(notes))


def _opened(result: RunResult, dataset: str, data: Path) -> BagStore:
    """The cohort's bags; of several encoders those of the run's.

    Raises:
        InputError: its labels belong to slides and those of the run to patients, or the reverse.
    """
    spec, encoder = find_dataset(dataset), None
    unit = PATIENT if result.plan.combine else SLIDE
    if spec.unit != unit:
        problem = f"its labels belong to the {spec.unit}, and those of the run to the {unit}"
        raise InputError(f"testing on {dataset}", [problem], "Name a dataset of the same unit.")
    if spec.generator is None and len(stores_of(spec, data)) > 1:
        encoder = result.plan.encoder or None
    store = open_store(spec, data, encoder=encoder)
    if spec.unit == PATIENT:
        what = f"slides of {spec.name}"
        require_patients(store.slides, spec.hierarchy.fine, store.group_name, what)
    return store


def _predicted(
    result: RunResult,
    job: Job,
    fold: TrainedFold,
    slides: NewSlides,
    digest: str,
    with_coords: bool,
) -> Predictions:
    """What a model says of all slides, from its file if there is one."""
    assert result.store is not None
    weights = result.store.weights_path(job, fold.fold)
    path = weights.with_name(f"fold-{fold.fold:02d}.on-{digest}.npz")
    try:
        stored = Predictions.read(path.read_bytes())
        if stored.slides.tolist() == list(slides.slides) and not stored.fault(
            result.plan.hierarchy
        ):
            return stored
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        pass  # it is made again
    choice = ModelChoice(job.label, fold.fold, fold.seed)
    models, _ = chosen_models(result, choice)
    made = predict_slides(models, slides, result.plan.hierarchy, with_coords, progress_bar)
    count = len(slides.slides)
    zeros, blank = np.zeros(count, dtype=np.int64), np.full(count, "")
    predictions = made.of_model(0, np.arange(count), zeros, blank)
    content = io.BytesIO()
    predictions.write(content)
    durable.replace(path, content.getvalue())
    return predictions
