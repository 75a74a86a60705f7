"""A metric from outside, in a few lines: it appears wherever a built-in one does."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_runs import evidence, run_result, trained_folds

from mil_bench import registry
from mil_bench.errors import PluginError
from mil_bench.evaluation.metric import Metric
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.verdicts import verdicts
from mil_bench.evaluation.weighted_sums import Ratio, Weighted
from mil_bench.registry import Registry
from mil_bench.report.pair_sentences import verdict_sentence
from mil_bench.report.result_tables import pooled_tables, result_tables

if TYPE_CHECKING:
    from pathlib import Path


def top2(weighted: Weighted) -> Ratio:
    best = weighted.probabilities.argsort(1)[:, -2:]
    right = (best == weighted.labels[:, None]).any(1)
    return Ratio.share(weighted.weight, right, np.ones(len(right), dtype=bool))


TOP2 = Metric("Top-2", "top-2 accuracy", "The class is one of the two most probable.", top2)
NEVER = Metric(
    "Never",
    "a value that is never defined",
    "Undefined everywhere.",
    lambda weighted: Ratio.of(weighted.total * 0, weighted.total * 0),
    undefined="nothing is counted",
    levels=("slide",),
)
RECALL = Metric(
    "Recall",
    "recall",
    "Recall of one class.",
    lambda weighted: Ratio.of(weighted.right, weighted.labelled),
    reduction=None,
)
PRECISION = Metric(
    "Precision",
    "precision",
    "Mean precision of the classes.",
    lambda weighted: Ratio.of(weighted.right, weighted.called),
)


def offer(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    """Key of a metric to the name of an object in this file, as an installed package would."""
    group = "mil_bench.metrics"
    points = [metadata.EntryPoint(key, f"{__name__}:{name}", group) for key, name in names.items()]
    real = metadata.entry_points

    def entry_points(group: str) -> list[metadata.EntryPoint]:
        return points if group == points[0].group else list(real(group=group))

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    monkeypatch.setattr(registry, "metrics", Registry(group, "metric"))


@pytest.fixture
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, top2="TOP2", never="NEVER")


@pytest.mark.usefixtures("_offered")
def test_a_metric_of_a_package_has_a_column_an_interval_and_verdicts(tmp_path: Path) -> None:
    methods = {"good": trained_folds(2.0), "bad": trained_folds(0.2)}
    made = evidence(methods)
    more = next(table for table in result_tables(made, "") if table.name == "more")
    predictions = [fold.predictions for fold in methods["good"]]
    shares = [
        np.mean([label in row.argsort()[-2:] for label, row in zip(p.labels, p.fine, strict=True)])
        for p in predictions
    ]
    assert more.cells["good"]["Top-2 (%)"].mean == pytest.approx(100 * np.mean(shares))
    assert "The class is one of the two most probable." in more.note
    pooled = next(table for table in pooled_tables(made, "") if table.name == "pooled")
    low, high = pooled.cells["good"]["Top-2 (%)"].interval
    assert low < more.cells["good"]["Top-2 (%)"].mean < high
    (verdict,) = verdicts(made, Measure("fine", "top2"))
    assert verdict.first == "good"
    assert "top-2 accuracy" in verdict_sentence(verdict)
    run_result(methods).write_tables(tmp_path)
    assert "Top-2" in (tmp_path / "more.csv").read_text()


@pytest.mark.usefixtures("_offered")
def test_a_slide_level_metric_of_a_package_that_is_undefined_says_why() -> None:
    made = evidence({"good": trained_folds(2.0)})
    more = next(table for table in result_tables(made, "") if table.name == "more")
    assert more.cells["good"]["Never (%)"].text() == "undefined"
    assert "nothing is counted in folds 0, 1, 2" in more.note


def test_a_class_that_a_method_leaves_undefined_is_not_left_out_of_its_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer(monkeypatch, precision="PRECISION")
    first, *others = trained_folds(2.0)
    never = np.where(np.arange(4) == 3, 0, first.predictions.fine)
    silent = dataclasses.replace(first.predictions, fine=never / never.sum(1, keepdims=True))
    made = evidence(
        {
            "silent": [dataclasses.replace(first, predictions=silent), *others],
            "other": trained_folds(1.0),
        }
    )
    (verdict,) = verdicts(made, Measure("fine", "precision"))
    assert verdict.reason.startswith("undefined in fold 0")


def test_a_class_wise_metric_of_a_package_has_a_table_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer(monkeypatch, recall="RECALL")
    methods = {"good": trained_folds(2.0), "bad": trained_folds(0.2)}
    table = next(t for t in result_tables(evidence(methods), "") if t.name == "metric_recall")
    assert table.title == "Class-wise recall, fine classes (%)"
    recalls = [
        (p.fine.argmax(1) == p.labels)[p.labels == 0].mean()
        for p in (fold.predictions for fold in methods["good"])
    ]
    assert table.cells["good"]["l0"].mean == pytest.approx(100 * np.mean(recalls))


@pytest.mark.slow
def test_the_table_of_a_class_wise_metric_is_on_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(monkeypatch, recall="RECALL")
    page = run_result({"good": trained_folds(2.0)}).write(tmp_path)
    assert 'id="table-metric_recall"' in page.read_text()


def test_a_metric_is_also_offered_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "metrics", Registry("mil_bench.metrics", "metric"))
    registry.metrics.add("top2", TOP2)
    tables = result_tables(evidence({"good": trained_folds(2.0)}), "")
    assert "Top-2 (%)" in next(table for table in tables if table.name == "more").columns


def test_a_metric_of_a_package_cannot_have_the_key_of_a_built_in_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer(monkeypatch, accuracy="TOP2")
    with pytest.raises(PluginError, match="brings the metric 'accuracy', which is the key of a"):
        result_tables(evidence({"good": trained_folds(2.0)}), "")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"levels": ("fine", "middle")}, "middle: no such level; known: fine, coarse"),
        ({"levels": ("slide",)}, "a class-wise metric cannot be at level slide"),
    ],
)
def test_a_metric_at_a_level_that_cannot_be_is_refused(
    changed: dict[str, tuple[str, ...]], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        dataclasses.replace(RECALL, **changed)
