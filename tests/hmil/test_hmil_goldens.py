"""HMIL against values measured on its authors' code."""

from __future__ import annotations

import goldens
import numpy as np
import pytest
import torch
from goldens import TOLERANCE, assert_golden
from mil_bench.hmil.losses import supervised_contrastive
from mil_bench.hmil.model import HMIL

from mil_bench.bags.batch import BagBatch
from mil_bench.errors import InputError
from mil_bench.hierarchy import LabelHierarchy


def read(case: str, dtype: torch.dtype, **params: object) -> tuple[dict, HMIL, BagBatch]:
    golden = goldens.read(f"hmil__{case}")
    settings = golden["settings"]
    parent = tuple(settings["mapping"][str(c)] for c in range(settings["n_classes"][1]))
    coarse, fine = (
        [f"c{g}" for g in range(settings["n_classes"][0])],
        [f"f{c}" for c in range(len(parent))],
    )
    model = HMIL(
        settings["input_dim"], LabelHierarchy(tuple(fine), tuple(coarse), parent), **params
    )
    model.load_official_state(goldens.official_state(golden))
    labels = golden["labels"]["fine"] if "inputs" in golden else [0]
    return goldens.results(golden, dtype), model.to(dtype), goldens.bags_of(golden, dtype, labels)


BATCHES = ["c3f7_batch8", "c2f7_batch8", "c2f2_batch8"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", BATCHES)
def test_forward_and_loss_terms_agree_with_the_released_code(case: str, dtype: torch.dtype) -> None:
    expected, model, bags = read(case, dtype)
    out = model(bags)
    weight = torch.ones(bags.n_bags, dtype=dtype)
    terms = model.loss_terms(out, bags, weight, 0.0)
    tolerance = TOLERANCE[dtype]
    assert_golden(out.coarse, expected["forward"]["coarse_logits"], tolerance)
    assert_golden(out.fine, expected["forward"]["fine_logits"], tolerance)
    for ours, theirs in (
        ("ce_coarse", "ce_coarse"),
        ("ce_fine", "ce_fine"),
        ("bag_alignment", "ba_neglog"),
        ("instance_alignment", "ia"),
    ):
        assert_golden(terms[ours], expected["losses"][theirs], tolerance)
    for epoch, schedule in expected["schedule"].items():
        loss = supervised_contrastive(
            out.extras["embeddings"], bags.labels, weight, schedule["tau"]
        )
        assert_golden(loss, expected["totals"][epoch]["supcon"], tolerance)


EPOCHS = [0, 50, 100, 150, 200]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", BATCHES)
@pytest.mark.parametrize("epoch", EPOCHS)
@pytest.mark.parametrize("form", ["paper", "official"])
def test_totals_and_their_gradients_agree(
    form: str, case: str, epoch: int, dtype: torch.dtype
) -> None:
    # The paper's totals in the goldens were measured with the released temperature schedule.
    params = {"released": True} if form == "official" else {"scheduled_temperature": True}
    expected, model, bags = read(case, dtype, **params)
    loss = model.loss(model(bags), bags, torch.ones(bags.n_bags, dtype=dtype), epoch / 200)
    assert_golden(loss, expected["totals"][str(epoch)][f"total_{form}"], TOLERANCE[dtype])
    table = expected["gradients"].get(f"total_{form}@{epoch}")
    if table is not None:
        loss.backward()
        goldens.assert_gradients(dict(model.named_parameters()), table, TOLERANCE[dtype])


def test_gradients_of_totals_are_among_the_goldens() -> None:
    for case in BATCHES:
        tables = goldens.read(f"hmil__{case}")["results"]["float64"]["gradients"]
        assert {"total_paper@200", "total_official@200"} <= tables.keys()


@pytest.mark.parametrize("case", BATCHES)
def test_the_gradient_of_every_term_agrees(case: str) -> None:
    names = {
        "ce_coarse": "ce_coarse",
        "ce_fine": "ce_fine",
        "ba_neglog": "bag_alignment",
        "ia": "instance_alignment",
    }
    for theirs, ours in {**names, "ba_official": "bag_alignment"}.items():
        expected, model, bags = read(case, torch.float64, released=theirs == "ba_official")
        weight = torch.ones(bags.n_bags, dtype=torch.float64)
        model.loss_terms(model(bags), bags, weight, 0.0)[ours].backward()
        goldens.assert_gradients(
            dict(model.named_parameters()), expected["gradients"][theirs], 1e-10
        )


@pytest.mark.parametrize("case", ["c3f7_n7", "c3f7_n64", "c2f7_n600", "c2f2_n600"])
def test_single_bags_agree_with_the_released_code(case: str) -> None:
    expected, model, bags = read(case, torch.float64)
    out, expected = model(bags), expected["forward"]
    assert_golden(out.coarse[0], np.ravel(expected["coarse_logits"]), 1e-10)
    assert_golden(out.fine[0], np.ravel(expected["fine_logits"]), 1e-10)


def test_it_has_as_many_parameters_as_the_released_model() -> None:
    hierarchy = LabelHierarchy.from_groups(
        {"a": ["a0", "a1", "a2"], "b": ["b0", "b1"], "c": ["c0", "c1"]}
    )
    assert sum(p.numel() for p in HMIL(1024, hierarchy).parameters()) == 1_348_172


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_contrastive_loss_alone_agrees(dtype: torch.dtype) -> None:
    golden = goldens.read("hmil_supcon__unit")
    assert len(golden["cases"]) == 12
    for case in golden["cases"]:
        raw = (
            np.random.default_rng(case["seed"])
            .standard_normal((case["B"], case["V"], case["D"]))
            .astype(np.float32)
        )
        vectors = torch.from_numpy(raw).to(dtype)
        vectors = (vectors / vectors.norm(dim=2, keepdim=True)).requires_grad_()
        labels = torch.tensor(case["labels"])
        loss = supervised_contrastive(
            vectors, labels, torch.ones(len(labels), dtype=dtype), case["temperature"]
        )
        loss.backward()
        expected = goldens.results(golden, dtype)[case["id"]]
        assert_golden(loss, expected["loss"], TOLERANCE[dtype], case["id"])
        assert_golden(vectors.grad.norm(), expected["grad_norm"], TOLERANCE[dtype], case["id"])
        assert_golden(
            vectors.grad.flatten()[:4], expected["grad_first4"], TOLERANCE[dtype], case["id"]
        )


def test_schedules_agree() -> None:
    model = HMIL(8, LabelHierarchy.flat(["a", "b"]), scheduled_temperature=True)
    for epoch, expected in goldens.read("hmil_schedule__e200")["results"]["float64"].items():
        progress = int(epoch) / 200
        assert model._temperature(progress) == pytest.approx(expected["tau"], abs=1e-12)
        assert 1 - progress**2 == pytest.approx(expected["alpha_official"], abs=1e-12)
        assert 1 - progress == pytest.approx(expected["beta_paper"], abs=1e-12)


@pytest.fixture
def small() -> tuple[LabelHierarchy, BagBatch]:
    hierarchy = LabelHierarchy.from_groups({"a": ["a0", "a1"], "b": ["b0"]})
    features = torch.from_numpy(
        np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    )
    return hierarchy, BagBatch.pack(
        features, torch.tensor([4, 6, 3, 7]), torch.tensor([0, 1, 2, 1])
    )


@pytest.mark.parametrize(
    ("params", "gone"),
    [
        ({"coarse_branch": False}, {"ce_coarse", "instance_alignment"}),
        ({"align_instances": False}, {"instance_alignment"}),
        ({"align_bags": False}, {"bag_alignment"}),
        ({"contrastive": False}, {"contrastive"}),
    ],
)
def test_every_part_can_be_switched_off(small: tuple, params: dict, gone: set[str]) -> None:
    hierarchy, bags = small
    model = HMIL(6, hierarchy, **params)
    terms = model.loss_terms(model(bags), bags, torch.ones(4), 0.5)
    assert {name for name, value in terms.items() if not value.any()} == gone


def test_fixed_weights_follow_the_announced_formula(small: tuple) -> None:
    hierarchy, bags = small
    model = HMIL(6, hierarchy, weighting="fixed", a=0.3, b=0.7)
    out, weight = model(bags), torch.ones(4)
    t = model.loss_terms(out, bags, weight, 0.2)
    expected = (
        0.3 * (t["ce_fine"] + t["instance_alignment"] + t["bag_alignment"]) + 0.7 * t["contrastive"]
    )
    torch.testing.assert_close(model.loss(out, bags, weight, 0.2), expected + t["ce_coarse"])


def test_a_weighting_that_does_not_exist_is_refused(small: tuple) -> None:
    with pytest.raises(InputError, match="weighting is dynamic or fixed"):
        HMIL(6, small[0], weighting="adaptive")
