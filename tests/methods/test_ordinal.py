"""The ordinal loss: soft labels for grades, for the methods and datasets that can have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conftest import random_batch
from mil_bench.baselines.abmil import ABMIL
from torch.nn import functional

from mil_bench import registry
from mil_bench.datasets.catalogue import find_dataset, open_store
from mil_bench.errors import InputError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import Choice, Method
from mil_bench.methods.ordinal import soft_labels
from mil_bench.methods.settings import settings_of, tuned_ranges
from mil_bench.planning.make import make_plan
from mil_bench.planning.request import RunRequest
from mil_bench.tuning.choosing import studies_of
from mil_bench.tuning.studies import trial_job

if TYPE_CHECKING:
    from mil_bench.bags.store import BagStore
    from mil_bench.planning.plan import RunPlan

GRADES = "panda-sim:slides=120,rows=8,width=8"
HIERARCHY = LabelHierarchy.flat(("0", "1", "2", "3"))
OWN_LOSSES = {"acmil", "clam-mb", "clam-sb", "detector", "dsmil", "dtfd", "hmil"}


@pytest.fixture(scope="module")
def grades(tmp_path_factory: pytest.TempPathFactory) -> BagStore:
    return open_store(find_dataset(GRADES), tmp_path_factory.mktemp("grades"))


def plan_of(store: BagStore, *methods: str) -> RunPlan:
    request = RunRequest(GRADES, methods=methods, folds=2, preset="quick")
    return make_plan(request, find_dataset(GRADES), store)


def test_soft_labels_fall_with_the_squared_distance() -> None:
    weights = np.exp([-4.0, -1.0, 0.0, -1.0])
    found = soft_labels(4)
    np.testing.assert_allclose(found[2], weights / weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    assert (found.argmax(1) == torch.arange(4)).all()
    torch.testing.assert_close(found, found.flip(0, 1))


def test_the_methods_with_a_loss_of_their_own_are_known() -> None:
    methods = {name: registry.methods.load(name) for name in registry.methods.names()}
    assert {name for name, method in methods.items() if method.has_own_loss} == OWN_LOSSES


def test_a_subclass_that_overrides_the_loss_has_its_own() -> None:
    class Other(ABMIL):
        def loss(self, *given: Any) -> torch.Tensor:
            return 2 * super().loss(*given)

    class Further(Other):
        pass

    assert (ABMIL.has_own_loss, Other.has_own_loss, Further.has_own_loss) == (False, True, True)
    with pytest.raises(InputError, match="Other has a loss of its own"):
        Other(6, HIERARCHY).take_loss("ordinal")


@pytest.mark.parametrize("settings", [{}, {"entropy_weight": 0.2}])
def test_loss_and_gradients_are_those_of_torchs_cross_entropy(settings: dict[str, float]) -> None:
    method = ABMIL(6, HIERARCHY, **settings).double()
    bags = random_batch([3, 5, 2], 6, 4, dtype=torch.float64)
    weight = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    hard = Method.backward(method, bags, weight, 0.0)
    method.zero_grad()
    method.take_loss("ordinal")
    found = Method.backward(method, bags, weight, 0.0)
    gradients = [p.grad.clone() for p in method.parameters()]
    method.zero_grad()
    method.take_loss("own")
    assert Method.backward(method, bags, weight, 0.0) == hard
    # The same by hand; the entropy does not depend on labels.
    method.zero_grad()
    fine = method(bags).fine
    targets = soft_labels(4)[bags.labels].double()
    soft, plain = (
        (functional.cross_entropy(fine, of, reduction="none") * weight).sum() / weight.sum()
        for of in (targets, bags.labels)
    )
    own = method.loss(method(bags), bags, weight, 0.0)
    expected = own - plain + soft
    expected.backward()
    torch.testing.assert_close(found, expected.detach())
    for gradient, parameter in zip(gradients, method.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-9, atol=1e-12)


def test_the_loss_is_no_weight_and_no_buffer_that_is_stored() -> None:
    method = ABMIL(6, HIERARCHY)
    before = set(method.state_dict())
    method.take_loss("ordinal")
    assert set(method.state_dict()) == before


def test_only_the_ordinal_loss_is_part_of_the_key(grades: BagStore) -> None:
    rows = ("abmil", "abmil:loss=own", "abmil:loss=ordinal")
    plain, own, ordinal = plan_of(grades, *rows).jobs[:3]
    assert own.key == plain.key
    assert ordinal.recipe == {**plain.recipe, "loss": "ordinal"}
    assert ordinal.key != plain.key


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("clam-sb:loss=ordinal", "'loss=ordinal': the method has a loss of its own"),
        ("linear-probe:loss=ordinal", "'loss=ordinal': the method fits itself"),
    ],
)
def test_methods_without_the_plain_cross_entropy_are_refused(
    grades: BagStore, row: str, reason: str
) -> None:
    with pytest.raises(InputError) as error:
        plan_of(grades, row)
    assert reason in error.value.problems[0]


def test_the_loss_is_tuned_where_there_is_a_choice() -> None:
    losses = Choice(("own", "ordinal"))
    abmil, clam = (registry.methods.load(name) for name in ("abmil", "clam-sb"))
    assert tuned_ranges(abmil, ordered=True) == {**abmil.search_space, "loss": losses}
    assert tuned_ranges(abmil, ordered=False) == abmil.search_space
    assert tuned_ranges(clam, ordered=True) == clam.search_space


def test_a_trial_with_the_methods_own_loss_is_the_job_without_the_setting(grades: BagStore) -> None:
    request = RunRequest(GRADES, methods=("abmil",), folds=2, tune=2)
    spec = find_dataset(GRADES)
    from mil_bench.planning.prepare import Prepared

    prepared = Prepared(make_plan(request, spec, grades), grades, request)
    study = studies_of(prepared)[0]
    assert study.defaults["loss"] == "own"
    assert trial_job(study, {"loss": "own"}).key == study.base.key
    assert trial_job(study, {"loss": "ordinal"}).recipe["loss"] == "ordinal"


def test_a_method_with_a_parameter_called_loss_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithLoss(ABMIL):
        def __init__(self, in_dim: int, hierarchy: LabelHierarchy, loss: float = 0.5) -> None:
            super().__init__(in_dim, hierarchy)
            self.share = loss

    assert settings_of(WithLoss)["loss"] == 0.5
    assert "loss" not in tuned_ranges(WithLoss, ordered=True)
