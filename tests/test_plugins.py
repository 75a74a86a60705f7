"""Bringing a method: a package, a single file, and what goes wrong with them."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from conftest import SMALL_TWIN

import mil_bench
from mil_bench import registry
from mil_bench.cli import main
from mil_bench.datasets.catalogue import find_dataset
from mil_bench.errors import InputError, PluginError, UnknownNameError
from mil_bench.methods import Method
from mil_bench.registry import Registry


def run_quick(*words: str) -> int:
    return main(
        ["run", "--dataset", SMALL_TWIN, "--folds", "2", "--epochs", "1", "--no-tracking", *words]
    )


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        registry, "methods", Registry("mil_bench.methods", "method")
    )  # nothing stays registered
    return tmp_path


@pytest.mark.slow
def test_a_new_plugin_is_small_installs_passes_and_runs(
    workplace: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["methods", "new", "my-method"]) == 0
    assert len((workplace / "my-method" / "my_method.py").read_text().splitlines()) <= 40
    # Installed beside this environment's packages, into a folder of its own: nothing is downloaded,
    # nothing stays.
    site = workplace / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site),
    ]
    subprocess.run([*pip, str(workplace / "my-method")], check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}

    def call(*words: str) -> str:
        command = [sys.executable, "-m", "mil_bench", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "my-method" in call("methods", "list")
    assert "my-method: 15 of 15 checks pass" in call("methods", "check", "my-method")
    options = [
        "--dataset",
        SMALL_TWIN,
        "--folds",
        "2",
        "--epochs",
        "1",
        "--no-tracking",
        "--workers",
        "2",
    ]
    shown = call("run", "--methods", "my-method", "mean-pool", *options)
    assert {"my-method", "mean-pool"} <= {
        line.split()[0] for line in shown.splitlines() if line.split()
    }


@pytest.mark.slow
def test_a_single_file_works_without_packaging_and_a_change_of_it_trains_anew(
    workplace: Path, capsys: pytest.CaptureFixture
) -> None:
    main(["methods", "new", "my-method"])
    file = workplace / "my-method" / "my_method.py"
    assert run_quick("--plugin", str(file), "--methods", "my-method", "--on", "inline") == 0
    assert "my-method" in capsys.readouterr().out
    jobs = set((workplace / "results" / "runs").rglob("job.json"))
    file.write_text(file.read_text() + "\n")
    registry.methods._files.clear()
    assert run_quick("--plugin", str(file), "--methods", "my-method", "--on", "inline") == 0
    assert len(set((workplace / "results" / "runs").rglob("my-method/*/job.json")) - jobs) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("x = 1", "defines no method: no subclass of mil_bench.methods.method.Method"),
        (
            "from mil_bench.baselines.abmil import ABMIL as A\nclass ABMIL(A): pass",
            "both claim the method 'abmil'",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    workplace: Path, text: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    file = workplace / "plugin.py"
    file.write_text(text)
    if "ABMIL" in text:
        file.write_text(text.replace("class ABMIL", "class Abmil"))
    assert main(["methods", "check", "abmil", "--plugin", str(file)]) == 2
    assert message in capsys.readouterr().err


def test_modules_that_plugins_for_0_1_import_are_still_there() -> None:
    for former, present in (
        ("data.batch", "bags.batch"),
        ("data.hierarchy", "hierarchy"),
        ("data.segments", "bags.segments"),
    ):
        old = importlib.import_module(f"mil_bench.{former}")
        new = importlib.import_module(f"mil_bench.{present}")
        defined = {
            name
            for name, value in vars(new).items()
            if getattr(value, "__module__", "") == new.__name__ and not name.startswith("_")
        }
        assert set(old.__all__) == defined
        assert all(getattr(old, name) is getattr(new, name) for name in defined)


class _Point:
    """An entry point of a package that is not installed."""

    def __init__(self, name: str, value: str, package: str):
        self.name, self.value, self.dist = name, value, type("Dist", (), {"name": package})
        self.module, self.attr = value.split(":")
        self._real = metadata.EntryPoint(name, value, "mil_bench.methods")

    def load(self) -> object:
        return self._real.load()


def registry_with(monkeypatch: pytest.MonkeyPatch, *extra: _Point) -> Registry:
    installed = metadata.entry_points

    def entry_points(group: str) -> list[metadata.EntryPoint | _Point]:
        return [*installed(group=group), *(extra if group == "mil_bench.methods" else ())]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    return Registry("mil_bench.methods", "method")


def test_two_packages_that_claim_one_name_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = registry_with(monkeypatch, _Point("abmil", "other.file:ABMIL", "other-package"))
    with pytest.raises(
        PluginError,
        match=r"mil-bench \(mil_bench.baselines.abmil:ABMIL\) and "
        r"other-package \(other.file:ABMIL\)",
    ):
        offered.names()


def test_a_broken_package_is_listed_as_broken_and_the_rest_runs(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    broken = _Point("broken-one", "no_such_module:Broken", "broken-package")
    monkeypatch.setattr(registry, "methods", registry_with(monkeypatch, broken))
    assert main(["methods", "list"]) == 0
    assert "cannot be loaded: ModuleNotFoundError" in capsys.readouterr().out
    assert run_quick("--methods", "broken-one") == 2
    assert (
        "'broken-one' of broken-package (no_such_module:Broken) cannot be loaded"
        in capsys.readouterr().err
    )
    names = Registry.names
    monkeypatch.setattr(
        Registry,
        "names",
        lambda self: ["broken-one", "mean-pool"] if "methods" in self.group else names(self),
    )
    assert run_quick("--on", "inline") == 0
    shown = capsys.readouterr().out
    assert "! broken-one was left out: The method 'broken-one' of broken-package" in shown
    assert "mean-pool" in shown


@pytest.mark.slow
def test_the_check_command_tells_what_failed(
    workplace: Path, capsys: pytest.CaptureFixture
) -> None:
    main(["methods", "new", "my-method"])
    file = workplace / "my-method" / "my_method.py"
    file.write_text(file.read_text().replace("nn.Linear(in_dim, hidden)", "nn.Linear(12, hidden)"))
    capsys.readouterr()
    assert main(["methods", "check", "my-method", "--plugin", str(file)]) == 1
    shown = capsys.readouterr().out
    assert "FAIL  widths-and-classes" in shown
    assert "my-method: 14 of 15 checks pass" in shown


def test_a_method_is_built_by_name_and_wrong_parameters_suggest_near_ones() -> None:
    hierarchy = find_dataset("bracs").hierarchy
    method = mil_bench.build_method("abmil-gated", in_dim=16, hierarchy=hierarchy, attention_dim=8)
    assert isinstance(method, Method)
    assert method.attention_w.in_features == 8
    with pytest.raises(
        UnknownNameError, match=r"no setting of abmil 'atention_dim'. Did you mean attention_dim"
    ):
        mil_bench.build_method("abmil", in_dim=16, hierarchy=hierarchy, atention_dim=8)


def test_an_imported_checkpoint_predicts_as_the_state_it_came_from(
    workplace: Path, capsys: pytest.CaptureFixture
) -> None:
    hierarchy = find_dataset("bracs").hierarchy
    theirs = mil_bench.build_method("hmil", in_dim=16, hierarchy=hierarchy).eval()
    torch.save(theirs.state_dict(), "theirs.pt")
    words = [
        "methods",
        "import",
        "theirs.pt",
        "--method",
        "hmil",
        "--dataset",
        "bracs",
        "--in-dim",
        "16",
    ]
    assert main([*words, "--param", "temperature=0.5", "contrastive=false"]) == 0
    assert "theirs.mil-bench.pt: hmil with" in capsys.readouterr().out
    ours = mil_bench.load_method("theirs.mil-bench.pt")
    assert (ours.temperature, ours.contrastive) == (0.5, False)
    assert all(
        torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items()
    )
    assert main(words) == 2
    assert "theirs.mil-bench.pt: 1 problem\n  - it already exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"classifier.weight": torch.zeros(7, 3)}, "is missing"),
        ([torch.zeros(2)], "it does not contain a dict of tensors by their names"),
        ({"x": Path("code")}, "it contains more than tensors, so it was not opened"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    workplace: Path, content: object, message: str, capsys: pytest.CaptureFixture
) -> None:
    torch.save(content, "theirs.pt")
    assert main(["methods", "import", "theirs.pt", "--method", "abmil", "--dataset", "bracs"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("theirs.mil-bench.pt").exists()


def test_a_file_that_is_no_saved_method_is_refused(tmp_path: Path) -> None:
    torch.save({"state": {}}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="it is not a method that mil-bench saved"):
        mil_bench.load_method(tmp_path / "x.pt")
