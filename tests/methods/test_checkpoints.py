"""Checkpoints of the authors' code: what does not fit is said in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mil_bench
from mil_bench.cli import main
from mil_bench.hierarchy import LabelHierarchy

TWO = LabelHierarchy.flat(["tumour", "normal"])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def saved(name: str, prefix: str = "", **params: Any) -> dict[str, torch.Tensor]:
    method = mil_bench.build_method(name, 16, TWO, **params)
    state = {prefix + key: value for key, value in method.state_dict().items()}
    torch.save(state, "theirs.pt")
    return state


def convert(name: str, *words: str, dataset: str = "bracs") -> int:
    fixed = ["methods", "import", "theirs.pt", "--method", name, "--dataset", dataset]
    return main([*fixed, "--in-dim", "16", *words])


def card() -> str:
    Path("two.toml").write_text('name = "two"\nlabels = ["tumour", "normal"]\nfolds = 3\n')
    return "two.toml"


def test_another_number_of_classes_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    saved("clam-sb")
    assert convert("clam-sb") == 2
    shown = capsys.readouterr().err
    assert "the checkpoint has 2 classes, bracs has 7; mil-bench data new makes a card" in shown
    assert shown.count("\n  - ") == 1


def test_a_switch_that_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    saved("dsmil", none_class=True)
    assert convert("dsmil", dataset=card()) == 2
    assert "it fits with --param none_class=true" in capsys.readouterr().err
    assert convert("dsmil", "--param", "none_class=true", dataset=card()) == 0


def test_another_width_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    saved("clam-sb")
    assert convert("clam-sb", "--in-dim", "32", dataset=card()) == 2
    assert "the checkpoint is for 16 features, not 32; give --in-dim 16" in capsys.readouterr().err


def test_names_of_data_parallel_load_and_the_file_may_be_named() -> None:
    state = saved("clam-sb", prefix="module.")
    assert convert("clam-sb", "--out", "ours.pt", dataset=card()) == 0
    ours = mil_bench.load_method("ours.pt").state_dict()
    assert all(torch.equal(value, state[f"module.{name}"]) for name, value in ours.items())


@pytest.mark.parametrize(
    "content",
    [{1: torch.zeros(2)}, {}, {"a": {"b": torch.zeros(2)}}, torch.zeros(3), {"state_dict": {2: 3}}],
    ids=str,
)
@pytest.mark.parametrize("name", ["clam-sb", "dsmil", "abmil", "transmil", "hmil"])
def test_a_file_with_anything_else_gets_a_message(
    name: str, content: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, "theirs.pt")
    assert convert(name) == 2
    shown = capsys.readouterr().err
    assert "it does not contain a dict of tensors by their names" in shown
