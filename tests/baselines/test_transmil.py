"""TransMIL against values measured on its authors' code, plain code, and a defect of oneDNN."""

from __future__ import annotations

import goldens
import pytest
import torch
import torch.nn.functional as F
from conftest import random_batch
from goldens import assert_golden, assert_summary, assert_tokens, flat
from mil_bench.baselines import transmil
from mil_bench.baselines.transmil import TransMIL, _convolve_rows, _PositionLayer
from torch import Tensor, nn

from mil_bench.bags.batch import BagBatch
from mil_bench.errors import InputError

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
CASES = goldens.cases("transmil")
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def read(case: str, dtype: torch.dtype) -> tuple[dict, TransMIL, BagBatch]:
    golden = goldens.read(case)
    settings = golden["settings"]
    model = TransMIL(
        settings["input_dim"],
        flat(settings["n_classes"]),
        settings["dim"],
        crop=settings["output_crop"],
    )
    model.load_official_state(goldens.official_state(golden))
    bags = goldens.bags_of(golden, dtype, [golden["labels"]["bag"]])
    return goldens.results(golden, dtype), model.to(dtype).eval(), bags


def test_a_checkpoint_of_the_released_trainer_loads() -> None:
    golden = goldens.read(CASES[0])
    settings = golden["settings"]
    model = TransMIL(settings["input_dim"], flat(settings["n_classes"]), settings["dim"])
    state = goldens.official_state(golden)
    model.load_official_state({f"model.{name}": value for name, value in state.items()})
    assert torch.equal(model.cls_token, state["cls_token"].to(model.cls_token.dtype))


@both_precisions
@pytest.mark.parametrize("case", CASES)
def test_logits_loss_and_gradients_agree_with_the_released_code(
    case: str, dtype: torch.dtype
) -> None:
    expected, model, bags = read(case, dtype)
    out = model(bags)
    loss = model.loss(out, bags, torch.ones(1, dtype=dtype), 0.0)
    loss.backward()
    tolerance = TOLERANCE[dtype]
    assert_golden(out.fine, expected["forward"]["logits"], tolerance)
    assert_golden(out.fine.softmax(1), expected["forward"]["probabilities"], tolerance)
    assert out.fine.argmax().item() == expected["forward"]["prediction"]
    assert_golden(loss, expected["losses"]["ce"], tolerance)
    assert_golden(loss, expected["losses"]["total"], tolerance)
    parameters = dict(model.named_parameters())
    assert expected["gradients"].keys() == parameters.keys()
    goldens.assert_gradients(parameters, expected["gradients"], tolerance)


@both_precisions
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_every_stage_agrees_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    expected, model, bags = read(case, dtype)
    expected, tolerance = expected["forward"], TOLERANCE[dtype]
    stages = {"fc1": model._fc1(bags.features), "layer1_in": model._square(bags.features)}
    stages["layer1"] = model.layer1(stages["layer1_in"])
    stages["pos_layer"] = model.pos_layer(stages["layer1"])
    stages["layer2"] = model.layer2(stages["pos_layer"])
    stages["norm"] = model.norm(stages["layer2"])
    assert expected["stages"].keys() == stages.keys()
    for stage, recorded in expected["stages"].items():
        assert_tokens(stages[stage], recorded, tolerance, stage)
    assert_summary(stages["norm"][0], expected["bag_embedding"][0], tolerance, "bag embedding")
    for layer, before in ((model.layer1, "layer1_in"), (model.layer2, "pos_layer")):
        recorded = expected["attention_class_row"]["layer1" if before == "layer1_in" else "layer2"]
        row, n = layer.attn.class_row(stages[before], layer.norm), len(stages[before])
        assert_golden(row.sum(1), recorded["row_total"], tolerance, "row total")
        assert_golden(row[:, -n], recorded["to_class_token"], tolerance, "to class token")
        for head, summary in zip(row[:, 1 - n :], recorded["to_instances"], strict=True):
            assert_summary(head, summary, tolerance, "class row")


def attention_by_hand(
    layer: nn.Module, x: Tensor, last: bool, others: float = 0.0
) -> tuple[Tensor, Tensor]:
    """METHODS.md section 4 word by word, on torch's own convolution; output and F Z G.

    ``others`` is the scale of the pseudo-inverse that other bags of a batch would bring in.
    """
    pad = -len(x) % 256
    padded = torch.cat([x.new_zeros(pad, x.shape[1]), x])
    total = len(padded)
    q, k, v = (
        part.view(total, 8, 64).transpose(0, 1) for part in layer.to_qkv(padded).chunk(3, dim=1)
    )
    q = q / 8
    q_marks, k_marks = (part.reshape(8, 256, total // 256, 64).mean(2) for part in (q, k))
    f, s, g = (
        torch.softmax(a @ b.mT, -1) for a, b in ((q, k_marks), (q_marks, k_marks), (q_marks, k))
    )
    z = s.mT / (s.abs().sum(2).max() * s.abs().sum(1).max()).clamp(min=others)
    eye = torch.eye(256, dtype=x.dtype)
    for _ in range(6):
        sz = s @ z
        z = z @ (13 * eye - sz @ (15 * eye - sz @ (7 * eye - sz))) / 4
    residual = F.conv2d(v[None], layer.res_conv.weight, padding=(16, 0), groups=8)[0]
    out = layer.to_out[0](((f @ z) @ (g @ v) + residual).transpose(0, 1).reshape(total, 512))
    return (out[pad:] if last else out[: len(x)]), f @ z @ g


def logits_by_hand(model: TransMIL, x: Tensor, last: bool) -> Tensor:
    h = model._fc1(x)
    side = int(torch.tensor(len(h)).sqrt().ceil())
    h = torch.cat([model.cls_token[0], h, h[: side**2 - len(h)]])
    h = h + attention_by_hand(model.layer1.attn, model.layer1.norm(h), last)[0]
    image = h[1:].T.reshape(1, -1, side, side)
    position = model.pos_layer
    image = image + position.proj(image) + position.proj1(image) + position.proj2(image)
    h = torch.cat([h[:1], image.flatten(2)[0].T])
    h = h + attention_by_hand(model.layer2.attn, model.layer2.norm(h), last)[0]
    return model._fc2(model.norm(h)[:1])


@pytest.mark.slow
@pytest.mark.parametrize("crop", ["last", "first"])
@pytest.mark.parametrize("n", [3, 225, 226, 1100])
def test_it_equals_the_specification_written_out(n: int, crop: str) -> None:
    torch.manual_seed(n)
    model = TransMIL(5, flat(3), dim=24, crop=crop).double().eval()
    bags = random_batch([n], 5, 3, dtype=torch.float64)
    found, expected = model(bags).fine, logits_by_hand(model, bags.features, crop == "last")
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    weights = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(found.square().sum(), weights),
        torch.autograd.grad(expected.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("crop", ["last", "first"])
@pytest.mark.parametrize("n", [100, 255, 256, 700])
@torch.no_grad()
def test_blocks_of_a_large_bag_give_the_same(
    n: int, crop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TransMIL(5, flat(3), dim=24, crop=crop).double().eval()
    bags = random_batch([n], 5, 3, dtype=torch.float64)
    whole, row = model(bags).fine, model.class_attention(bags)
    monkeypatch.setattr(transmil, "_ROWS", 90)
    torch.testing.assert_close(model(bags).fine, whole, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(model.class_attention(bags), row, rtol=1e-11, atol=1e-11)


@pytest.mark.slow
@torch.no_grad()
def test_one_row_of_a_layer_is_that_row_of_all() -> None:
    for crop in ("last", "first"):
        layer = TransMIL(5, flat(3), dim=24, crop=crop).double().eval().layer2
        tokens = torch.randn(290, 24, dtype=torch.float64)
        for rows in (1, 7, 289):
            torch.testing.assert_close(
                layer(tokens, rows), layer(tokens)[:rows], rtol=1e-12, atol=1e-12
            )


@pytest.mark.slow
def test_a_loud_bag_in_the_batch_changes_nothing() -> None:
    torch.manual_seed(0)
    model = TransMIL(5, flat(3), dim=24).double().eval()
    bags = random_batch([40, 300], 5, 3, dtype=torch.float64)
    loud = BagBatch.pack(bags.features.clone(), bags.sizes, bags.labels)
    loud.features[40:] *= 1000
    weight = torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = []
    for batch in (bags, loud, bags.select(torch.tensor([0]))):
        out = model(batch)
        loss = model.loss(out, batch, weight[: batch.n_bags], 0.0)
        found.append([out.fine[0], *torch.autograd.grad(loss, list(model.parameters()))])
    for quiet, beside_loud, alone in zip(*found, strict=True):
        assert torch.equal(quiet, beside_loud)
        torch.testing.assert_close(quiet, alone, rtol=1e-12, atol=1e-12)


def test_a_scale_from_another_bag_would_be_felt() -> None:
    """So the test above is able to fail: six steps do not converge from everywhere."""
    torch.manual_seed(0)
    layer = TransMIL(5, flat(3), dim=24).double().eval().layer1
    tokens = torch.randn(101, 24, dtype=torch.float64) * 3
    with torch.no_grad():
        torch.testing.assert_close(
            layer.attn(tokens), attention_by_hand(layer.attn, tokens, True)[0]
        )
        coupled = attention_by_hand(layer.attn, tokens, True, others=256.0)[0]
    assert (layer.attn(tokens) - coupled).abs().max() > 1e-3


def test_the_order_of_instances_matters() -> None:
    torch.manual_seed(0)
    model = TransMIL(5, flat(3), dim=24).eval()
    bags = random_batch([30], 5, 3)
    turned = BagBatch.pack(bags.features.flip(0), bags.sizes, bags.labels)
    assert model.order_matters
    assert not torch.allclose(model(bags).fine, model(turned).fine)


@pytest.mark.slow
@pytest.mark.parametrize("crop", ["last", "first"])
@torch.no_grad()
def test_class_attention_folds_the_repeated_instances_back(crop: str) -> None:
    torch.manual_seed(0)
    model = TransMIL(5, flat(3), dim=24, crop=crop).double().eval()
    bags = random_batch([7, 1, 20], 5, 3, dtype=torch.float64)
    found = model.class_attention(bags).split([7, 1, 20])
    for b, (n, square) in enumerate([(7, 9), (1, 1), (20, 25)]):
        tokens = model._square(bags.select(torch.tensor([b])).features)
        expected = []
        for layer in (model.layer1, model.layer2):
            _, whole = attention_by_hand(layer.attn, layer.norm(tokens), crop == "last")
            row = whole[:, 256 - len(tokens) if crop == "last" else 0, -square:]
            expected.append(
                torch.stack(
                    [row[:, i] + (row[:, n + i] if n + i < square else 0) for i in range(n)]
                )
            )
            tokens = model.pos_layer(model.layer1(tokens))
        torch.testing.assert_close(found[b], torch.cat(expected, dim=1), rtol=1e-10, atol=1e-12)


def rows_of_values(length: int, nonzero: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Values, taps and a gradient to send back, float64 with float32 entries."""
    made = torch.Generator().manual_seed(length)
    values, back = (torch.randn(8, length, 64, generator=made) for _ in range(2))
    if nonzero:
        values[:, :-nonzero], back[:, :-nonzero] = 0, 0
    return values.double(), torch.randn(8, 33, generator=made).double(), back.double()


def convolve_with_gradients(
    function, inputs: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype
) -> list[Tensor]:
    values, taps, back = (tensor.to(dtype) for tensor in inputs)
    values.requires_grad_(), taps.requires_grad_()
    out = function(values, taps)
    return [
        out.detach().double(),
        *(g.double() for g in torch.autograd.grad(out, (values, taps), back)),
    ]


def plain_convolution(values: Tensor, taps: Tensor) -> Tensor:
    return F.conv2d(values[None], taps[:, None, :, None], padding=(16, 0), groups=8)[0]


def worst(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.slow
@pytest.mark.parametrize("nonzero", [None, 2])
@pytest.mark.parametrize("length", [1, 16, 31, 32, 33, 256, 511, 4096, 7936])
def test_the_row_convolution_is_right_in_both_directions(length: int, nonzero: int | None) -> None:
    inputs = rows_of_values(length, nonzero)
    expected = convolve_with_gradients(plain_convolution, inputs, torch.float64)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        for found, wanted in zip(
            convolve_with_gradients(_convolve_rows, inputs, dtype), expected, strict=True
        ):
            assert worst(found, wanted) < tolerance


def test_float64_is_a_fair_judge() -> None:
    values, taps, back = rows_of_values(40, None)
    padded = F.pad(values, (0, 0, 16, 16))
    by_hand = torch.stack([(padded[:, t : t + 40] * back).sum((1, 2)) for t in range(33)], dim=1)
    assert (
        worst(
            convolve_with_gradients(plain_convolution, (values, taps, back), torch.float64)[2],
            by_hand,
        )
        < 1e-12
    )


@pytest.mark.slow
@pytest.mark.parametrize("nonzero", [None, 2])
@pytest.mark.parametrize("length", [256, 511, 4096, 7936])
def test_the_plain_convolution_would_have_failed(length: int, nonzero: int | None) -> None:
    inputs = rows_of_values(length, nonzero)
    expected = convolve_with_gradients(plain_convolution, inputs, torch.float64)[2]
    error = worst(convolve_with_gradients(plain_convolution, inputs, torch.float32)[2], expected)
    if error < 1e-5:
        pytest.skip(
            "this torch computes the weight gradient of the plain convolution right at this length"
        )
    assert error > 1e-3


@pytest.mark.parametrize("side", [1, 2, 3, 7, 15, 16, 23, 63, 64, 89])
def test_the_position_layer_is_right_in_single_precision(side: int) -> None:
    """The other depth-wise convolutions (7, 5, 3) do not have the defect."""
    torch.manual_seed(side)
    layer = _PositionLayer(16)
    tokens, back = torch.randn(2, 1 + side**2, 16)
    found = {}
    for dtype in (torch.float64, torch.float32):
        layer, x = layer.to(dtype), tokens.to(dtype).requires_grad_()
        out = layer(x)
        found[dtype] = [out, *torch.autograd.grad(out, (x, *layer.parameters()), back.to(dtype))]
    assert all(
        worst(f.double(), e) < 1e-5
        for f, e in zip(found[torch.float32], found[torch.float64], strict=True)
    )


def test_it_has_as_many_parameters_as_the_released_model() -> None:
    assert sum(p.numel() for p in TransMIL(1024, flat(7)).parameters()) == 2_674_711


def test_the_class_token_starts_standard_normal() -> None:
    torch.manual_seed(0)
    token = TransMIL(8, flat(2)).cls_token
    assert abs(token.mean().item()) < 0.15
    assert abs(token.std().item() - 1) < 0.1


def test_an_unknown_crop_is_refused() -> None:
    with pytest.raises(InputError, match="crop is 'middle'"):
        TransMIL(8, flat(2), crop="middle")
