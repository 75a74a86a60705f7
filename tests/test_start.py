"""What commands import before they say something; ``benchmarks/speed/start`` measures the time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL_TWIN
from mil_bench.benchmarks.speed.start import DEMO, Command, commands, measure

from mil_bench.cli import main

HEAVY = {"numpy", "pandas", "scipy", "sklearn", "rich", "torch", "pydantic", "matplotlib"}


def heavy_after(code: str, folder: Path) -> tuple[set[str], str]:
    """The heavy libraries that a program has imported, and its standard error."""
    program = f"import sys\n{code}\nprint(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split()), done.stderr


def test_the_command_line_itself_imports_nothing_heavy(tmp_path: Path) -> None:
    assert heavy_after("import mil_bench.cli", tmp_path)[0] == set()


def test_the_list_of_an_empty_folder_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "from mil_bench.cli import main; main(['runs', 'list'])"
    assert heavy_after(code, tmp_path)[0] == set()


def test_a_run_says_what_it_does_before_it_imports_torch(tmp_path: Path) -> None:
    code = (
        "sys.modules['mil_bench.api'] = None\n"
        "from mil_bench.cli import main\n"
        "try: main(['run', '--dataset', 'digits', '--methods', 'abmil'])\n"
        "except ImportError: pass"
    )
    imported, shown = heavy_after(code, tmp_path)
    assert shown == "mil-bench: planning the comparison on digits\n"
    assert not imported & {"torch", "pandas", "scipy", "sklearn", "rich"}


def test_a_dry_run_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "--dataset", SMALL_TWIN, "--methods", "mean-pool", "--folds", "2", "--dry-run"]
    assert main(words) == 0
    assert "2 of 2 folds to train" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_time_until_the_first_output_is_a_part_of_the_whole(tmp_path: Path) -> None:
    words = ("runs", "list", "--results", "none")
    first = measure(Command("first", words, 1.0, first=True), tmp_path)
    assert 0 < first.wall < 60
    with pytest.raises(subprocess.CalledProcessError):
        measure(Command("wrong", ("runs", "compare", "x"), 1.0), tmp_path)
    assert [command.title for command in commands("")] == [
        "first output of run",
        "runs list, empty folder",
        "run --dry-run",
    ]


def test_what_is_timed_is_the_demo() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    methods = next(line for line in makefile.splitlines() if line.startswith("DEMO := "))
    assert methods.split()[2:] == list(DEMO[DEMO.index("--methods") + 1 :])


def test_the_program_leaves_its_garbage_to_the_end_of_the_process() -> None:
    code = (
        "import gc\n"
        "from mil_bench.cli import program\n"
        "sys.argv = ['mil-bench', 'splits', 'protocols']\n"
        "assert program() == 0\n"
        "print(gc.get_threshold()[0] > 700, gc.get_freeze_count() > 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "True True"
