"""Methods that disturb a run on other machines, and the tables that must be equal all the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

METHODS = """
import os, signal, time
from mil_bench.baselines.simple.pooling import MeanPool

class Slow(MeanPool):
    '''Takes some seconds per epoch.'''

    def loss(self, out, bags, weight, progress):
        time.sleep(0.05)
        return super().loss(out, bags, weight, progress)

class Killer(MeanPool):
    '''Dies as a process does when memory runs out.'''

    def loss(self, out, bags, weight, progress):
        os.kill(os.getpid(), signal.SIGKILL)

class Typo(MeanPool):
    '''Fails.'''

    def loss(self, out, bags, weight, progress):
        return bags.labls
"""
TABLES = ("fine.csv", "coarse.csv", "classwise_auc.csv", "verdicts.csv")


def assert_equal_tables(folder: Path, results: str, other: str, run: str) -> None:
    """Two folders of results have the same tables of a run, byte for byte."""
    for name in TABLES:
        first, second = (folder / place / "reports" / run / name for place in (results, other))
        assert first.read_bytes() == second.read_bytes(), name


def stored_trials(results: Path) -> dict[str, dict[str, Any]]:
    """The stored trials of a folder of results by path, without the seconds that they took."""
    files = {}
    for path in (results / "studies").rglob("*.json"):
        record = json.loads(path.read_text())
        record.pop("seconds", None)
        files[str(path.relative_to(results))] = record
    return files
