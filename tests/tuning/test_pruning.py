"""Pruning by epochs follows Optuna's percentile pruner; pruning by folds is Optuna's own."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.pruners import PercentilePruner
from optuna.trial import create_trial

from mil_bench.evaluation.trials import Trial
from mil_bench.tuning.proposals import is_hopeless
from mil_bench.tuning.pruning import Pruning, first_over

EPOCHS = 20


@pytest.mark.parametrize("seed", range(30))
def test_a_trial_ends_where_optunas_percentile_pruner_would_end_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curves = rng.normal(1, 0.3, (rng.integers(1, 9), EPOCHS)).cumsum(1) / np.arange(1, EPOCHS + 1)
    rule = Pruning(percentile=40, first=3, warmup=0.2)
    pruner = PercentilePruner(40, n_startup_trials=3, n_warmup_steps=4)
    study = optuna.create_study(pruner=pruner)
    for curve in curves[:-1]:
        lowest = np.minimum.accumulate(curve)
        study.add_trial(
            create_trial(value=float(lowest[-1]), intermediate_values=dict(enumerate(lowest)))
        )
    trial = study.ask()
    expected = None
    for epoch, loss in enumerate(curves[-1]):
        trial.report(float(loss), epoch)
        if trial.should_prune():
            expected = epoch
            break
    assert first_over(curves[-1], rule.limits(list(curves[:-1]), EPOCHS)) == expected


def test_some_of_these_trials_end_early() -> None:
    rule = Pruning(percentile=40, first=3, warmup=0.2)
    limits = rule.limits([[1.0] * EPOCHS] * 3, EPOCHS)
    assert first_over([1.1] * EPOCHS, limits) == 4
    assert first_over([1.0] * EPOCHS, limits) is None
    # The lowest loss so far counts.
    assert first_over([2.0] * 4 + [0.9] + [3.0] * 15, limits) is None


def test_no_trial_is_pruned_before_enough_trials_are_complete() -> None:
    limits = Pruning(first=3).limits([[1.0] * EPOCHS] * 2, EPOCHS)
    assert np.isinf(limits).all()


def test_a_trial_that_stopped_early_counts_with_its_lowest_loss() -> None:
    limits = Pruning(percentile=50, first=1, warmup=0.0).limits([[2.0, 1.0, 1.5]], 6)
    assert limits.tolist() == [2.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def record(number: int, losses: list[float], state: str = "complete") -> Trial:
    curves = {fold: [loss + 1, loss] for fold, loss in enumerate(losses)}
    value = float(np.mean(losses)) if state == "complete" else None
    return Trial("s", "m", "m", 0, None, number, {}, "k", state, value, curves, 2, 1.0)


def test_a_trial_that_loses_on_every_fold_is_hopeless_and_one_that_wins_is_not() -> None:
    best = [1.0, 1.2, 0.9, 1.1, 1.0, 1.3]
    records = [record(0, best), record(1, [loss + 1 for loss in best])]
    assert is_hopeless(records, [loss + 0.1 * (i + 1) for i, loss in enumerate(best)])
    assert not is_hopeless(records, [loss - 0.1 for loss in best])
    assert not is_hopeless(records, [loss + 0.1 for loss in best][:1])  # a single fold says nothing
    assert not is_hopeless([], best)
