"""Values measured on the authors' released code, and how to compare with them.

``tests/golden/<method>__<case>.json`` holds our measurements, without weights and features: a
weight of the released name ``n`` is ``0.05 * default_rng(crc32(n)).standard_normal(shape)``, plus 1
for the scale of a normalisation; an input is ``default_rng(seed).standard_normal((N, D))``.
Differences are divided by ``max(1, |golden|)``. The many files of newer methods are kept together:
``<method>.json.xz`` is a JSON object of what would be the files, by name.
"""

from __future__ import annotations

import json
import lzma
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mil_bench.bags.batch import BagBatch
from mil_bench.hierarchy import LabelHierarchy

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).parent / "golden"
TOLERANCE = {torch.float64: 1e-10, torch.float32: 5e-5}


def read(name: str) -> dict[str, Any]:
    """One golden file."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else _together()[name]


def cases(method: str) -> list[str]:
    """Names of the golden files of a method."""
    alone = [path.stem for path in FOLDER.glob(f"{method}__*.json")]
    return sorted([*alone, *(name for name in _together() if name.startswith(f"{method}__"))])


@cache
def _together() -> dict[str, Any]:
    """The golden files that are kept together, by name."""
    files = {}
    for path in FOLDER.glob("*.json.xz"):
        files.update(json.loads(lzma.decompress(path.read_bytes())))
    return files


def results(golden: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The values in a precision."""
    return golden["results"][str(dtype).removeprefix("torch.")]


def rule_weight(name: str, shape: list[int], kind: str) -> torch.Tensor:
    """A weight by the rule, float32."""
    drawn = 0.05 * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy((drawn + (kind == "one_plus")).astype(np.float32))


def official_state(golden: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of a golden file under the released names."""
    return {
        name: torch.arange(shape[0]) if kind == "keep" else rule_weight(name, shape, kind)
        for name, shape, kind, _ in golden["params"]
    }


def bags_of(golden: Mapping[str, Any], dtype: torch.dtype, labels: list[int]) -> BagBatch:
    """The input bags of a golden file as one batch."""
    parts = []
    for made in golden.get("inputs") or [golden["input"]]:
        rows = (
            np.random.default_rng(made["seed"])
            .standard_normal((made["N"], made["D"]))
            .astype(np.float32)
        )
        parts.append(rows * np.float32(made["scale"]) if "scale" in made else rows)
    features = torch.from_numpy(np.concatenate(parts)).to(dtype)
    return BagBatch.pack(features, torch.tensor([len(p) for p in parts]), torch.tensor(labels))


def flat(classes: int) -> LabelHierarchy:
    """So many classes without coarse ones."""
    return LabelHierarchy.flat([f"c{c}" for c in range(classes)])


def assert_golden(found: torch.Tensor, golden: object, tolerance: float, what: str = "") -> None:
    """Equal up to ``tolerance * max(1, |golden|)``."""
    expected = np.asarray(golden, dtype=np.float64)
    actual = found.detach().double().numpy()
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, golden {expected.shape}"
    worst = np.max(np.abs(actual - expected) / np.maximum(1, np.abs(expected)), initial=0.0)
    assert worst <= tolerance, f"{what}: off by {worst:.2e}"


def assert_summary(
    found: torch.Tensor, golden: Mapping[str, Any], tolerance: float, what: str = ""
) -> None:
    """A vector against the recorded parts of its summary: first8, sum, sumsq, moment, max, ..."""
    values = found.detach().double().flatten()
    index = torch.arange(1, len(values) + 1, dtype=torch.float64)
    summary = {
        "first8": values[:8],
        "sum": values.sum(),
        "sumsq": values.square().sum(),
        "moment": (index * values).sum() / len(values),
        "max": values.max(),
        "argmax": values.argmax(),
        "norm": values.norm(),
    }
    for key in golden.keys() & summary.keys():
        assert_golden(summary[key], golden[key], tolerance, f"{what} {key}")


def assert_tokens(
    tokens: torch.Tensor, golden: Mapping[str, Any], tolerance: float, stage: str
) -> None:
    """The rows after a stage, by their number, sums, and the first numbers of two of them."""
    assert len(tokens) == golden["tokens"]
    assert_summary(tokens, {key: golden[key] for key in ("sum", "sumsq")}, tolerance, stage)
    assert_golden(tokens[0, :8], golden["first_token_first8"], tolerance, stage)
    assert_golden(tokens[-1, :8], golden["last_token_first8"], tolerance, stage)


def assert_gradients(
    parameters: Mapping[str, torch.nn.Parameter], golden: Mapping[str, Any], tolerance: float
) -> None:
    """Every recorded gradient, by released name; None means that the parameter takes no part."""
    assert golden.keys() <= parameters.keys()
    for name, recorded in golden.items():
        gradient = parameters[name].grad
        if recorded is None:
            assert gradient is None or not gradient.any(), name
            continue
        gradient = torch.zeros_like(parameters[name]) if gradient is None else gradient
        assert_golden(gradient.norm(), recorded["norm"], tolerance, f"{name} norm")
        assert_golden(gradient.flatten()[:4], recorded["first4"], tolerance, f"{name} first4")
