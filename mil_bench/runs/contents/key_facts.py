"""What a reader asks of a run first: when, on how much, with which features and versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mil_bench.report.tables import ABSENT
from mil_bench.runs.fold_table import audit_lines
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import RunPlan

_SIMULATED = "The data are simulated: nothing here is a result on the real dataset."
KeyFacts = dict[str, tuple[str, str]]
"""Heading to a value, and to what it counts or why there is none."""


def key_facts(
    plan: RunPlan, trained: Mapping[str, Sequence[TrainedFold]], planned: str
) -> KeyFacts:
    """Date, slides, groups, folds, classes and encoder.

    Args:
        plan: of the run.
        trained: method to its trained folds, which know the groups of the tested slides.
        planned: when the run was planned, ISO 8601; "" if that is not known.
    """
    splits, hierarchy = plan.splits, plan.hierarchy
    tested = {slide for fold in splits.folds for slide in fold.test}
    slides = tested | {s for fold in splits.folds for part in (fold.train, fold.val) for s in part}
    classes, seeds = f"{hierarchy.n_fine}", len(plan.seeds)
    if not hierarchy.is_flat:
        classes += f" in {hierarchy.n_coarse} coarse"
    date = ABSENT, "No plan is stored with the run, so its date is not known."
    encoder = ABSENT, "The features do not say which encoder made them."
    return {
        "Date": (planned[:10], "The run was planned on this day.") if planned else date,
        "Slides": (f"{len(slides):,}", f"{len(tested):,} of them are tested."),
        **_groups(plan, trained),
        "Folds": (f"{len(splits.folds)}" + f" x {seeds} seeds" * (seeds > 1), splits.count),
        "Classes": (classes, ", ".join(hierarchy.fine)),
        "Encoder": (plan.encoder, "It made the features.") if plan.encoder else encoder,
    }


def heading(plan: RunPlan) -> dict[str, Any]:
    """What a report says of a run's plan above its results, by the names of ``Report``."""
    splits, audit = plan.splits, audit_lines(plan)
    trainings = f"{splits.count} x {plural(len(plan.seeds), 'seed')}"
    simulated = plan.dataset.endswith("-twin")
    return {
        "title": f"{plan.dataset}: {splits.protocol}",
        "run": plan.run_id,
        "unit": plan.unit,
        "warning": f"{plan.dataset_caption}. {_SIMULATED}" if simulated else "",
        "basis": f"Protocol {splits.protocol}, {trainings}. {audit[0]}",
        "audit": audit,
    }


def _groups(plan: RunPlan, trained: Mapping[str, Sequence[TrainedFold]]) -> KeyFacts:
    name = plan.splits.group_name
    if not name:
        return {"Patients": (ABSENT, "It is not known which slides are of one patient.")}
    groups = {
        group
        for folds in trained.values()
        for fold in folds
        for group in fold.predictions.groups.tolist()
    }
    if plan.patients:
        groups = {plan.patients[slide] for fold in plan.splits.folds for slide in fold.test}
    heading = f"{name[0].upper()}{name[1:]}s"
    if not groups:
        return {heading: (ABSENT, "No training is stored.")}
    return {heading: (f"{len(groups):,}", f"{name}s with a tested slide")}
