"""Contestants of a cell in processes of their own, which take turns."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.benchmarks.speed.race.cells import Spec


@dataclass(frozen=True)
class Medians:
    """Medians of some turns: wall and CPU seconds per fold and epoch, and peak memory in MB."""

    wall: float
    cpu: float
    memory: float


class Contestant:
    """Processes that train the folds of a cell, each of them some of the folds.

    Args:
        kind: see ``cells.Spec``, or "torchmil".
        spec: the cell; its folds are distributed among the processes.
        processes: their number.
        interpreter: the Python that runs them.
    """

    def __init__(self, kind: str, spec: Spec, processes: int, interpreter: str) -> None:
        shares = [spec.folds[i::processes] for i in range(processes)]
        self._folds = len(spec.folds)
        self._children = [
            self._start(dataclasses.replace(spec, kind=kind, folds=share), interpreter)
            for share in shares
            if share
        ]
        for child in self._children:
            if _pipes(child)[1].readline().strip() != "ready":
                raise SystemExit(f"{kind} did not start")

    def _start(self, spec: Spec, interpreter: str) -> subprocess.Popen[str]:
        content = dataclasses.asdict(spec)
        what = ["-m", "mil_bench.benchmarks.speed.race.contestants"]
        if spec.kind == "torchmil":
            what = [str(Path(__file__).parent / "torchmil_loop.py")]
            content |= {
                "sizes": spec.sizes().tolist(),
                "trains": [spec.trains(k).tolist() for k in spec.folds],
            }
        command = [interpreter, *what, json.dumps(content)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self) -> Medians:
        """Train one epoch of all folds; the cost per fold."""
        for child in self._children:
            print(file=child.stdin, flush=True)
        answers = [json.loads(_pipes(child)[1].readline()) for child in self._children]
        return Medians(
            max(a["wall"] for a in answers) / self._folds,
            sum(a["cpu"] for a in answers) / self._folds,
            sum(a["memory"] for a in answers),
        )

    def close(self) -> None:
        """End the processes."""
        for child in self._children:
            for pipe in _pipes(child):
                pipe.close()
            child.wait()


def _pipes(child: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    """Standard input and output of a child process."""
    assert child.stdin is not None
    assert child.stdout is not None
    return child.stdin, child.stdout


def compete(
    kinds: Mapping[str, tuple[int, str]], spec: Spec, starts: int, turns: int
) -> dict[str, Medians]:
    """Medians of all contestants, which take turns; the first turn after a start is a warm-up.

    Args:
        kinds: number of processes and interpreter of each kind; the processes of a kind share the
            threads.
        spec: the cell, with all threads.
        starts: how often the processes are started. All turns of one start can be a fifth slower
            than those of another, so several starts are needed.
        turns: turns per start.
    """
    measured: dict[str, list[Medians]] = {kind: [] for kind in kinds}
    for _ in range(starts):
        with contextlib.ExitStack() as stack:
            contestants = {}
            for kind, (processes, interpreter) in kinds.items():
                share = dataclasses.replace(spec, threads=spec.threads // processes)
                contestant = Contestant(kind, share, processes, interpreter)
                contestants[kind] = stack.enter_context(contextlib.closing(contestant))
            for turn in range(turns + 1):
                for kind, contestant in contestants.items():
                    result = contestant.turn()
                    if turn:
                        measured[kind].append(result)
    names = [field.name for field in dataclasses.fields(Medians)]
    return {
        kind: Medians(*(statistics.median(getattr(turn, name) for turn in turns) for name in names))
        for kind, turns in measured.items()
    }
