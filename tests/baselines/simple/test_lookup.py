from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from mil_bench.baselines.simple.lookup import GroupLookup
from mil_bench.benchmarks.bracs import BRACS
from sklearn.metrics import recall_score, roc_auc_score

if TYPE_CHECKING:
    from pathlib import Path


def test_a_slide_gets_its_groups_labels_else_the_class_frequencies() -> None:
    p = GroupLookup().predict(
        np.array([0, 0, 1, 2]), np.array(["a", "a", "b", "c"]), np.array(["a", "b", "new"]), 3
    )
    assert p.sum(1) == pytest.approx(1)
    assert p.argmax(1).tolist() == [0, 1, 0]
    assert p[2] == pytest.approx([0.5, 0.25, 0.25])


class _PlainValues(pickle.Unpickler):
    """Refuses every class: the lists of the published splits need none."""

    def find_class(self, module: str, name: str) -> type:
        raise pickle.UnpicklingError(f"{module}.{name} in a split file")


def test_it_reproduces_the_values_on_hmils_published_bracs_splits(shared: Path) -> None:
    patient = pd.read_csv(shared / "data/official/bracs_meta.csv", dtype=str).set_index("slide")[
        "patient"
    ]

    def part(role: str, k: int) -> tuple[np.ndarray, np.ndarray]:
        with (shared / f"data/official/hmil_splits/BRACS/{role}_splits_{k}.pkl").open("rb") as file:
            rows = _PlainValues(file).load()
        return np.array([BRACS.hierarchy.fine.index(label) for _, label, _ in rows]), patient[
            [r[0] for r in rows]
        ].values

    accuracy, auc, recall = [], [], []
    for k in range(10):
        (labels, groups), (truth, test_groups) = part("train", k), part("test", k)
        p = GroupLookup().predict(labels, groups, test_groups, 7)
        accuracy.append(np.mean(p.argmax(1) == truth))
        auc.append(roc_auc_score(truth, p, multi_class="ovr"))
        recall.append(recall_score(truth, p.argmax(1), average="macro"))
    assert np.mean(accuracy) == pytest.approx(0.469, abs=0.01)
    assert np.mean(auc) == pytest.approx(0.748, abs=0.01)
    assert np.mean(recall) == pytest.approx(0.369, abs=0.01)
