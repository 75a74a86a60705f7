"""The metric on which methods are compared: which can be chosen, and what follows it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_runs import evidence, run_result, trained_folds

from mil_bench import registry
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.evaluation.built_in_metrics import BUILT_IN
from mil_bench.evaluation.main_metric import measure_named
from mil_bench.evaluation.metric import Metric
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.verdicts import verdicts
from mil_bench.evaluation.weighted_sums import Ratio, Weighted
from mil_bench.planning.asked import Asked
from mil_bench.planning.plan import RunPlan
from mil_bench.planning.plan_record import PlanRecord
from mil_bench.registry import Registry
from mil_bench.report.pair_sentences import verdict_sentence
from mil_bench.report.verdict_tables import main_measure
from mil_bench.runs.result import RunResult

if TYPE_CHECKING:
    from mil_bench.evaluation.predictions import TrainedFold

CHOSEN = ("accuracy", "balanced_accuracy", "specificity", "macro_f1", "macro_auc", "nll", "brier")
REFUSED = {
    "auc": "it has a value per class",
    "sensitivity": "it has a value per class",
    "average_precision": "it has a value per class",
    "macro_ap": "it is biased on resampled patients",
    "ece": "it is biased on resampled patients",
    "mistakes_inside": "a useless method can have its best value",
    "head_agreement": "a useless method can have its best value",
}


def hits(weighted: Weighted) -> Ratio:
    return Ratio.of(weighted.right, weighted.labelled)


def test_every_metric_can_be_chosen_or_is_refused_with_a_reason() -> None:
    supported = {*CHOSEN, "quadratic_kappa", "attention_auc"}
    assert BUILT_IN.keys() == supported | REFUSED.keys()
    for key in supported - {"attention_auc"}:
        assert measure_named(key) == Measure("fine", key)
    assert measure_named("attention_auc") == Measure("slide", "attention_auc")
    for key, reason in REFUSED.items():
        with pytest.raises(InputError) as refused:
            measure_named(key)
        assert reason in str(refused.value)
        for other in supported:
            assert other in str(refused.value).splitlines()[-1]


def test_a_wrong_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"no metric 'macro_acu'\. Did you mean macro_auc"):
        Asked(metric="macro_acu")
    with pytest.raises(InputError, match="metric must be the key of a metric, not 1"):
        Asked(metric=1)


def test_a_metric_of_a_package_can_be_chosen_unless_it_is_no_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "metrics", Registry("mil_bench.metrics", "metric"))
    recall = Metric("Recall", "recall", "Mean recall.", hits)
    registry.metrics.add("recall", recall)
    worst = dataclasses.replace(recall, words="worst recall", reduction=lambda v: v.min(1))
    registry.metrics.add("worst", worst)
    coarse = dataclasses.replace(recall, words="coarse recall", levels=("coarse",))
    registry.metrics.add("coarse", coarse)
    result = run_result(
        {"a": trained_folds(0.5), "b": trained_folds(2.0)}, asked=Asked(metric="recall")
    )
    same = run_result(
        {"a": trained_folds(0.5), "b": trained_folds(2.0)}, asked=Asked(metric="balanced_accuracy")
    )
    assert [v.measure.key for v in result.verdicts] == ["recall"]
    assert result.verdicts[0].low == same.verdicts[0].low
    assert "has the best recall" in result.summary[0]
    with pytest.raises(InputError, match="it is no mean of its columns"):
        Asked(metric="worst")
    with pytest.raises(InputError, match="it has no value at the fine level or over slides"):
        Asked(metric="coarse")


@pytest.mark.parametrize("key", ["macro_auc", "balanced_accuracy", "nll"])
def test_verdicts_sentences_and_tables_follow_the_metric(key: str) -> None:
    methods = {"bad": trained_folds(0.2), "good": trained_folds(2.0)}
    result = run_result(methods, asked=Asked(metric=key))
    (verdict,) = result.verdicts
    assert (verdict.measure, verdict.first) == (Measure("fine", key), "good")
    metric = BUILT_IN[key]
    assert result.summary[0].startswith(f"Fine level: good has the best {metric.words} (")
    assert result.summary[1].startswith(f"Coarse level: good has the best coarse {metric.words} (")
    tables = {table.name: table for table in result.report_tables}
    assert tables["verdicts"].title.startswith(f"Comparisons on {metric.words}")
    assert list(tables["verdict_matrix"].cells) == ["good", "bad"]
    first = "Accuracy" if key == "macro_auc" else metric.heading  # the usual order
    for name in ("fine", "coarse", "pooled"):
        assert tables[name].columns[0] == first
        assert ("no percentage" in tables[name].title) == (not metric.percent)
    assert len(tables["fine"].columns) == len(set(tables["fine"].columns))
    axes = result.figures["cost"].axes[0]
    assert axes.get_ylabel() == metric.heading + " (%)" * metric.percent


def test_a_hundredth_of_kappa_is_its_margin() -> None:
    given = evidence({"a": trained_folds(2.0), "b": trained_folds(2.2)})
    ordered = dataclasses.replace(given, ordered=True, main=measure_named("quadratic_kappa"))
    (verdict,) = verdicts(ordered, ordered.main)
    assert verdict.margin == 0.01
    assert "(by less than 0.01) is shown" in verdict_sentence(verdict)
    (wide,) = verdicts(dataclasses.replace(ordered, margin=0.3), ordered.main)
    assert wide.answer == "equivalent"
    assert "and by less than 0.3 in any case" in verdict_sentence(wide)


def test_kappa_is_for_ordered_classes() -> None:
    with pytest.raises(InputError, match="is for ordered classes, and those of toy have no order"):
        Asked(metric="quadratic_kappa").require(run_result({"a": ()}).plan)


def test_the_metric_of_the_card_is_the_default() -> None:
    methods = {"a": trained_folds(0.5), "b": trained_folds(2.0)}
    made = run_result(methods)
    plan = dataclasses.replace(made.plan, main_metric="nll")
    for asked, key in ((Asked(), "nll"), (Asked(metric="accuracy"), "accuracy")):
        result = RunResult(plan, made.trained, asked=asked)
        assert [verdict.measure.key for verdict in result.verdicts] == [key]
        assert PlanRecord.of(plan, asked, None, "", {}).metric == key
    assert RunPlan.from_json(plan.to_json()).main_metric == "nll"
    older = {k: v for k, v in plan.to_json().items() if k != "main_metric"}
    assert RunPlan.from_json(older).main_metric == "macro_auc"
    wrong = dataclasses.replace(plan, main_metric="nlll")
    with pytest.raises(UnknownNameError, match="no metric 'nlll'"):
        Asked().require(wrong)


def with_attention(folds: tuple[TrainedFold, ...], level: float) -> tuple[TrainedFold, ...]:
    """The trainings with an attention AUC for three of four slides."""

    def attended(fold: TrainedFold) -> TrainedFold:
        count = len(fold.predictions.labels)
        values = level + np.random.default_rng(fold.fold).uniform(-0.1, 0.1, count)
        values[::4] = np.nan
        return dataclasses.replace(
            fold, predictions=dataclasses.replace(fold.predictions, attention_auc=values)
        )

    return tuple(map(attended, folds))


def test_a_mean_over_slides_is_compared_like_any_other_metric() -> None:
    methods = {
        "blind": with_attention(trained_folds(2.0), 0.55),
        "seeing": with_attention(trained_folds(0.5), 0.85),
        "none": trained_folds(1.0),
    }
    given = dataclasses.replace(evidence(methods), main=measure_named("attention_auc"))
    measure, reason = main_measure(given)
    assert reason == "Not compared, as they have no attention AUC: none."
    (verdict,) = verdicts(given, measure)
    means = {
        name: [np.nanmean(fold.predictions.attention_auc) for fold in methods[name]]
        for name in ("blind", "seeing")
    }
    assert verdict.first == "seeing"
    assert verdict.answer == "better"
    assert verdict.difference == pytest.approx(np.mean(means["seeing"]) - np.mean(means["blind"]))
    draws = given.bootstrap.fold_mean.difference("seeing", "blind", measure)
    assert draws[0] == pytest.approx(verdict.difference)
    result = run_result(methods, asked=Asked(metric="attention_auc"))
    tables = {table.name: table for table in result.report_tables}
    assert tables["fine"].columns[0] == tables["pooled"].columns[0] == "Attention AUC"
    assert "Attention AUC" not in tables["coarse"].columns
    assert tables["pooled"].cells["none"]["Attention AUC"] == "–"
    assert result.summary[1].startswith("seeing has the best attention AUC")


def test_a_metric_that_no_method_has_is_said_to_be_missing() -> None:
    methods = {"a": trained_folds(0.5), "b": trained_folds(2.0)}
    result = run_result(methods, asked=Asked(metric="attention_auc"))
    assert result.verdicts == []
    assert result.summary == [
        "Not compared, as they have no attention AUC: a, b.",
        "No method can be compared on attention AUC.",
    ]


def test_every_mean_over_classes_gives_way_to_accuracy_if_most_folds_lack_a_class() -> None:
    without = np.arange(39) % 3
    lacking = {"fold0": without, "fold1": without}
    methods = {"a": trained_folds(0.5, **lacking), "b": trained_folds(2.0, **lacking)}
    for key in ("macro_f1", "balanced_accuracy"):
        result = run_result(methods, asked=Asked(metric=key))
        assert result.measure == Measure("fine", "accuracy")
        assert result.summary[0].startswith("Methods are compared on accuracy, because ")
    assert run_result(methods, asked=Asked(metric="nll")).measure == Measure("fine", "nll")
