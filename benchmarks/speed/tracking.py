"""What tracking costs: the same run with MLflow and without, in turns.

    python -m mil_bench.benchmarks.speed.tracking [--repeats 3] [--methods NAME ...] [--dataset
    NAME] [--folder DIR]

Prints a markdown table of ratios within this run. What is compared, and why, stands in
benchmarks/speed/README.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mil_bench.benchmarks.speed.timing import table
from mil_bench.benchmarks.speed.tracked_run import TOLD
from rich.console import Console

_METHODS = ("mean-pool", "max-pool", "abmil", "abmil-gated", "hmil")
_ALONE, _LATER, _FIRST = "untracked", "tracked", "tracked, MLflow's file still to be made"


@dataclass(frozen=True)
class Cost:
    """What a run took: seconds on the clock, of computing in all processes, and of that in tracking's thread."""

    clock: float
    computing: float
    tracking: float = 0.0

    @property
    def share(self) -> float:
        """Computing of tracking's thread, by what the same run computed beside it."""
        return self.tracking / (self.computing - self.tracking)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="turns; medians are shown (default: 3)"
    )
    parser.add_argument(
        "--methods", nargs="+", default=_METHODS, metavar="NAME", help="default: those of make demo"
    )
    parser.add_argument("--dataset", default="digits", metavar="NAME", help="default: digits")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where to write, on the disk in question"
    )
    arguments = parser.parse_args()
    if arguments.folder is not None and not arguments.folder.is_dir():
        parser.error(f"--folder {arguments.folder}: there is no such folder")
    words = [
        "run",
        "--methods",
        *arguments.methods,
        "--dataset",
        arguments.dataset,
        "--preset",
        "quick",
    ]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        costs = measure(Path(place), words, arguments.repeats)
    print(f"mil-bench {' '.join(words)}\n")
    print(shown(costs))


def measure(place: Path, words: list[str], repeats: int) -> dict[str, list[Cost]]:
    """Costs of each kind of run, in turns.

    Args:
        place: an empty folder.
        words: the command; it says nothing of folders and tracking.
        repeats: turns.
    """
    costs: dict[str, list[Cost]] = {_ALONE: [], _LATER: [], _FIRST: []}
    console = Console(stderr=True)
    with console.status("making the data, and a file of MLflow's") as status:
        made = place / "made"
        _run(place, made, [*words, "--epochs", "1"])
        for turn in range(repeats):
            for kind, own in costs.items():
                status.update(f"turn {turn + 1} of {repeats}: {kind}")
                results = place / "results"
                if kind == _LATER:
                    results.mkdir()
                    shutil.copy(made / "mlflow.db", results)
                own.append(
                    _run(place, results, [*words, *(["--no-tracking"] if kind == _ALONE else [])])
                )
                shutil.rmtree(results)
    return costs


def shown(costs: dict[str, list[Cost]]) -> str:
    """Costs as a markdown table: medians, and beside them by how much they are above those of the untracked run."""
    rows = []
    for kind, own in costs.items():
        row = [kind]
        for part in ("clock", "computing"):
            seconds = statistics.median(getattr(cost, part) for cost in own)
            alone = statistics.median(getattr(cost, part) for cost in costs[_ALONE])
            row += [f"{seconds:.1f}", "" if kind == _ALONE else f"{seconds / alone - 1:+.1%}"]
        share, thread = (
            statistics.median(getattr(c, part) for c in own) for part in ("share", "tracking")
        )
        rows.append(
            [*row, *(["", "", ""] if kind == _ALONE else [f"{thread:.1f}", f"{share:.1%}", "< 5%"])]
        )
    head = [
        "run",
        "clock, s",
        "more",
        "computing, s",
        "more",
        "of it tracking's thread, s",
        "share",
        "target",
    ]
    return table(head, rows)


def _run(place: Path, results: Path, words: list[str]) -> Cost:
    """One run in processes of its own."""
    folders = ["--results", str(results), "--data", str(place / "data")]
    environment = {
        name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"
    }
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "mil_bench.benchmarks.speed.tracked_run", *words, *folders]
    told = subprocess.run(
        command, check=True, capture_output=True, env=environment, text=True
    ).stderr
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    computing = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(clock, computing, float(told.rpartition(TOLD)[2]))


if __name__ == "__main__":
    main()
