"""Repo-wide rules, read from the source: the order of imports, one door for each library, sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = [
    "wording",
    "errors",
    "devices",
    "results",
    "file_values",
    "seeds",
    "processes",
    "durable",
    "progress",
    "registry",
    "hierarchy",
    "bags",
    "data",  # former names, for plugins
    "splits",
    "datasets",
    "intake",
    "split_files",
    "public",
    "methods",
    "evaluation",
    "training",
    "report",
    "planning",
    "running",
    "run_file",
    "methods.conformance",  # it trains the methods that it checks
    "tuning",
    "inference",
    "maps",
    "runs",
    "sharing",
    "tracking",
    "cluster",
    "api",
    "papers",
    "commands",
    "cli",
]
"""The parts of the package in order: each imports only from those before it."""
DOORS = {
    # Packing and training are timed against what reads with h5py itself.
    "h5py": (
        "mil_bench/bags/store.py",
        "mil_bench/bags/index.py",
        "mil_bench/bags/layout.py",
        "mil_bench/intake/readers/",
        "benchmarks/speed/packing.py",
        "benchmarks/speed/race/disk.py",
    ),
    "openpyxl": ("mil_bench/datasets/tables/workbook.py",),
    "mlflow": ("mil_bench/tracking/",),
    "distributed": ("mil_bench/cluster/dask.py",),
    "huggingface_hub": ("mil_bench/public/fetch.py",),
    "pyarrow": ("mil_bench/public/layouts/parquet.py",),
    "optuna": ("mil_bench/tuning/proposals.py",),
    "jinja2": ("mil_bench/report/render/page.py",),
    "openslide": ("mil_bench/maps/slide_image.py",),
    "matplotlib": (
        "mil_bench/report/figures/",
        "benchmarks/speed/race/picture.py",
        "benchmarks/statistics/picture.py",
    ),
    "scipy": ("mil_bench/evaluation/", "benchmarks/statistics/"),
    "tomli_w": ("mil_bench/run_file.py",),
    "safetensors": ("mil_bench/sharing/model_file.py",),
    "threadpoolctl": (
        "mil_bench/evaluation/bootstrap.py",
        "mil_bench/training/own_fit.py",
        "benchmarks/statistics/__main__.py",
    ),
}
GUESTS = ("baselines", "hmil", "benchmarks")
INSIDE = (
    "baselines.rrt",
    "baselines.simple",
    "baselines.transformer",
    "benchmarks.paper",
    "benchmarks.public",
)
PACKAGES = ("mil_bench", *GUESTS)
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
    inner = ".".join(module.split(".")[1:3])
    return inner if inner in LAYERS else module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).with_suffix("").parts
    used = {part(m) for m in imports(path) if m.startswith("mil_bench.")} - {
        *PACKAGES,
        "__version__",
    }
    if own[0] in ("baselines", "hmil"):
        assert used <= {"bags", "datasets", "devices", "errors", "hierarchy", "methods"}
    elif own[0] == "mil_bench" and (layer := part(".".join(own))) in LAYERS:
        above = {*LAYERS[LAYERS.index(layer) + 1 :]}
        assert not used & above


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_machine_names_no_guest(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] == "mil_bench":
        assert not {m for m in imports(path) if part(m) in ("baselines", "hmil", "benchmarks")}


@pytest.mark.parametrize("library", DOORS)
def test_a_library_has_one_door(library: str) -> None:
    users = {
        str(p.relative_to(ROOT))
        for p in FILES
        if any(m.split(".")[0] == library for m in imports(p))
    }
    strangers = {user for user in users if not user.startswith(DOORS[library])}
    assert not strangers


def test_baselines_do_not_import_each_other() -> None:
    for path in (ROOT / "baselines").glob("*.py"):
        assert not {m for m in imports(path) if part(m) == "baselines"}, path


@pytest.mark.parametrize(
    "command", [["--help"], ["list", "methods"], ["list", "datasets"], ["list", "protocols"]]
)
def test_answers_without_training_do_not_import_torch(command: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from mil_bench.cli import main\n"
        f"try: main({command!r})\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'mlflow', 'optuna', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
    )


def test_evaluation_does_not_import_torch() -> None:
    own = ("runs.ranking", "report.render.terminal", "report.render.page")
    modules = ", ".join(f"mil_bench.{name}" for name in own)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_speed_is_measured_without_the_libraries_of_training() -> None:
    code = (
        "import sys; from mil_bench.benchmarks.speed import data, packing, reading, scale\n"
        "from mil_bench.benchmarks.speed import training\n"
        "from mil_bench.benchmarks.speed.race import contestants\n"
        "sys.exit(bool({'optuna', 'mlflow', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_folder_holds_one_subject_and_at_most_13_modules() -> None:
    for folder in {path.parent for path in FILES}:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 13, f"{folder}: part it"


def test_no_module_imports_itself_in_a_circle() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    graph = {
        name: {
            m for m in imports(path) if m in modules and m != name and not name.startswith(f"{m}.")
        }
        for name, path in modules.items()
    }
    while leaves := [name for name, used in graph.items() if not used & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"in circles, or above one: {', '.join(sorted(graph))}"


def test_all_folders_are_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    here = {".".join(p.parent.relative_to(ROOT).parts) for p in ROOT.glob("mil_bench/**/*.py")}
    here |= {f"mil_bench.{name}" for name in (*GUESTS, *INSIDE)}
    assert set(settings["packages"]) == here


def test_all_templates_are_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["mil_bench"]
    package = ROOT / "mil_bench"
    installed = {path for pattern in patterns for path in package.glob(pattern)}
    assert set((package / "templates").iterdir()) <= installed


def test_modules_and_functions_stay_small() -> None:
    for path in FILES:
        text = path.read_text()
        assert text.count("\n") <= 400, f"{path}: split it"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = node.end_lineno - body[0].lineno if body else 0
                assert lines < 60, f"{path}: {node.name} is too long"


def test_public_names_are_those_that_are_announced() -> None:
    import mil_bench

    assert mil_bench.__all__ == [
        "MilBenchError",
        "RunResult",
        "build_method",
        "load_method",
        "load_model",
        "open_run",
        "run",
    ]
    for name in mil_bench.__all__:
        assert getattr(mil_bench, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        mil_bench.runn  # noqa: B018
