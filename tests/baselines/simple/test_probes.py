"""The probes against scikit-learn, and from a run to a stored model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from conftest import SMALL_TWIN, random_batch
from mil_bench.baselines.simple import probes
from mil_bench.baselines.simple.probes import KNNProbe, LinearProbe
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

import mil_bench
from mil_bench.bags.batch import BagBatch
from mil_bench.bags.store import BagStore
from mil_bench.errors import UnknownNameError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import Fit, Method
from mil_bench.methods.conformance.bags import fit

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.evaluation.predictions import TrainedFold

WIDTH, CLASSES = 6, LabelHierarchy.flat("abc")


def bags_of(count: int, seed: int, classes: int = 3) -> BagBatch:
    """Bags of 1 to 4 rows, whose mean says something of the class."""
    bags = random_batch([1 + i % 4 for i in range(count)], WIDTH, classes, seed, torch.float64)
    bags.features[:, 0] += bags.labels[bags.bag_of]
    return bags


def means_of(bags: BagBatch) -> np.ndarray:
    return torch.stack([rows.mean(0) for rows in bags.features.split(bags.lengths)]).numpy()


def fitted(kind: type[Method], train: BagBatch, val: BagBatch) -> Method:
    method = kind(WIDTH, CLASSES).double()
    fit(method, train, val)
    return method.eval()


@pytest.mark.parametrize("classes", [2, 3])
def test_the_linear_probe_is_scikit_learns_with_the_c_of_the_validation_part(classes: int) -> None:
    train, val, test = bags_of(60, 0, classes), bags_of(30, 1, classes), bags_of(20, 2, classes)
    scaler = StandardScaler().fit(means_of(train))
    models = [
        LogisticRegression(C=c, max_iter=1000).fit(
            scaler.transform(means_of(train)), train.labels.numpy()
        )
        for c in probes._STRENGTHS
    ]
    x = scaler.transform(means_of(val))
    best = min(models, key=lambda model: log_loss(val.labels.numpy(), model.predict_proba(x)))
    assert best not in (models[0], models[-1])
    found = fitted(LinearProbe, train, val)(test).fine.softmax(1).numpy()
    expected = best.predict_proba(scaler.transform(means_of(test)))
    np.testing.assert_allclose(found[:, :classes], expected, atol=1e-9)
    assert (found[:, classes:] == 0).all()  # of a class that the training part lacks


def test_the_k_nn_probe_counts_neighbours_and_the_class_frequencies() -> None:
    train, val, test = bags_of(61, 0), bags_of(30, 1), bags_of(20, 2)
    scaler = StandardScaler().fit(means_of(train))
    search = NearestNeighbors().fit(scaler.transform(means_of(train)))
    labels = train.labels.numpy()
    frequencies = np.bincount(labels, minlength=3) / len(labels)

    def probabilities(bags: BagBatch, k: int) -> np.ndarray:
        near = search.kneighbors(scaler.transform(means_of(bags)), k, return_distance=False)
        votes = np.stack([np.bincount(labels[row], minlength=3) for row in near])
        return (votes + frequencies) / (k + 1)

    k = min(probes._NEIGHBOURS, key=lambda k: log_loss(val.labels.numpy(), probabilities(val, k)))
    method = fitted(KNNProbe, train, val)
    assert method.neighbours == k > 1
    np.testing.assert_allclose(method(test).fine.softmax(1), probabilities(test, k), atol=1e-12)


@pytest.mark.parametrize("kind", [LinearProbe, KNNProbe])
@pytest.mark.parametrize("classes", [1, 2])
def test_a_class_that_the_training_part_lacks_has_probability_0(
    kind: type[Method], classes: int
) -> None:
    method = fitted(kind, bags_of(9, 0, classes), bags_of(9, 1))  # validation has all three
    fine = method(bags_of(5, 2)).fine
    assert fine.isfinite().all()
    assert (fine.double().softmax(1)[:, classes:] == 0).all()


@pytest.mark.parametrize("kind", [LinearProbe, KNNProbe])
def test_the_weights_of_training_bags_count(kind: type[Method]) -> None:
    train, val = bags_of(30, 0), bags_of(30, 1)
    methods = []
    for weight in (torch.ones(30), 1 + 9.0 * (train.labels == 0)):
        method = kind(WIDTH, CLASSES).double()
        method.fit(iter([(train, weight)]), iter([val]))
        methods.append(method)
    plain, heavy = (m(val).fine.softmax(1)[:, 0].mean() for m in methods)
    assert heavy > 1.2 * plain


def run(folder: Path, *methods: str, **more: object) -> mil_bench.RunResult:
    return mil_bench.run(
        list(methods),
        SMALL_TWIN,
        folds=2,
        results=folder / "results",
        data=folder,
        tracking=False,
        progress=False,
        on="inline",
        **more,
    )


def test_a_run_trains_stores_and_resumes_probes_like_other_methods(tmp_path: Path) -> None:
    names = ("linear-probe", "knn-probe", "knn-probe:class_weights=balanced")
    result = run(tmp_path, *names)
    assert result.failures == ()
    again = run(tmp_path, *names)
    for name in names:
        folds: list[TrainedFold] = result.trained[name]
        assert [(len(fold.curves["val_loss"]), fold.best_epoch) for fold in folds] == [(1, 0)] * 2
        stored = again.trained[name][0]
        assert stored.seconds == folds[0].seconds  # it was not trained again
        model = result.model(name, fold=0)
        store = BagStore(next(tmp_path.glob("*.h5")))
        bags = store.index_of(stored.predictions.slides)
        batch = BagBatch.pack(
            torch.cat([torch.from_numpy(np.asarray(store.bag(i).features)) for i in bags]).float(),
            torch.from_numpy(store.sizes[bags]),
            torch.from_numpy(store.labels[bags]),
        )
        found = model(batch).fine.double().softmax(1)
        np.testing.assert_allclose(found, stored.predictions.fine, atol=1e-5)


def test_a_budget_of_epochs_changes_no_fit(tmp_path: Path) -> None:
    result = run(tmp_path, "linear-probe", epochs=7)
    assert result.plan.jobs[0].recipe == Fit().to_json()


def test_a_search_repeats_the_fit_and_chooses_it(tmp_path: Path) -> None:
    result = run(tmp_path, "knn-probe", "mean-pool", tune=2, preset="quick", epochs=2)
    assert result.failures == ()
    assert len(result.trained["knn-probe"]) == 2


def test_a_recipe_s_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="setting of linear-probe 'learning_rate'"):
        run(tmp_path, "linear-probe:learning_rate=0.1")
