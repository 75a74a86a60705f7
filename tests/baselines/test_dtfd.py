"""DTFD-MIL against values measured on its authors' code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import goldens
import pytest
import torch
from conftest import random_batch
from goldens import TOLERANCE, assert_golden, assert_summary, flat
from mil_bench.baselines.dtfd import DTFD

from mil_bench.errors import InputError
from mil_bench.training.stack import LoopedStack, Step

if TYPE_CHECKING:
    from mil_bench.bags.batch import BagBatch

WITHOUT_ROWS = [c for c in goldens.cases("dtfd") if "_g8_t4_" in c]
CASES = [c for c in goldens.cases("dtfd") if c not in WITHOUT_ROWS]
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def build(golden: dict) -> DTFD:
    settings = golden["settings"]
    model = DTFD(
        settings["input_dim"],
        flat(settings["num_cls"]),
        distillation=settings["distill"].lower(),
        pseudo_bags=settings["numGroup"],
        total_instances=settings["total_instance"],
        residual_blocks=settings["numLayer_Res"],
        embed_dim=settings["mDim"],
        attention_dim=settings["attention_dim"],
    )
    model.load_official_state(goldens.official_state(golden))
    return model


def cut(model: DTFD, pieces: list[list[int]]) -> None:
    """Give the model the pseudo-bags of the golden file."""
    number = torch.empty(sum(map(len, pieces)), dtype=torch.int64)
    for g, rows in enumerate(pieces):
        number[torch.tensor(rows, dtype=torch.int64)] = g
    model._pieces = lambda bags: number


def draws_of(golden: dict) -> list[list[list[int]]]:
    pieces = golden["pseudo_bags"]
    several = any(isinstance(row, list) for piece in pieces for row in piece)
    return pieces if several else [pieces]


def read(case: str, dtype: torch.dtype) -> tuple[dict, DTFD, BagBatch]:
    golden = goldens.read(case)
    model = build(golden)
    cut(model, draws_of(golden)[0])
    bags = goldens.bags_of(golden, dtype, [golden["labels"]["bag"]])
    return golden, model.to(dtype), bags


@both_precisions
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_both_tiers_agree_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    golden, model, bags = read(case, dtype)
    expected, tolerance = goldens.results(golden, dtype)["forward"], TOLERANCE[dtype]
    probabilities = []
    for pieces, draw in zip(draws_of(golden), expected.get("draws", [expected]), strict=True):
        cut(model, pieces)
        probabilities.append(assert_draw(model.eval(), bags, pieces, draw, tolerance))
    assert_summary(model(bags).extras["scores"], expected["attention_raw"][0], tolerance, "scores")
    if "draws" in expected:
        mean = torch.stack(probabilities).mean(0)
        assert_golden(mean, expected["mean_probabilities"], tolerance)


def assert_draw(
    model: DTFD, bags: BagBatch, pieces: list[list[int]], expected: dict, tolerance: float
) -> torch.Tensor:
    """Compare everything with one draw of pseudo-bags; returns the probabilities."""
    out = model(bags)
    extras, probabilities = out.extras, out.fine.softmax(1)
    assert_golden(out.fine, expected["logits"], tolerance)
    assert_golden(probabilities, expected["probabilities"], tolerance)
    assert_golden(extras["pseudo_logits"][0], expected["tier1_logits"], tolerance)
    assert_summary(extras["embedding"], expected["tier2_embedding"][0], tolerance, "embedding")
    for g, (rows, recorded) in enumerate(zip(pieces, expected["attention"], strict=True)):
        if rows:
            assert_summary(extras["pseudo_attention"][rows, g], recorded, tolerance, "attention")
    weights = extras["attention2"][0]
    if model.distillation != "afs":
        # Pseudo-bag by pseudo-bag; the release has the worst instance last.
        by_piece = weights.unflatten(0, (-1, model.pseudo_bags)).T
        best, worst = by_piece[:, : model.taken], by_piece[:, model.taken :].flip(1)
        weights = torch.cat([best, worst], 1)
        weights = weights[weights > 0]
    assert_summary(weights, expected["tier2_attention"][0], tolerance, "second attention")
    return probabilities


@both_precisions
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_agree_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    golden, model, bags = read(case, dtype)
    expected, tolerance = goldens.results(golden, dtype), TOLERANCE[dtype]
    out = model.train()(bags)
    for name, term in model.terms(out, bags).items():
        assert_golden(term[0], expected["losses"][name], tolerance, name)
    loss = model.loss(out, bags, torch.ones(1, dtype=dtype), 0.0)
    assert_golden(loss, expected["losses"]["total"], tolerance)
    loss.backward()
    goldens.assert_gradients(released(model), expected["gradients"], tolerance)


def released(model: DTFD) -> dict[str, torch.nn.Parameter]:
    """Parameters by released name."""
    names = {ours: theirs for theirs, ours in DTFD.official_names.items()}
    names["dim_reduction.fc1."] = "dim_reduction.fc1."
    for block in range(len(model.dim_reduction.residual)):
        for ours, theirs in (("first", 0), ("second", 2)):
            official = f"dim_reduction.resBlocks.{block}.block.{theirs}."
            names[f"dim_reduction.residual.{block}.{ours}."] = official
    found = {}
    for name, parameter in model.named_parameters():
        prefix = next(ours for ours in names if name.startswith(ours))
        found[names[prefix] + name.removeprefix(prefix)] = parameter
    return found


@pytest.mark.parametrize("case", [c for c in CASES if "_afs_" not in c])
def test_the_chosen_instances_are_those_of_the_released_code(case: str) -> None:
    golden, model, bags = read(case, torch.float64)
    out = model.eval()(bags)
    members = torch.nn.functional.one_hot(model._pieces(bags), model.pseudo_bags).double()
    h = model.dim_reduction(bags.features)
    rows, counts = model.selected(h, out.extras["pseudo_attention"], members, bags)
    selected = golden["selected_instances"]
    for g, recorded in enumerate(selected if isinstance(selected[0], dict) else selected[0]):
        best = rows[0, : model.taken, g][counts[0, : model.taken, g]].tolist()
        assert best == recorded["top"]
        if model.distillation == "maxmins":
            worst = rows[0, model.taken :, g][counts[0, model.taken :, g]].tolist()
            assert worst[::-1] == recorded["bottom"]  # the release has the worst last


@pytest.mark.parametrize("case", WITHOUT_ROWS)
def test_settings_with_which_nothing_would_be_distilled_are_refused(case: str) -> None:
    with pytest.raises(InputError, match="total_instances=4 is less than pseudo_bags=8"):
        build(goldens.read(case))


def test_pseudo_bags_are_cut_inside_bags_and_have_the_sizes_of_the_release() -> None:
    bags, model = random_batch([7, 1, 12, 2], 6, 2), DTFD(6, flat(2), pseudo_bags=5)
    torch.manual_seed(0)
    fixed, drawn = model.eval()._pieces(bags), model.train()._pieces(bags)
    assert not torch.equal(fixed, drawn)
    for pieces in (fixed, drawn):
        for part in pieces.split(bags.lengths):
            sizes = [len(range(g, len(part), 5)) for g in range(5)]
            assert part.bincount(minlength=5).tolist() == sizes


def test_a_released_file_of_four_parts_loads() -> None:
    golden = goldens.read(CASES[0])
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in goldens.official_state(golden).items():
        part, _, inner = name.partition(".")
        parts.setdefault(part, {})[inner] = value
    model, whole = build(golden), build(golden)
    torch.nn.init.zeros_(model.dim_reduction.fc1.weight)
    model.load_official_state(parts)
    assert torch.equal(model.dim_reduction.fc1.weight, whole.dim_reduction.fc1.weight)


def test_it_has_as_many_parameters_as_the_release() -> None:
    assert sum(p.numel() for p in DTFD(1024, flat(7)).parameters()) == 794_384


@pytest.mark.parametrize(
    "case", [c for c in CASES if "training_steps" in goldens.read(c)["results"]["float64"]]
)
def test_three_training_steps_with_clipped_gradients_agree_with_the_released_loop(
    case: str,
) -> None:
    golden, model, bags = read(case, torch.float64)
    stack = LoopedStack([model.train()], DTFD.recipe, [("test",)])
    weight = torch.ones(1, 1, dtype=torch.float64)
    recorded = goldens.results(golden, torch.float64)["training_steps"]
    for number, terms in enumerate(recorded["losses"]):
        [[loss]] = stack.train([Step(bags, weight, number)], 0.0).tolist()
        assert loss == pytest.approx(terms["tier1"] + terms["tier2"], abs=1e-9)
    for name, parameter in released(model).items():
        if not name.endswith("attention_weights.bias"):  # true gradient 0, which Adam amplifies
            after = recorded["parameters_after"][name]
            assert_golden(parameter.norm(), after["norm"], 1e-9, name)
            assert_golden(parameter.flatten()[:4], after["first4"], 1e-9, name)
