"""The plans and folds of a bundle as values, checked before anything of them is taken over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.datasets.card import MEAN
from mil_bench.errors import InputError, MilBenchError
from mil_bench.evaluation.predictions import Predictions, TrainedFold
from mil_bench.file_values import typed
from mil_bench.planning.plan import RunPlan
from mil_bench.running.result_store import FoldRecord
from mil_bench.sharing.arrays import plain_arrays
from mil_bench.sharing.bundle import (
    PREDICTIONS,
    RECORD,
    WEIGHTS,
    RunDigests,
    fold_member,
    plan_member,
)
from mil_bench.sharing.contents import (
    plan_problems,
    predictions_problem,
    record_problem,
    slide_facts,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.planning.plan import Job
    from mil_bench.sharing.agreement import SlideFacts
    from mil_bench.sharing.reading import BundleReader


_NOTHING = "Nothing was imported."


def plans_of(bundle: BundleReader, path: Path) -> dict[str, RunPlan]:
    """The plans of a bundle as their makers had them, by run id.

    Raises:
        InputError: one is no plan, or not that of its name, or holds what no run has.
    """
    plans, problems = {}, []
    for run_id, digests in bundle.manifest.runs.items():
        name = plan_member(run_id)
        if name not in bundle.manifest.members:
            problems.append(f"{name[:100]} is missing, and the manifest names the run")
            continue
        try:
            plans[run_id] = plan = RunPlan.from_json(bundle.json(name))
        except InputError as error:  # of its own classes or splits, or of the member
            raise InputError(f"bundle {path}, {name}", error.problems, _NOTHING) from error
        except (ValueError, MilBenchError) as error:
            raise bundle.refusal(name, error) from error
        problems += [f"{run_id}: {line}" for line in plan_problems(plan)]
        if plan.run_id != run_id:
            problems.append(f"{run_id}: its plan is that of {plan.run_id}")
        elif not problems and digests != RunDigests(
            dataset=plan.dataset,
            data_digest=plan.jobs[0].data_digest,
            split_digest=plan.splits.digest,
        ):
            problems.append(f"{run_id}: the manifest lists other digests than its plan")
    if not problems:
        expected = {plan_member(run_id) for run_id in plans}
        for plan in plans.values():
            expected |= {
                fold_member(job.key, fold, kind)
                for job, fold in plan.trainings
                for kind in (RECORD, PREDICTIONS, WEIGHTS)
            }
        problems = [f"{name} belongs to no run" for name in bundle.names if name not in expected]
    if problems or not plans:
        raise InputError(f"bundle {path}", problems or ["it has no run"], _NOTHING)
    return plans


def present(bundle: BundleReader, plan: RunPlan) -> list[tuple[Job, int]]:
    """The trainings of a plan that a bundle holds."""
    members = bundle.manifest.members
    return [(j, fold) for j, fold in plan.trainings if fold_member(j.key, fold, RECORD) in members]


def trained_fold(
    bundle: BundleReader, plan: RunPlan, job: Job, fold: int, facts: SlideFacts
) -> TrainedFold:
    """A fold of a bundle, checked against its plan and against what is known of its slides.

    Args:
        bundle: which holds it.
        plan: the run.
        job: one of its jobs.
        fold: number of the fold.
        facts: what is known of slides; those of the fold are added.

    Raises:
        InputError: a part is missing, was altered, or holds what no training gives.
    """
    name = fold_member(job.key, fold, RECORD)
    try:
        record = typed(FoldRecord, bundle.json(name))
        if problem := record_problem(record, job, fold):
            raise ValueError(problem)
        name = fold_member(job.key, fold, PREDICTIONS)
        content = _part(bundle, name, record.predictions_sha256)
        stored = Predictions(**plain_arrays(content))
        if problem := predictions_problem(stored, plan, fold):
            raise ValueError(problem)
        averaged = job.combine == MEAN
        predictions = stored.of_patients() if averaged else stored
        _take_slides(facts, slide_facts(predictions, plan.hierarchy))
        name, weights = fold_member(job.key, fold, WEIGHTS), None
        if name in bundle.manifest.members:
            weights = plain_arrays(_part(bundle, name, record.weights_sha256))
    except (ValueError, TypeError) as error:
        raise bundle.refusal(name, error) from error
    return TrainedFold(
        seed=job.seed,
        fold=fold,
        job_key=job.key,
        predictions=predictions,
        by_slide=stored if averaged else None,
        epochs=job.recipe.get("epochs", 0),
        best_epoch=record.best_epoch,
        curves=record.curves,
        slides=record.slides,
        seconds=record.seconds,
        environment=record.environment,
        in_dim=record.in_dim,
        weights=weights,
    )


def _part(bundle: BundleReader, name: str, digest: str | None) -> bytes:
    """A file that a record vouches for."""
    if name not in bundle.manifest.members:
        raise ValueError("it is missing, and a record is there")
    if digest != bundle.manifest.members[name].sha256:
        raise ValueError("its record vouches for another content")
    return bundle.content(name)


def _take_slides(known: SlideFacts, more: SlideFacts) -> None:
    """Add what predictions say of their slides, which must be what others say of them.

    Raises:
        ValueError: a slide has another class or group.
    """
    for slide, facts in more.items():
        if known.setdefault(slide, facts) != facts:
            raise ValueError(
                f"slide '{slide:.60}' has the class and group {facts}, elsewhere {known[slide]}"
            )
