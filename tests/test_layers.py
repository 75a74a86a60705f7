"""Repo-wide rules, read from the source: the order of imports, one door for each library, sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["data", "methods", "training", "running", "scaffold", "commands", "cli"]
LEAVES = {"errors", "seeds", "durable", "registry"}
DOORS = {
    # Packing and training are timed against what reads with h5py itself.
    "h5py": (
        "mil_bench/data/store.py",
        "mil_bench/data/readers/",
        "benchmarks/speed/packing.py",
        "benchmarks/speed/disk.py",
    ),
    "openpyxl": ("mil_bench/data/tables/workbook.py",),
    "mlflow": ("mil_bench/running/tracking/",),
    "optuna": ("mil_bench/running/tuning.py",),
    "jinja2": ("mil_bench/evaluation/report/page.py",),
    "matplotlib": ("mil_bench/evaluation/figures/", "benchmarks/speed/picture.py"),
    "scipy": ("mil_bench/evaluation/statistics.py",),
    "threadpoolctl": ("mil_bench/evaluation/bootstrap.py",),
}
PACKAGES = ("mil_bench", "baselines", "hmil", "benchmarks")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """All modules a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return found


def part(module: str) -> str:
    """The layer of a ``mil_bench`` module."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).with_suffix("").parts
    mine = own[1] if len(own) > 1 else ""
    used = {part(m) for m in imports(path) if m.startswith("mil_bench.")} - LEAVES
    if own[0] in ("baselines", "hmil"):
        others = {"baselines", "hmil", "benchmarks"} - {own[0]}
        assert not {m for m in imports(path) if m.split(".")[0] in others}
        assert used <= {"data", "methods"}
    elif own == ("benchmarks", "classic") or own[:2] in (("benchmarks", "speed"), ("benchmarks", "statistics")):
        assert "cli" not in used  # a command that uses the machine, not a card
    elif own[0] == "benchmarks":
        assert used <= {"data", "__version__"}
    elif mine in LEAVES:
        assert not used & {*LAYERS, "evaluation"}
    elif mine == "evaluation":
        assert {m for m in imports(path) if m.startswith("mil_bench.data")} <= {
            "mil_bench.data.hierarchy",
            "mil_bench.data.hierarchy.LabelHierarchy",
        }
        assert not used & {"methods", "training", "running", "cli"}
    elif mine in LAYERS:
        assert not used & set(LAYERS[LAYERS.index(mine) + 1 :])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_machine_names_no_guest(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] == "mil_bench":
        assert not {m for m in imports(path) if m.split(".")[0] in ("baselines", "hmil", "benchmarks")}


@pytest.mark.parametrize("library", DOORS)
def test_a_library_has_one_door(library: str) -> None:
    users = {str(p.relative_to(ROOT)) for p in FILES if any(m.split(".")[0] == library for m in imports(p))}
    strangers = {user for user in users if not user.startswith(DOORS[library])}
    assert not strangers


def test_baselines_do_not_import_each_other() -> None:
    for path in (ROOT / "baselines").glob("*.py"):
        assert not {m for m in imports(path) if m.startswith("baselines.")}, path


@pytest.mark.parametrize("command", [["--help"], ["list", "methods"], ["list", "datasets"], ["list", "protocols"]])
def test_answers_without_training_do_not_import_torch(command: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from mil_bench.cli import main\n"
        f"try: main({command!r})\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'mlflow', 'optuna', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


def test_evaluation_does_not_import_torch() -> None:
    own = ("running.across", "evaluation.report.terminal", "evaluation.report.page")
    code = f"import sys, {', '.join(f'mil_bench.{name}' for name in own)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_speed_is_measured_without_the_libraries_of_training() -> None:
    code = (
        "import sys, benchmarks.speed.data, benchmarks.speed.packing, benchmarks.speed.reading\n"
        "import benchmarks.speed.training, benchmarks.speed.contestants, benchmarks.speed.scale\n"
        "sys.exit(bool({'optuna', 'mlflow', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_modules_and_functions_stay_small() -> None:
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= 320, f"{path}: split it"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name} is too long"


def test_public_names_are_those_that_are_announced() -> None:
    import mil_bench

    assert mil_bench.__all__ == ["MilBenchError", "RunResult", "build_method", "load_method", "run"]
    for name in mil_bench.__all__:
        assert getattr(mil_bench, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        mil_bench.runn  # noqa: B018
