"""What tuning cost, what it chose, and the gain."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.trials import COMPLETE, FAILED, PRUNED, Trial, best_of
from mil_bench.report.pair_sentences import table_unit
from mil_bench.report.tables import Cell, ResultTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from mil_bench.evaluation.verdicts import Evidence

_SPENT = (
    "Every method has the same number of trials, the same seeds of the hyperparameter sampler, the "
    "same maximum number of epochs per trial and the same pruning rule. Methods differ in how many "
    "trials were completed, pruned or failed, and in time. Seconds are wall-clock training time "
    "while other trainings ran on other cores."
)
_CHOSEN = (
    "Trial 0 is the method's own recipe. Loss: the lowest validation cross-entropy over "
    "epochs, by which trials are chosen. Test slides are not used."
)
_GAIN = (
    "Recipe: the method's own settings with the epochs of this run, the first trial of each study. "
    "Difference: mean ± standard deviation over trainings of tuned minus recipe, on the same test "
    "slides."
)


def by_study(records: Sequence[Trial]) -> dict[tuple[str, int, int | None], list[Trial]]:
    """Method, seed and fold to the trials of its study, in order."""
    studies: dict[tuple[str, int, int | None], list[Trial]] = {}
    for record in records:
        studies.setdefault((record.label, record.seed, record.fold), []).append(record)
    return studies


def spent_table(records: Sequence[Trial], caption: str) -> ResultTable:
    """One row per method: trials by state, epochs, seconds."""
    cells: dict[str, dict[str, Cell | str]] = {}
    for label in dict.fromkeys(record.label for record in records):
        trials = [record for record in records if record.label == label]
        states = Counter(trial.state for trial in trials)
        cells[label] = {
            "Studies": Cell.count(len({(trial.seed, trial.fold) for trial in trials})),
            "Trials": Cell.count(len(trials)),
            "Complete": Cell.count(states[COMPLETE]),
            "Pruned": Cell.count(states[PRUNED]),
            "Failed": Cell.count(states[FAILED]),
            "Epochs": Cell.count(sum(trial.epochs for trial in trials)),
            "Seconds": Cell.count(sum(trial.seconds for trial in trials)),
        }
    return ResultTable("tuning", "Tuning: cost of the search", caption, cells, note=_SPENT)


def chosen_table(records: Sequence[Trial], caption: str) -> ResultTable:
    """One row per study: the chosen trial and its settings."""
    studies = by_study(records)
    seeds = {seed for _, seed, _ in studies}
    cells: dict[str, dict[str, Cell | str]] = {}
    for (label, seed, fold), trials in studies.items():
        best = best_of(trials)
        name = (
            label
            + (f" seed {seed}" if len(seeds) > 1 else "")
            + ("" if fold is None else f" fold {fold}")
        )
        cells[name] = {
            "Trial": Cell.absent("none") if best is None else Cell.count(best.number),
            "Loss, recipe": _loss(trials[0]),
            "Loss, chosen": _loss(best),
            "Settings": "no trial was completed"
            if best is None
            else written(best.settings) or "its own recipe",
        }
    return ResultTable(
        "tuning_chosen",
        "Tuning: chosen settings",
        caption,
        cells,
        note=_CHOSEN,
        row_heading="study",
    )


def gain_table(recipe: Evidence, tuned: Evidence, measure: Measure, caption: str) -> ResultTable:
    """One row per method: values with its recipe, tuned, and the difference.

    Args:
        recipe: the trainings of every study's first trial.
        tuned: the trainings that were chosen.
        measure: what methods are compared on; accuracy is shown, too.
        caption: of the run.
    """
    cells: dict[str, dict[str, Cell | str]] = {}
    measures = dict.fromkeys([measure, Measure("fine", "accuracy")])
    for label in tuned.complete:
        if label not in recipe.complete:
            continue
        cells[label] = {}
        for shown in measures:
            heading, percent = shown.metric.heading, shown.metric.percent
            values = dict.fromkeys(("recipe", "tuned", "difference"), Cell.absent())
            if all(label in kind.having(shown) for kind in (recipe, tuned)):
                before, after = (kind.by_fold(label, shown) for kind in (recipe, tuned))
                of_kind = zip(values, (before, after, after - before), strict=True)
                values = {kind: _mean(numbers, percent) for kind, numbers in of_kind}
            cells[label] |= {f"{heading}, {kind}": cell for kind, cell in values.items()}
    title = f"Tuning: gain over the recipe ({table_unit(measures)})"
    return ResultTable("tuning_gain", title, caption, cells, note=_GAIN)


def written(settings: Mapping[str, Any]) -> str:
    """Settings as a person writes them."""
    return ", ".join(f"{name}={_value(value)}" for name, value in settings.items())


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _loss(record: Trial | None) -> Cell:
    if record is None or record.value is None:
        return Cell.absent()
    return Cell(record.value, digits=3)


def _mean(values: np.ndarray, percent: bool) -> Cell:
    """Mean and standard deviation over folds; not a number if a fold is undefined."""
    return Cell.of((100 * values if percent else values).tolist(), 1 if percent else 3)
