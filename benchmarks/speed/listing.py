"""How long ``mil-bench runs list`` takes on a folder of many stored runs.

    python -m mil_bench.benchmarks.speed.listing

Makes a folder of runs with random predictions (six methods, ten folds, 540 slides each), lists it
with records that hold metric values and with records that do not, as older versions stored them,
and prints seconds next to those of importing pandas alone in the same run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mil_bench.benchmarks.speed.timing import alternate, table

from mil_bench.evaluation.metrics import named_values
from mil_bench.evaluation.predictions import Predictions, TrainedFold
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.planning.plan import Job, RunPlan
from mil_bench.results import Results
from mil_bench.running.result_store import ResultStore
from mil_bench.splits.plan import Fold, SplitPlan

if TYPE_CHECKING:
    from collections.abc import Callable

HIERARCHY = LabelHierarchy.from_groups(
    {"a": ["a0", "a1", "a2"], "b": ["b0", "b1"], "c": ["c0", "c1"]}
)
METHODS, FOLDS, SLIDES = 6, 10, 540


def make(folder: Path, runs: int, with_values: bool) -> None:
    """Fill a folder of results with runs."""
    store, rng = ResultStore(Results(folder).runs), np.random.default_rng(0)
    slides = tuple(f"s{number:03d}" for number in range(SLIDES))
    tests = [slides[k::FOLDS] for k in range(FOLDS)]
    folds = tuple(
        Fold(tuple(s for s in slides if s not in tests[k]), tests[(k + 1) % FOLDS], tests[k])
        for k in range(FOLDS)
    )
    splits = SplitPlan("patient-kfold", folds, "patient", (0,) * FOLDS, (0,) * FOLDS)
    for run in range(runs):
        jobs = tuple(
            Job("made", "d", f"m{m}", "1", {"run": run}, {"epochs": 1}, splits.digest, 0, f"m{m}")
            for m in range(METHODS)
        )
        plan = RunPlan("made", "made", HIERARCHY, splits, jobs)
        store.save_plan(plan)
        for job, fold in plan.trainings:
            labels = np.arange(len(tests[fold])) % HIERARCHY.n_fine
            fine = rng.dirichlet(np.ones(HIERARCHY.n_fine), len(labels))
            names = np.array(tests[fold])
            predictions = Predictions(names, labels, fine, names)
            result = TrainedFold(0, fold, job.key, predictions, curves={"val_loss": [1.0]})
            values = named_values(predictions, HIERARCHY) if with_values else None
            store.save_fold(job, result, values)


def command(*words: str) -> Callable[[], None]:
    """A Python process to time."""

    def run() -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50, help="number of runs (default: 50)")
    parser.add_argument("--turns", type=int, default=3, help="turns per command (default: 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {"with values": Path(scratch) / "new", "without values": Path(scratch) / "old"}
        for name, folder in folders.items():
            make(folder, arguments.runs, name == "with values")
        commands = {"import pandas": command("-c", "import pandas")}
        for name, folder in folders.items():
            words = ("-m", "mil_bench", "runs", "list", "--results", str(folder))
            commands[f"runs list, {name}"] = command(*words)
        seconds = alternate(commands, range(arguments.turns))
    base = seconds["import pandas"]
    rows = [[name, f"{s:.2f}", f"{s / base:.1f}"] for name, s in seconds.items()]
    print(
        f"{arguments.runs} runs of {METHODS} methods and {FOLDS} folds; "
        f"median of {arguments.turns} turns\n"
    )
    print(table(["command", "seconds", "ratio to importing pandas"], rows))


if __name__ == "__main__":
    main()
