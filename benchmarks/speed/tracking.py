"""What tracking costs: the same run with MLflow and without, in turns.

    python -m mil_bench.benchmarks.speed.tracking [--repeats 3] [--methods NAME ...] [--dataset
    NAME] [--folder DIR]

Prints a Markdown table of ratios within this run. benchmarks/speed/README.md says what is compared
and why.
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
from mil_bench.benchmarks.speed.tracked_run import LAST_LINE
from rich.console import Console

_METHODS = ("mean-pool", "max-pool", "abmil", "abmil-gated", "hmil")
_UNTRACKED, _TRACKED = "untracked", "tracked"
_FIRST_TIME = "tracked, MLflow's file still to be made"


@dataclass(frozen=True)
class Cost:
    """The cost of a run.

    Args:
        clock: wall time, s.
        computing: CPU time of all processes, s.
        tracking: of it, CPU time of tracking's thread, s.
    """

    clock: float
    computing: float
    tracking: float = 0.0

    @property
    def share(self) -> float:
        """CPU time of tracking's thread, divided by the rest of the same run's CPU time."""
        return self.tracking / (self.computing - self.tracking)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="rounds; medians are shown (default: 3)"
    )
    parser.add_argument(
        "--methods", nargs="+", default=_METHODS, metavar="NAME", help="default: those of make demo"
    )
    parser.add_argument("--dataset", default="digits", metavar="NAME", help="default: digits")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="where to write: a folder on the disk to be measured",
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
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        costs = measure(Path(folder), words, arguments.repeats)
    print(f"mil-bench {' '.join(words)}\n")
    print(shown(costs))


def measure(folder: Path, words: list[str], repeats: int) -> dict[str, list[Cost]]:
    """Costs of each kind of run, measured in turn.

    Args:
        folder: an empty folder.
        words: the command, without options of folders and tracking.
        repeats: number of rounds.
    """
    costs: dict[str, list[Cost]] = {_UNTRACKED: [], _TRACKED: [], _FIRST_TIME: []}
    console = Console(stderr=True)
    with console.status("making the data and MLflow's file") as status:
        made = folder / "made"
        _run(folder, made, [*words, "--epochs", "1"])
        for number in range(repeats):
            for kind, of_kind in costs.items():
                status.update(f"round {number + 1} of {repeats}: {kind}")
                results = folder / "results"
                if kind == _TRACKED:
                    results.mkdir()
                    shutil.copy(made / "mlflow.db", results)
                options = ["--no-tracking"] if kind == _UNTRACKED else []
                of_kind.append(_run(folder, results, [*words, *options]))
                shutil.rmtree(results)
    return costs


def shown(costs: dict[str, list[Cost]]) -> str:
    """Costs as a Markdown table: medians, and how much they exceed those of the untracked run."""
    rows = []
    for kind, of_kind in costs.items():
        row = [kind]
        for part in ("clock", "computing"):
            seconds = statistics.median(getattr(cost, part) for cost in of_kind)
            alone = statistics.median(getattr(cost, part) for cost in costs[_UNTRACKED])
            row += [f"{seconds:.1f}", "" if kind == _UNTRACKED else f"{seconds / alone - 1:+.1%}"]
        share, thread = (
            statistics.median(getattr(c, part) for c in of_kind) for part in ("share", "tracking")
        )
        of_tracking = [f"{thread:.1f}", f"{share:.1%}", "< 5%"]
        rows.append([*row, *(["", "", ""] if kind == _UNTRACKED else of_tracking)])
    head = [
        "run",
        "wall time, s",
        "more",
        "CPU time, s",
        "more",
        "of it tracking's thread, s",
        "share",
        "target",
    ]
    return table(head, rows)


def _run(folder: Path, results: Path, words: list[str]) -> Cost:
    """One run in a new process."""
    folders = ["--results", str(results), "--data", str(folder / "data")]
    environment = {
        name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"
    }
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "mil_bench.benchmarks.speed.tracked_run", *words, *folders]
    errors = subprocess.run(
        command, check=True, capture_output=True, env=environment, text=True
    ).stderr
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    computing = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(clock, computing, float(errors.rpartition(LAST_LINE)[2]))


if __name__ == "__main__":
    main()
