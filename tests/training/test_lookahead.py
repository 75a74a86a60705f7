"""Lookahead around rectified Adam, against values of the released optimizer and the formulas."""

from __future__ import annotations

import copy
import math

import goldens
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens import TOLERANCE, assert_golden
from torch import nn

from mil_bench.methods import Recipe
from mil_bench.training.lookahead import LookaheadRAdam
from mil_bench.training.optim import MAKERS, set_learning_rate


class Toy(nn.Module):
    """The golden file's toy model."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.second(self.norm(torch.tanh(self.first(rows))).mean(0, keepdim=True))


def toy_loss(model: Toy, step: int) -> torch.Tensor:
    rows = np.random.default_rng(4000 + step).standard_normal((5, 6)).astype(np.float32)
    return F.cross_entropy(
        model(torch.from_numpy(rows).to(model.first.weight)), torch.tensor([step % 3])
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_losses_and_weights_agree_with_the_released_optimizer(dtype: torch.dtype) -> None:
    golden = goldens.read("transmil_optimizer__config_lr")
    settings, expected, tolerance = (
        golden["settings"],
        goldens.results(golden, dtype),
        TOLERANCE[dtype],
    )
    model = Toy()
    model.load_state_dict(goldens.official_state(golden))
    recipe = Recipe(
        settings["lr"], epochs=1, weight_decay=settings["weight_decay"], optimizer="lookahead-radam"
    )
    optimizer = MAKERS[recipe.optimizer](model.to(dtype), recipe)
    assert (list(recipe.betas), optimizer.defaults["eps"]) == (settings["betas"], settings["eps"])
    for step, golden_loss in enumerate(expected["loss_before_step"]):
        loss = toy_loss(model, step)
        assert_golden(loss, golden_loss, tolerance, f"loss before step {step + 1}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, recorded in expected["params_after_step"].get(str(step + 1), {}).items():
            weight = model.get_parameter(name)
            assert_golden(weight.norm(), recorded["norm"], tolerance, f"{name} after {step + 1}")
            assert_golden(
                weight.flatten()[:4], recorded["first4"], tolerance, f"{name} after {step + 1}"
            )


def by_hand(start: float, slopes: list[float], lr: float, decay: float) -> list[float]:
    """One weight, written out from the formulas."""
    weight, slow, mean, square, path = start, None, 0.0, 0.0, []
    limit = 2 / (1 - 0.999) - 1
    for t, slope in enumerate(slopes, 1):
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        certain = limit - 2 * t * 0.999**t / (1 - 0.999**t)
        weight -= decay * lr * weight
        if certain >= 5:
            rectified = (
                (certain - 4) * (certain - 2) * limit / ((limit - 4) * (limit - 2) * certain)
            )
            adaptive = math.sqrt((1 - 0.999**t) * rectified) / (math.sqrt(square) + 1e-8)
            weight -= lr / (1 - 0.9**t) * mean * adaptive
        else:
            weight -= lr / (1 - 0.9**t) * mean
        if t % 6 == 0:
            slow = weight if slow is None else slow + 0.5 * (weight - slow)
            weight = slow
        path.append(weight)
    return path


@pytest.mark.parametrize("shape", [(1, 1), (1,)])
def test_every_step_is_the_formula(shape: tuple[int, ...]) -> None:
    module = nn.Module()
    module.weight = nn.Parameter(torch.full(shape, 0.7, dtype=torch.float64))
    optimizer = LookaheadRAdam(module, 0.05, (0.9, 0.999), weight_decay=0.3)
    slopes = np.random.default_rng(0).standard_normal(30).tolist()
    for slope, expected in zip(
        slopes, by_hand(0.7, slopes, 0.05, 0.3 * (len(shape) > 1)), strict=True
    ):
        module.weight.grad = torch.full(shape, slope, dtype=torch.float64)
        optimizer.step()
        assert module.weight.item() == pytest.approx(expected, rel=1e-12)


def test_only_matrices_decay_and_never_a_bias() -> None:
    module = Toy()
    module.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
    module.odd = nn.Module()
    module.odd.bias = nn.Parameter(torch.zeros(2, 2))
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = LookaheadRAdam(module, 1e-3, (0.9, 0.999), 0.1).param_groups
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {"first.weight", "second.weight", "cls_token"}
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_step_six_changes_nothing_and_step_twelve_pulls() -> None:
    model, plain = Toy(), Toy()
    plain.load_state_dict(model.state_dict())
    optimizer = LookaheadRAdam(model, 0.01, (0.9, 0.999), 0.0)
    reference = torch.optim.RAdam(plain.parameters(), 0.01)
    for step in range(12):
        for net, stepper in ((model, optimizer), (plain, reference)):
            stepper.zero_grad()
            toy_loss(net, step).backward()
            stepper.step()
        if step == 5:
            at_six = plain.second.weight.detach().clone()
        if step < 11:
            torch.testing.assert_close(
                model.second.weight, plain.second.weight, rtol=1e-6, atol=1e-7
            )
    halfway = (at_six + plain.second.weight) / 2
    torch.testing.assert_close(model.second.weight, halfway, rtol=1e-6, atol=1e-7)
    assert (model.second.weight - plain.second.weight).abs().max() > 1e-4


def test_it_goes_on_from_its_stored_state() -> None:
    straight = Toy().double()
    optimizer = LookaheadRAdam(straight, 0.01, (0.9, 0.999), 0.1)
    for step in range(20):
        if step == 8:
            resumed = copy.deepcopy(straight)
            other = LookaheadRAdam(resumed, 0.01, (0.9, 0.999), 0.1)
            other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for net, stepper in [(straight, optimizer)] + ([(resumed, other)] if step >= 8 else []):
            stepper.zero_grad()
            toy_loss(net, step).backward()
            stepper.step()
    assert all(
        torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True)
    )


def test_the_step_size_reaches_every_group() -> None:
    optimizer = LookaheadRAdam(Toy(), 0.01, (0.9, 0.999), 0.1)
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
