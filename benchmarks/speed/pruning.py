"""What pruning saves and costs: the same tuning with and without pruning, on simulated data.

    python -m mil_bench.benchmarks.speed.pruning --results FOLDER

Both tunings have the same seeds, so the first trials of a study have the same settings. A training
that the tuning without pruning has stored is not repeated: the other one counts its epochs up to
the one at which it would have been pruned. Cost is counted in epochs, which do not depend on the
load of the machine. Quality is that of the chosen settings on test slides.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import mil_bench
from mil_bench import RunResult
from mil_bench.evaluation.metrics import Measure
from mil_bench.report.tables import Cell, ResultTable

_METRIC = Measure("fine", "macro_auc")
_NOTE = (
    "Epochs with pruning as a share of those without; difference of the test values of the chosen "
    "settings (percentage points), mean ± standard deviation over folds."
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
        help="folder for the trials; a repeated call continues with them",
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder for the simulated dataset"
    )
    parser.add_argument("--dataset", default="bracs-sim:slides=200,rows=30")
    parser.add_argument(
        "--methods", nargs="+", default=["mean-pool", "abmil", "clam-sb", "dsmil", "hmil"]
    )
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()

    def tuned(pruning: bool) -> RunResult:
        return mil_bench.run(
            arguments.methods,
            arguments.dataset,
            folds=arguments.folds,
            epochs=arguments.epochs,
            tune=arguments.trials,
            pruning=pruning,
            results=arguments.results,
            data=arguments.data,
            tracking=False,
        )

    whole, pruned = tuned(False), tuned(True)
    table = compared(whole, pruned, arguments.methods)
    from mil_bench.report.render.markdown import markdown

    print(
        markdown(
            "What pruning trials saves",
            [f"`{whole.plan.command}`, with and without pruning"],
            [table],
        )
    )


def compared(whole: RunResult, pruned: RunResult, methods: list[str]) -> ResultTable:
    """A row per method, and one for all: share of the epochs, and difference of the test values."""
    rows: dict[str, dict[str, Cell | str]] = {}
    spent = [result.tables["tuning"]["Epochs", "mean"] for result in (whole, pruned)]
    trials = pruned.tables["tuning"]
    differences = {}
    for method in methods:
        before, after = (
            100 * result.evidence.by_fold(method, _METRIC) for result in (whole, pruned)
        )
        differences[method] = after - before
        rows[method] = {
            "Pruned": _share(trials["Pruned", "mean"][method], trials["Trials", "mean"][method]),
            "Share of the epochs (%)": Cell(100 * spent[1][method] / spent[0][method], digits=0),
            "Macro AUC, no pruning (%)": _mean(before),
            "Macro AUC, pruning (%)": _mean(after),
            "Difference": _mean(differences[method]),
        }
    over_methods = np.mean(list(differences.values()), axis=0)  # [folds]
    rows["all"] = {
        "Pruned": _share(trials["Pruned", "mean"].sum(), trials["Trials", "mean"].sum()),
        "Share of the epochs (%)": Cell(100 * spent[1].sum() / spent[0].sum(), digits=0),
        "Macro AUC, no pruning (%)": "",
        "Macro AUC, pruning (%)": "",
        "Difference": _mean(over_methods),
    }
    return ResultTable("pruning", "With and without pruning", pruned.plan.caption, rows, note=_NOTE)


def _share(pruned: float, trials: float) -> str:
    return f"{pruned:.0f} of {trials:.0f}"


def _mean(values: np.ndarray) -> Cell:
    return Cell(float(np.mean(values)), float(np.std(values, ddof=1)))


if __name__ == "__main__":
    main()
