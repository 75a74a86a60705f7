"""Methods that are given as classes: of a notebook, a script, or an installed package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_TWIN
from mil_bench.baselines.simple.pooling import MeanPool

import mil_bench
from mil_bench import registry
from mil_bench.errors import InputError, PluginError
from mil_bench.planning.rows import MethodRow
from mil_bench.registry import Registry
from mil_bench.registry.class_digest import class_digest

CELL = '''
from mil_bench.bags.segments import segment_mean
from mil_bench.methods import Method, Output, Recipe
from torch import nn

FACTOR = 2
KINDS = {"b", "a", "c"}


def scaled(values):
    return FACTOR * values


class MyMethod(Method):
    """Mean pooling, scaled."""

    recipe = Recipe(learning_rate=1e-3, epochs=1)

    def __init__(self, in_dim, hierarchy, hidden=8):
        super().__init__(in_dim, hierarchy)
        self.net = nn.Sequential(nn.Linear(in_dim, hidden), nn.Linear(hidden, hierarchy.n_fine))

    def forward(self, bags):
        assert "a" in {"b", "a", "c"}
        return Output(scaled(self.net(segment_mean(bags.features, bags))))
'''


@pytest.fixture(autouse=True)
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.chdir(tmp_path)
    offered = Registry("mil_bench.methods", "method")
    monkeypatch.setattr(registry, "methods", offered)
    return offered


def cell(text: str = CELL) -> Any:
    """The class that a notebook's cell defines."""
    names: dict[str, Any] = {"__name__": "notebook"}
    exec(compile(text, "<cell>", "exec", dont_inherit=True), names)
    return names["MyMethod"]


def run(*methods: Any, **options: Any) -> mil_bench.RunResult:
    options = {"folds": 2, "epochs": 1, "tracking": False, "progress": False, **options}
    return mil_bench.run(methods, SMALL_TWIN, **options)


@pytest.mark.slow
def test_a_class_of_a_notebook_is_trained_in_this_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = run(cell(), "my-method:hidden=4", "mean-pool", progress=True)
    assert result.failures == ()
    assert {"my-method", "my-method:hidden=4", "mean-pool"} <= set(result.trained)
    assert "my-method: a class of this session, so all methods are tr" in capsys.readouterr().err


@pytest.mark.slow
def test_a_changed_cell_is_another_method() -> None:
    changes = {
        "FACTOR = 2": "FACTOR = 3",  # a global that a function names
        "FACTOR * values": "values * FACTOR",  # the code of that function
        "learning_rate=1e-3": "learning_rate=1e-2",
        "hidden=8": "hidden=9",
        "bags.features, bags)": "1 + bags.features, bags)",
    }
    digests = [class_digest(cell(CELL.replace(old, new))) for old, new in changes.items()]
    assert len({*digests, class_digest(cell())}) == len(changes) + 1
    assert class_digest(cell("# a comment\n" + CELL)) == class_digest(cell())
    run(cell())
    run(cell(CELL.replace("FACTOR = 2", "FACTOR = 3")))
    run(cell())
    assert len(list(Path("results/runs").rglob("my-method/*/job.json"))) == 2


@pytest.mark.slow
def test_a_digest_is_the_same_in_another_process() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_session_classes import cell, class_digest; print(class_digest(cell()))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        assert done.stdout.strip() == class_digest(cell())


def test_a_class_of_a_package_goes_by_its_name(offered: Registry) -> None:
    assert offered.add_class(MeanPool) == "mean-pool"
    assert not offered.is_of_session("mean-pool")


def test_a_class_with_the_name_of_a_method_is_refused() -> None:
    taken = cell(CELL.replace("MyMethod", "Abmil") + "\nMyMethod = Abmil")
    with pytest.raises(PluginError, match=r"method 'abmil' is already there: mil-bench \(mil_b"):
        run(taken)


@pytest.mark.parametrize("wrong", [42, int, None, cell])
def test_what_is_no_method_is_named(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"is neither a name nor a class of mil_bench.methods.M"):
        run("mean-pool", wrong)


def test_a_row_of_a_class_is_refused() -> None:
    with pytest.raises(InputError, match=r"MethodRow.method is <class .*>, not a name"):
        MethodRow(MeanPool)
