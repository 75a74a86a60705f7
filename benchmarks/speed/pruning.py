"""What giving up trials saves, and what it costs: the same tuning with and without pruning, on a generated twin.

    python -m mil_bench.benchmarks.speed.pruning --results FOLDER

Both halves have the same seeds, so the first trials of a study are the same settings, and a
training that the half without pruning has stored is not repeated: the other half counts its epochs
up to where its rule would have ended it. Cost is counted in epochs, which do not depend on what
else the machine does. Quality is that of what was chosen, on test slides.
Needs Optuna.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import mil_bench
from mil_bench import RunResult
from mil_bench.evaluation.metrics import Measure
from mil_bench.report.tables import Cell, ResultTable

_FIGURE = Measure("fine", "macro_auc")
_NOTE = (
    "Epochs with pruning as a share of those without; difference of the test figures of what was chosen (points), "
    "mean ± standard deviation over folds."
)


def main() -> None:
    """Tune twice and print what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--results",
        type=Path,
        required=True,
        help="where trials are kept; repeated calls go on there",
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="where the twin is kept")
    parser.add_argument("--dataset", default="bracs-sim:slides=200,rows=30")
    parser.add_argument(
        "--methods", nargs="+", default=["mean-pool", "abmil", "clam-sb", "dsmil", "hmil"]
    )
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    asked = parser.parse_args()

    def tuned(pruning: bool) -> RunResult:
        return mil_bench.run(
            asked.methods,
            asked.dataset,
            folds=asked.folds,
            epochs=asked.epochs,
            tune=asked.trials,
            pruning=pruning,
            results=asked.results,
            data=asked.data,
            tracking=False,
        )

    whole, pruned = tuned(False), tuned(True)
    table = compared(whole, pruned, asked.methods)
    from mil_bench.report.render.markdown import markdown

    print(
        markdown(
            "What giving up trials saves",
            [f"`{whole.plan.command}`, with and without pruning"],
            [table],
        )
    )


def compared(whole: RunResult, pruned: RunResult, methods: list[str]) -> ResultTable:
    """One row a method, and one for all: share of the epochs, difference of test figures and of validation losses."""
    rows: dict[str, dict[str, Cell | str]] = {}
    spent = [result.tables["tuning"]["Epochs", "mean"] for result in (whole, pruned)]
    trials = pruned.tables["tuning"]
    differences = {}
    for method in methods:
        before, after = (
            100 * result.evidence.by_fold(method, _FIGURE) for result in (whole, pruned)
        )
        differences[method] = after - before
        rows[method] = {
            "Given up": f"{trials['Pruned', 'mean'][method]:.0f} of {trials['Trials', 'mean'][method]:.0f}",
            "Share of the epochs (%)": Cell(100 * spent[1][method] / spent[0][method], digits=0),
            "Macro AUC, no pruning (%)": _mean(before),
            "Macro AUC, pruning (%)": _mean(after),
            "Difference": _mean(differences[method]),
        }
    over_methods = np.mean(list(differences.values()), axis=0)  # [folds]
    rows["all"] = {
        "Given up": f"{trials['Pruned', 'mean'].sum():.0f} of {trials['Trials', 'mean'].sum():.0f}",
        "Share of the epochs (%)": Cell(100 * spent[1].sum() / spent[0].sum(), digits=0),
        "Macro AUC, no pruning (%)": "",
        "Macro AUC, pruning (%)": "",
        "Difference": _mean(over_methods),
    }
    return ResultTable("pruning", "With and without pruning", pruned.plan.caption, rows, note=_NOTE)


def _mean(values: np.ndarray) -> Cell:
    return Cell(float(np.mean(values)), float(np.std(values, ddof=1)))


if __name__ == "__main__":
    main()
