"""What was trained: recipe, settings, parameters and paper of every method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.methods.recipe import Recipe, takes_steps
from mil_bench.report.tables import ABSENT, LINK, Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.planning.plan import Job, RunPlan

_COLUMNS = ("learning_rate", "optimizer", "schedule", "batch_size", "epochs", "weight_decay")
"""Fields of the recipe with columns of their own."""
_USUAL = Recipe(learning_rate=1.0, epochs=1).to_json()
"""What a recipe does not change."""
_NOTE = (
    "Recipe and settings with which each method was trained; a method's own values if the name of "
    "the row does not say otherwise. Parameters: number of trained values of one model. The rest "
    "of the recipe leaves out what is usual, such as no early stopping and Adam's own decay rates."
)
_SEVERAL = " Where folds were trained with different settings, all values are given."


def trained_table(
    plan: RunPlan, trained: Mapping[str, Sequence[TrainedFold]], caption: str
) -> ResultTable:
    """One row per method that trains.

    Args:
        plan: its jobs.
        trained: method to its trained folds, which know the number of parameters.
        caption: of the run.
    """
    jobs: dict[str, list[Job]] = {}
    for job in plan.jobs:
        if job.is_trained:
            jobs.setdefault(job.label, []).append(job)
    cells = {label: _row(of_label, trained[label]) for label, of_label in jobs.items()}
    note = _NOTE + (_SEVERAL if plan.tuning else "")
    return ResultTable("trained", "What was trained", caption, cells, note=note)


def _row(jobs: Sequence[Job], folds: Sequence[TrainedFold]) -> dict[str, Cell | str]:
    recipes = [job.recipe for job in jobs]
    row: dict[str, Cell | str] = {
        "Paper": _known(jobs[0], "paper") or ABSENT,
        LINK: _known(jobs[0], "link") or ABSENT,
        "Parameters": _parameters(folds),
    }
    for name in _COLUMNS:
        values = [r.get(name) for r in recipes if takes_steps(r)]
        row[_heading(name)] = _values(values) if values else ABSENT
    further = [
        {name: v for name, v in r.items() if name not in _COLUMNS and v != _USUAL.get(name)}
        for r in recipes
    ]
    row["Rest of the recipe"] = _settings(further) or ABSENT
    row["Settings"] = _settings([job.params for job in jobs]) or ABSENT
    return row


def _parameters(folds: Sequence[TrainedFold]) -> Cell:
    counts = sorted({fold.parameters for fold in folds if fold.parameters})
    if counts:
        return Cell.single(float(counts[-1]), " / ".join(f"{number:,}" for number in counts))
    return Cell.absent(why=_no_count(folds))


def _no_count(folds: Sequence[TrainedFold]) -> str:
    if not folds:
        return "Nothing of this method is stored."
    if all(fold.parameters == 0 for fold in folds):
        return "It fits itself: no optimizer trains any parameter."
    return "An older version of mil-bench trained it and did not count its parameters."


def _heading(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _known(job: Job, name: str) -> str:
    """What the installed method says of its paper, "" if it is not installed or says nothing."""
    return registry.methods.text(job.method, name) if job.method in registry.methods.names() else ""


def _settings(of_jobs: Sequence[Mapping[str, Any]]) -> str:
    """Names with their values; several values if jobs differ."""
    names = dict.fromkeys(name for settings in of_jobs for name in settings)
    shown = {name: [s[name] for s in of_jobs if name in s] for name in names}
    return ", ".join(f"{name}={_values(values)}" for name, values in shown.items())


def _values(values: Iterable[Any]) -> str:
    return " / ".join(dict.fromkeys(map(_written, values)))


def _written(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"({' '.join(map(_written, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)
