"""``mil_bench.run`` called from scripts of every kind, each in a Python of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from conftest import SMALL_TWIN

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = f"""
print("the script runs")
import mil_bench
result = mil_bench.run("mean-pool", "{SMALL_TWIN}", folds=2, epochs=1,
                       tracking=False, progress=False)
print(len(result.trained["mean-pool"]), "trained", len(result.failures), "failed")
"""


def python(folder: Path, *words: str, script: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        input=script,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("from_file", [True, False], ids=["without a guard", "standard input"])
def test_a_script_runs_once_and_its_trainings_succeed(tmp_path: Path, from_file: bool) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = python(tmp_path, "script.py") if from_file else python(tmp_path, script=SCRIPT)
    assert done.stdout == "the script runs\n2 trained 0 failed\n", done.stderr
    assert done.returncode == 0


TYPO = """
from mil_bench.baselines.simple.pooling import MeanPool

class Typo(MeanPool):
    def loss(self, out, bags, weight, progress):
        return bags.labls
"""


@pytest.mark.slow
def test_debug_ends_with_the_traceback_of_the_first_error(tmp_path: Path) -> None:
    (tmp_path / "typo.py").write_text(TYPO)
    words = "run --debug --methods typo --plugin typo.py --folds 2 --epochs 1 --no-tracking"
    done = python(tmp_path, "-m", "mil_bench", *words.split(), "--dataset", SMALL_TWIN)
    assert done.returncode == 1
    assert 'typo.py", line 6, in loss\n    return bags.labls' in done.stderr
    assert "\nAttributeError: 'BagBatch' object has no attribute 'labls'" in done.stderr
