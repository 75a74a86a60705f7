"""Kinds of devices: one module knows them, and a name that is none gets a clear answer."""

from __future__ import annotations

import ast
import os
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import SMALL_TWIN
from test_layers import FILES, ROOT

from mil_bench import devices
from mil_bench.cli import main
from mil_bench.errors import InputError
from mil_bench.running.setup import Machine, Setup

if TYPE_CHECKING:
    from pathlib import Path

KNOWING = {
    "mil_bench/devices.py",
    "benchmarks/speed/race/torchmil_loop.py",  # runs where mil-bench is not installed
    "mil_bench/seeds.py",  # the only module that touches generators, those of GPUs included
}


def _asks(node: ast.AST) -> bool:
    """Whether code looks at the kind of a device."""
    if isinstance(node, ast.Constant):
        return node.value in ("cuda", "mps")
    if not isinstance(node, ast.Attribute):
        return False
    if node.attr == "type":
        return "device" in ast.unparse(node.value)
    return node.attr in ("is_cuda", "is_cpu", "is_mps") or ast.unparse(node) == "torch.cuda"


@pytest.mark.parametrize(
    "code", ["x.is_cuda", "x.device.type", "device.type", "torch.cuda.empty_cache()", "d == 'cuda'"]
)
def test_a_look_at_the_kind_of_a_device_is_found(code: str) -> None:
    assert any(_asks(node) for node in ast.walk(ast.parse(code)))


def test_one_module_knows_kinds_of_devices() -> None:
    asking = {
        f"{name}, line {node.lineno}"
        for path in FILES
        if (name := path.relative_to(ROOT).as_posix()) not in KNOWING
        for node in ast.walk(ast.parse(path.read_text()))
        if _asks(node) and not ast.unparse(node).startswith("devices.")
    }
    assert not asking


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("cpu", "cpu"),
        ("cuda", "cuda"),
        ("cuda:3", "cuda"),
        (torch.device("cuda", 1), "cuda"),
        (torch.ones(1), "cpu"),
        (torch.ones(1, device="meta"), "meta"),
    ],
)
def test_the_kind_of_a_name_a_device_and_a_tensor(where: object, kind: str) -> None:
    assert devices.kind_of(where) == kind
    assert devices.is_cpu(where) == (kind == "cpu")
    assert devices.is_gpu(where) == (kind == "cuda")


def test_inside_a_transform_a_tensor_is_where_it_was() -> None:
    seen = []
    torch.vmap(lambda x: seen.append(devices.kind_of(x)) or x)(torch.ones(2, device="meta"))
    assert seen == ["meta"]


@pytest.mark.parametrize("name", ["gpu", "0", "cuda:", "cuda:-1", "cuda:1000", "CPU", "", 3])
def test_a_name_that_is_no_device_is_refused(name: object) -> None:
    with pytest.raises(InputError, match=r"must be auto, cpu, cuda or cuda:NUMBER, not .*AMD cuda"):
        Setup(device=name)


def test_an_apple_gpu_is_refused_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--methods", "mean-pool", "--dataset", "digits", "--device", "mps"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "device=mps: Apple's GPUs are not supported" in said
    assert "device=cpu uses all cores of a Mac" in said


def test_a_gpu_that_is_not_there_is_refused_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Machine(None, "auto").resolve(1)[0] == "cpu"
    for version, reason in ((None, "was built without CUDA"), ("13.0", "look at the driver")):
        monkeypatch.setattr(torch.version, "cuda", version)
        with pytest.raises(InputError, match=rf"device=cuda, but torch finds no GPU.*{reason}"):
            Machine(None, "cuda").resolve(1)


@pytest.mark.parametrize("more", [[], ["--tune", "2"]], ids=["run", "tuned"])
def test_nothing_is_stored_of_a_run_whose_device_is_not_there(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--results", str(tmp_path / "results"), "--data", str(tmp_path / "data")]
    words = ["run", "--methods", "mean-pool", "--dataset", SMALL_TWIN, "--folds", "2", *places]
    assert main([*words, *more, "--device", "cuda"]) == 2
    assert "device=cuda, but torch finds no GPU" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_products_of_a_device_are_in_bfloat16_or_exact() -> None:
    cpu, one = torch.device("cpu"), torch.ones(2, 2)
    with devices.bfloat16_products(cpu):
        assert (one @ one).dtype == torch.bfloat16
        with devices.exact_products(cpu):
            assert (one @ one).dtype == torch.float32
    with devices.bfloat16_products(torch.device("meta")):  # has no such products
        assert (one.to("meta") @ one.to("meta")).dtype == torch.float32


def test_kernels_compute_in_the_same_order_inside_the_block_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with devices.same_order(torch.device("cpu")):  # there they do anyway
        assert not torch.are_deterministic_algorithms_enabled()
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with devices.same_order(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
