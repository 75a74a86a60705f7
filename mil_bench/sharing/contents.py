"""Whether a plan, a record and predictions fit each other, before others' numbers are taken over.

A file can be whole and hold values that no training gives. What tables, captions and figures rely
on is checked here, for a plan that is exported as for one that is imported.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.datasets.card import BAG, COMBINATIONS, MEAN
from mil_bench.sharing.bundle import NAME
from mil_bench.splits.patients import torn_patients
from mil_bench.splits.plan import ROLES
from mil_bench.wording import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mil_bench.evaluation.predictions import Predictions
    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.running.result_store import FoldRecord

_MOST_TRAININGS = 50_000
_MOST_CLASSES = 1_000
_LONGEST_LABEL = 200
_ROUNDING = 1e-6  # of sums of probabilities


def plan_problems(plan: RunPlan) -> list[str]:
    """Why the results of a plan cannot be shared, one line each."""
    if plan.tuning or plan.parts:
        return ["its settings were tuned, and bundles do not hold trials; share an untuned run"]
    if not plan.jobs or not plan.splits.folds:
        return ["it has no trainings"]
    if len(plan.jobs) * len(plan.splits.folds) > _MOST_TRAININGS:
        return [f"it has more than {_MOST_TRAININGS} trainings"]
    if plan.hierarchy.n_fine > _MOST_CLASSES:
        return [f"it has more than {_MOST_CLASSES} classes"]
    return [*_job_problems(plan), *_split_problems(plan), *_patient_problems(plan)]


def _job_problems(plan: RunPlan) -> Iterator[str]:
    names = {plan.dataset, plan.splits.protocol, *(job.method for job in plan.jobs)}
    for name in sorted(names):
        if not NAME.fullmatch(name):
            yield f"'{shortened(name)}' is no name that files can have on every system"
    if len({(job.label, job.seed) for job in plan.jobs}) < len(plan.jobs):
        yield "two of its jobs have the same label and seed"
    if len({job.data_digest for job in plan.jobs}) > 1:
        yield "its jobs differ in their data digests"
    of_label: dict[str, tuple[str, bool]] = {}
    for job in plan.jobs:
        if job.source:
            yield f"{job.label} was imported; only who trained it can share it"
        if (job.dataset, job.split_digest) != (plan.dataset, plan.splits.digest):
            yield f"{job.label} is of another dataset or split"
        if not 0 < len(job.label) <= _LONGEST_LABEL:
            yield f"'{shortened(job.label)}' is too long a label"
        if of_label.setdefault(job.label, (job.method, job.is_trained)) != (
            job.method,
            job.is_trained,
        ):
            yield f"{job.label} is the label of two methods"
        epochs = job.recipe.get("epochs", 0)
        if job.is_trained and not (isinstance(epochs, int) and epochs > 0):
            yield f"the recipe of {job.label} has no number of epochs"


def _split_problems(plan: RunPlan) -> Iterator[str]:
    splits = plan.splits
    if splits.repeats < 1 or len(splits.folds) % splits.repeats:
        yield "its folds do not make whole repeats"
    counts = {len(splits.leaks), len(splits.val_leaks)}
    if counts != {len(splits.folds)} and (splits.group_name or counts != {0}):
        yield "its counts of leaks are not one per fold"
    for number, fold in enumerate(splits.folds):
        listed = [slide for role in ROLES for slide in getattr(fold, role)]
        if len(set(listed)) < len(listed):
            yield f"fold {number} lists a slide twice"
        if not (fold.train and fold.test):
            yield f"fold {number} has no training or no test slides"


def _patient_problems(plan: RunPlan) -> Iterator[str]:
    ways = {job.combine for job in plan.jobs}
    are_known = ways <= {"", *COMBINATIONS} and len(ways) == 1
    fits = bool(plan.combine) == bool(plan.patients) == bool(plan.patients and plan.unit)
    if not (are_known and fits):
        yield "its jobs combine the slides of patients in ways that do not fit its plan"
        return
    folds = plan.splits.folds
    listed = {slide for fold in folds for role in ROLES for slide in getattr(fold, role)}
    if plan.patients and not listed <= plan.patients.keys():
        yield "slides of its folds have no patient"
    elif plan.patients:
        yield from torn_patients(folds, plan.patients, plan.unit)


def record_problem(record: FoldRecord, job: Job, fold: int) -> str:
    """Why a record cannot be that of a fold of a job, "" if it can."""
    lengths = {len(values) for values in record.curves.values()}
    if record.fold != fold:
        return f"it says that it is of fold {record.fold}"
    if not (math.isfinite(record.seconds) and record.seconds >= 0):
        return f"it took {record.seconds} seconds"
    if not job.is_trained:
        return "" if not lengths and record.best_epoch == -1 else "nothing is trained, and it is"
    if len(lengths) != 1 or not 0 <= record.best_epoch < min(lengths):
        return "its curves have other lengths than its epochs"
    if record.in_dim is None or record.in_dim < 1:
        return "it does not say how wide the features are"
    return ""


def predictions_problem(predictions: Predictions, plan: RunPlan, fold: int) -> str:
    """Why stored predictions cannot be those of a fold's test slides or patients, "" if they can.

    Args:
        predictions: of slides if those of a patient are averaged, else what is measured.
        plan: of the run.
        fold: number of the fold.
    """
    kinds = {"slides": "U", "groups": "U", "labels": "iu", "fine": "f"}
    for name, allowed in kinds.items():
        if getattr(predictions, name).dtype.kind not in allowed:
            return f"{name} are of the type {getattr(predictions, name).dtype}"
    if fault := predictions.fault(plan.hierarchy):
        return fault
    tested = plan.splits.folds[fold].test
    expected = sorted(plan.items(tested)) if plan.combine == BAG else list(tested)
    if sorted(predictions.slides.tolist()) != expected:
        return f"its {plan.unit}s are not the test {plan.unit}s of the fold"
    if plan.combine:
        items = predictions.slides.tolist()
        patients = [plan.patients[i] for i in items] if plan.combine == MEAN else items
        if predictions.groups.tolist() != patients:
            return f"its slides have other {plan.unit}s than in the plan"
    heads = [predictions.fine]
    if predictions.coarse_head is not None:
        heads.append(predictions.coarse_head)
    for head in heads:
        if head.dtype.kind != "f" or not _are_probabilities(head):
            return "some rows are no probabilities: below 0, or their sum is not 1"
    attention = predictions.attention_auc
    if attention is not None:
        if attention.dtype.kind != "f":
            return f"attention_auc is of the type {attention.dtype}"
        defined = attention[~np.isnan(attention)]
        if not ((defined >= 0) & (defined <= 1)).all():
            return "attention_auc is not between 0 and 1"
    return ""


def _are_probabilities(head: np.ndarray) -> bool:
    sums = head.astype(np.float64).sum(1)
    return bool((head >= 0).all() and (np.abs(sums - 1) <= _ROUNDING).all())


def slide_facts(predictions: Predictions, hierarchy: LabelHierarchy) -> dict[str, tuple[str, str]]:
    """Slide to the name of its class and its group."""
    return {
        slide: (hierarchy.fine[label], group)
        for slide, label, group in zip(
            predictions.slides.tolist(),
            predictions.labels.tolist(),
            predictions.groups.tolist(),
            strict=True,
        )
    }
