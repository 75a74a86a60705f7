"""SimpleMIL against values measured on its authors' code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import goldens
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import random_batch
from goldens import TOLERANCE, assert_golden, assert_summary, flat
from mil_bench.baselines import simple_mil
from mil_bench.baselines.simple_mil import SimpleMIL

from mil_bench.bags.batch import BagBatch
from mil_bench.bags.segments import attention_pool
from mil_bench.errors import InputError
from mil_bench.methods.conformance import CHECKS, Check

if TYPE_CHECKING:
    from mil_bench.hierarchy import LabelHierarchy

CASES = goldens.cases("simplemil")
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def read(case: str, dtype: torch.dtype) -> tuple[dict, SimpleMIL, BagBatch]:
    golden = goldens.read(case)
    s = golden["settings"]
    labels = golden["labels"].get("bags") or [golden["labels"]["bag"]]
    model = SimpleMIL(
        s["input_dim"],
        flat(s["pred_num"]),
        s["hidden_dim"],
        0.0,
        s["activation"],
        s["stride_divisor"],
        not s["no_feature_select"],
    )
    model.load_official_state(goldens.official_state(golden))
    return golden, model.to(dtype).eval(), padded(golden, dtype, labels)


def padded(golden: dict, dtype: torch.dtype, labels: list[int]) -> BagBatch:
    """The bags, with the zero rows that the release puts behind them."""
    bags, rows = goldens.bags_of(golden, dtype, labels), golden["settings"]["padded_to"]
    if not rows:
        return bags
    parts = [F.pad(x, (0, 0, 0, rows - len(x))) for x in bags.features.split(bags.lengths)]
    return BagBatch.pack(torch.cat(parts), torch.tensor([rows] * len(parts)), bags.labels)


@both_precisions
@pytest.mark.parametrize("case", CASES)
def test_evaluation_agrees_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    golden, model, bags = read(case, dtype)
    expected, tolerance = goldens.results(golden, dtype)["forward"], TOLERANCE[dtype]
    with torch.no_grad():
        out = model(bags)
    assert_golden(out.fine, expected["logits"], tolerance)
    assert_golden(out.fine.softmax(1), expected["probabilities"], tolerance)
    if model.activation == "softmax":
        assert out.attention is out.extras["weights"]
    for b, part in enumerate(out.extras["weights"].split(bags.lengths)):
        assert_summary(part, expected["attention"][b], tolerance, "attention")
        assert_summary(
            out.extras["embeddings"][b], expected["bag_embedding"][b], tolerance, "embedding"
        )
    if golden.get("cover"):
        assert golden["cover"]["starts"] == model.starts
        assert golden["cover"]["keep"] == model.keep


@both_precisions
@pytest.mark.parametrize("case", CASES)
def test_training_agrees_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    golden, model, bags = read(case, dtype)
    expected, tolerance = goldens.results(golden, dtype), TOLERANCE[dtype]
    index = golden.get("feature_index")
    if index and model.select:
        drawn = np.random.default_rng(index["seed"]).permutation(model.in_dim)[: model.keep]
        out = model.seeing(bags, torch.from_numpy(drawn))
    else:
        out = model(bags)
    loss = model.loss(out, bags, torch.ones(bags.n_bags, dtype=dtype), 0.0)
    loss.backward()
    assert_golden(out.fine, expected["training_forward"]["logits"], tolerance)
    assert_golden(loss, expected["losses"]["total"], tolerance)
    goldens.assert_gradients(dict(model.named_parameters()), expected["gradients"], tolerance)


@pytest.mark.parametrize("width", [257, 300, 384, 512, 768, 1024, 1536, 2560])
def test_the_channels_are_in_the_order_of_the_release(width: int) -> None:
    recorded = goldens.read(f"simplemil_permutation_{width}")["permutation"]
    assert SimpleMIL(width, flat(2))._order.tolist() == recorded


def test_it_has_as_many_parameters_as_the_released_model() -> None:
    assert sum(p.numel() for p in SimpleMIL(1024, flat(7)).parameters()) == 532_232


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(InputError, match="activation is 'cube'"):
        SimpleMIL(8, flat(2), activation="cube")


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Over the last axis, as the release computes it."""
    return -(probabilities * (probabilities + 1e-8).log()).sum(-1)


UNCERTAIN = [
    case
    for case in CASES
    if goldens.results(goldens.read(case), torch.float64)["forward"].get("entropy_per_chunk")
]


@both_precisions
@pytest.mark.parametrize("case", UNCERTAIN)
@torch.no_grad()
def test_every_window_agrees_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    golden, model, bags = read(case, dtype)
    expected, tolerance = goldens.results(golden, dtype)["forward"], TOLERANCE[dtype]
    attention = model.windows(bags)  # [N, W]
    logits = model.cls(attention_pool(attention, bags.features, bags))  # [B, W, C]
    assert logits.shape[1] == expected["chunks"]
    probabilities = logits.softmax(-1)
    of_mean, of_windows = entropy(probabilities.mean(1)), entropy(probabilities)  # [B], [B, W]
    values = {
        "entropy_of_mean": of_mean,
        "entropy_per_chunk": of_windows.T,
        "mutual_information": of_mean - of_windows.mean(1),
    }
    if logits.shape[1] > 1:
        values["probability_variance"] = probabilities.var(1)
        for part, recorded in zip(
            attention.std(1).split(bags.lengths), expected["attention_std"], strict=True
        ):
            if (
                len(part) == 2
            ):  # they are equal, since attention sums to 1: rounding tells which wins
                recorded = recorded | {"argmax": int(part.argmax())}
            assert_summary(part, recorded, tolerance, "standard deviation")
    for name, found in values.items():
        assert_golden(found, expected[name], tolerance, name)


@torch.no_grad()
def test_blocks_of_a_large_bag_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SimpleMIL(600, flat(2)).double().eval()
    bags = random_batch([40, 3, 60], 600, 2, dtype=torch.float64)
    whole = model.windows(bags)
    assert whole.shape[1] > 1
    monkeypatch.setattr(simple_mil, "_ROWS", 16)
    torch.testing.assert_close(model.windows(bags), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "leaky_relu"])
@pytest.mark.parametrize("bias", [-9.0, 0.0, 9.0])
def test_attention_sums_to_1_in_the_order_of_the_weights(activation: str, bias: float) -> None:
    torch.manual_seed(0)
    model = SimpleMIL(12, flat(2), activation=activation).double().eval()
    with torch.no_grad():
        model.w.bias.fill_(bias)
        out = model(random_batch([1, 5, 30], 12, 2, dtype=torch.float64))
    weights, attention = out.extras["weights"][:, 0], out.attention[:, 0]
    for raw, found in zip(weights.split([1, 5, 30]), attention.split([1, 5, 30]), strict=True):
        assert (found >= 0).all()
        torch.testing.assert_close(found.sum(), torch.ones((), dtype=torch.float64))
        assert torch.equal(raw.argsort(stable=True), found.argsort(stable=True))


def test_only_the_attention_is_normalised_not_the_weights_of_the_pooling() -> None:
    torch.manual_seed(0)
    model = SimpleMIL(12, flat(2), activation="sigmoid").eval()
    bags = random_batch([7], 12, 2)
    with torch.no_grad():
        out = model(bags)
        pooled = out.extras["weights"].T @ bags.features
        torch.testing.assert_close(out.fine, model.cls(pooled))
    assert (out.extras["weights"].sum() - 1).abs() > 0.1


class Sigmoid(SimpleMIL):
    """With weights that do not sum to 1."""

    def __init__(self, in_dim: int, hierarchy: LabelHierarchy, activation: str = "sigmoid"):
        super().__init__(in_dim, hierarchy, activation=activation)

    search_space = {}


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_another_activation_keeps_the_contract(check: Check) -> None:
    check(Sigmoid)
