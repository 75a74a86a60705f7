"""The trained models of a run as one file, with a model card beside it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mil_bench import durable, registry
from mil_bench.datasets.catalogue import dataset_name, find_dataset
from mil_bench.errors import InputError, MilBenchError, UnknownNameError
from mil_bench.evaluation.metrics import Measure, measure
from mil_bench.sharing.model_card import model_card
from mil_bench.sharing.model_file import (
    FoldModelAbout,
    ModelAbout,
    arrays_digest,
    write_model_file,
)

if TYPE_CHECKING:
    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import Job
    from mil_bench.runs.result import RunResult

_METRICS = ("macro_auc", "balanced_accuracy", "accuracy")
_UNKNOWN = "not known here"


def export_model(
    result: RunResult,
    method: str,
    path: Path | None = None,
    fold: int | None = None,
    seed: int | None = None,
) -> tuple[Path, Path]:
    """Write the models of a method, and a model card with the ending ``.md``.

    Args:
        result: a run with a store.
        method: as its tables call it.
        path: the file; None for one named after run and method, in the current folder.
        fold: only the models of this fold, None for all that are stored.
        seed: only the models of this training seed, None for all.

    Returns:
        Both files.

    Raises:
        UnknownNameError: the run has no such method.
        InputError: a file exists, no such model is stored, or nothing was trained.
        StorageError: a stored file is broken, or the disk refuses.
    """
    store = result.store
    if store is None:
        problem = "this result comes from no result store"
        raise InputError(f"the models of {method}", [problem], "Collect it from one.")
    trainings = _chosen(result, method, fold, seed)
    name = re.sub(r"[^\w.-]+", "-", f"{result.run_id}-{method}").strip("-")
    path = path or Path(f"{name}.safetensors")
    card = path.with_suffix(".md")
    taken = [f"{file} exists" for file in (path, card) if file.exists()]
    if taken:
        raise InputError("exporting models", taken, "Move it away, or name a new file with --out.")
    weights: dict[str, dict[str, np.ndarray]] = {}
    models = []
    for job, trained in trainings:
        arrays = store.load_weights(job, trained.fold)
        if arrays is None:
            raise InputError(f"the models of {method}", [f"{method} trains nothing"], "")
        about = _about_model(job, trained, arrays_digest(arrays))
        models.append(about)
        weights[about.name] = arrays
    about_all = _about(result, trainings, models)
    write_model_file(path, about_all, weights)
    text = model_card(about_all, path.name)
    durable.write_once(card, lambda file: file.write(text.encode()))
    return path, card


def _chosen(
    result: RunResult, method: str, fold: int | None, seed: int | None
) -> list[tuple[Job, TrainedFold]]:
    """The stored trainings that were asked for."""
    plan, what = result.plan, f"the models of {method}"
    jobs = {job.key: job for job in plan.jobs if job.label == method}
    if not jobs:
        raise UnknownNameError("method in this run", method, {job.label for job in plan.jobs})
    if not all(job.is_trained for job in jobs.values()):
        raise InputError(what, [f"{method} trains nothing"], "Name a trained method.")
    stored = [(jobs[trained.job_key], trained) for trained in result.trained[method]]
    chosen = [
        (job, trained)
        for job, trained in stored
        if fold in (None, trained.fold) and seed in (None, trained.seed)
    ]
    if not chosen:
        there = ", ".join(f"seed {t.seed} fold {t.fold}" for _, t in stored) or "none"
        raise InputError(what, [f"no such model is stored; stored are: {there}"], "Choose one.")
    return chosen


def _about_model(job: Job, trained: TrainedFold, digest: str) -> FoldModelAbout:
    return FoldModelAbout(
        seed=trained.seed,
        fold=trained.fold,
        params=dict(job.params),
        recipe=dict(job.recipe),
        selected_epoch=trained.best_epoch + 1,
        slides=dict(trained.slides),
        sha256=digest,
    )


def _about(
    result: RunResult, trainings: list[tuple[Job, TrainedFold]], models: list[FoldModelAbout]
) -> ModelAbout:
    plan, (job, trained) = result.plan, trainings[0]
    citation, licence = _terms(plan.dataset)
    versions: dict[str, dict[str, None]] = {}
    for _, other in trainings:
        for name, value in other.environment.items():
            versions.setdefault(name, {})[value] = None
    return ModelAbout(
        method=job.method,
        label=job.label,
        method_version=job.method_version,
        method_source=_method_source(job.method),
        in_dim=trained.in_dim or 0,
        fine=list(plan.hierarchy.fine),
        coarse=list(plan.hierarchy.coarse),
        parent=list(plan.hierarchy.parent),
        dataset=plan.dataset,
        features=plan.dataset_caption,
        encoder=plan.encoder,
        data_digest=job.data_digest,
        protocol=plan.splits.protocol,
        split_digest=plan.splits.digest,
        run=plan.run_id,
        source=job.source,
        citation=citation,
        licence=licence,
        trained_with={name: ", ".join(values) for name, values in versions.items()},
        results=_results(result, trainings),
        models=models,
        combine=plan.combine,
    )


def _results(
    result: RunResult, trainings: list[tuple[Job, TrainedFold]]
) -> dict[str, list[float | None]]:
    """Metric to one value per model, in percent."""
    hierarchy = result.plan.hierarchy
    levels = ("fine",) if hierarchy.is_flat else ("fine", "coarse")
    measures = [Measure(level, key) for level in levels for key in _METRICS]
    values = [
        measure(trained.predictions, hierarchy, result.plan.ordered).values
        for _, trained in trainings
    ]
    return {
        f"{m.level} {m.metric.words}": [
            None if np.isnan(of_fold[m]) else 100 * float(of_fold[m]) for of_fold in values
        ]
        for m in measures
    }


def _terms(slug: str) -> tuple[str, str]:
    """Citation and licence of a dataset."""
    try:
        card = find_dataset(dataset_name(slug))
    except MilBenchError:  # a card file of the user's own, which a run does not name
        return _UNKNOWN, _UNKNOWN
    return card.citation, card.licence


def _method_source(name: str) -> str:
    """The first two paragraphs about a method: what it is, and where it comes from."""
    try:
        module = sys.modules.get(registry.methods.load(name).__module__)
    except MilBenchError:  # a method of others, whose models were imported
        return name
    text = (module and module.__doc__) or registry.methods.summary(name)
    start = " ".join(" ".join(text.split("\n\n")[:2]).split())
    return start[: start.rfind(".") + 1] or start  # no sentence whose end is a paragraph below
