"""How long commands take until they say something, and until they end.

    python -m mil_bench.benchmarks.speed.start

Runs each command as a user does, in a process of its own, after one call that is not counted, and
prints the median beside its target: the first output of ``run``, ``runs list`` in an empty folder,
``run --dry-run``, and ``report`` of the demo's run. CPU seconds are beside them, since other load
on the machine lengthens the time and not the work.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mil_bench.benchmarks.speed.timing import table

DEMO = (
    *("run", "--dataset", "digits", "--preset", "quick", "--no-tracking"),
    *("--methods", "mean-pool", "max-pool", "mean-mlp", "linear-probe", "knn-probe", "simple-mil"),
    *("detector", "dsmil", "abmil", "abmil-gated", "acmil", "clam-sb", "hmil"),
)
"""What ``make demo`` runs."""


@dataclass(frozen=True)
class Command:
    """A command to time.

    Args:
        title: in the table.
        words: of the command line.
        target: seconds that it may take.
        first: whether only the time until its first output counts.
    """

    title: str
    words: tuple[str, ...]
    target: float
    first: bool = False


@dataclass(frozen=True)
class Cost:
    """Seconds of one call.

    Args:
        wall: until its first output or its end.
        cpu: of the process and those that it started, until the same moment.
    """

    wall: float
    cpu: float


def measure(command: Command, folder: Path) -> Cost:
    """Call a command once.

    Args:
        command: to call.
        folder: where it runs.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    before, started = os.times(), time.perf_counter()
    words = [sys.executable, "-m", "mil_bench", *command.words]
    with subprocess.Popen(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        wall = time.perf_counter() - started
        if command.first:
            process.kill()
        else:
            process.communicate()
            wall = time.perf_counter() - started
    if process.returncode and not command.first:
        raise subprocess.CalledProcessError(process.returncode, words)
    after = os.times()
    cpu = after.children_user + after.children_system
    return Cost(wall, cpu - before.children_user - before.children_system)


def commands(run: str) -> list[Command]:
    """The commands with their targets.

    Args:
        run: name of the demo's run; "" leaves ``report`` out.
    """
    report = [Command("report of the demo", ("report", run), 4.0)] if run else []
    return [
        Command("first output of run", DEMO, 1.0, first=True),
        Command("runs list, empty folder", ("runs", "list", "--results", "none"), 0.4),
        Command("run --dry-run", (*DEMO, "--dry-run"), 2.0),
        *report,
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5, help="turns per command (default: 5)")
    parser.add_argument(
        "--results", type=Path, help="folder of results with the demo's run; else no report"
    )
    arguments = parser.parse_args()
    run = ""
    if arguments.results is not None:
        run = min(path.name for path in (arguments.results / "reports").iterdir())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run(
            [sys.executable, "-m", "mil_bench", *DEMO, "--dry-run"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        if run:
            (folder / "results").symlink_to(arguments.results.resolve())
        rows = []
        for command in commands(run):
            costs = [measure(command, folder) for _ in range(arguments.turns)]
            wall = statistics.median(cost.wall for cost in costs)
            cpu = statistics.median(cost.cpu for cost in costs)
            rows.append([command.title, f"{wall:.2f}", f"{cpu:.2f}", f"{command.target:g}"])
    print(f"Seconds, median of {arguments.turns} turns\n")
    print(table(["command", "seconds", "CPU seconds", "target"], rows))


if __name__ == "__main__":
    main()
