"""Made-up trainings on a four-class hierarchy, for tests of tables, figures and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mil_bench.evaluation.predictions import Predictions, TrainedFold
from mil_bench.evaluation.verdicts import Evidence
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.planning.asked import Asked
from mil_bench.planning.plan import Job, RunPlan
from mil_bench.runs.result import RunResult
from mil_bench.splits.plan import Fold, SplitPlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HIERARCHY = LabelHierarchy.from_groups({"left": ["l0", "l1"], "right": ["r0", "r1"]})
REPLICATES = 50


def predictions(
    seed: int, skill: float, labels: np.ndarray | None = None, head: bool = False
) -> Predictions:
    """Softmax of noisy indicators; two slides per patient, 40 slides in a test part."""
    rng = np.random.default_rng(seed)
    labels = np.arange(40) % 4 if labels is None else labels
    logits = skill * np.eye(4)[labels] + rng.standard_normal((len(labels), 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    slides = np.array([f"s{seed}-{i}" for i in range(len(labels))])
    groups = np.array([f"p{seed}-{i // 2}" for i in range(len(labels))])
    return Predictions(slides, labels, p, groups, HIERARCHY.lift(p)[:, ::-1] if head else None)


LOSSES = [2.0, 1.5, 1.2, 1.1, 1.0, 0.9, 1.0, 1.1, 1.2, 1.3]


def trained_folds(
    skill: float, folds: int = 3, head: bool = False, **changed: np.ndarray
) -> tuple[TrainedFold, ...]:
    """Ten epochs per fold, the sixth selected; ``fold1=labels`` gives a fold other labels."""
    return tuple(
        TrainedFold(
            0,
            k,
            f"key{skill}",
            predictions(k, skill, changed.get(f"fold{k}"), head),
            epochs=20,
            best_epoch=5,
            curves={"train_loss": LOSSES[::-1], "val_loss": LOSSES},
            seconds=12.5,
            environment={"torch": "2.x", "device": "cpu"},
        )
        for k in range(folds)
    )


def evidence(
    methods: Mapping[str, Sequence[TrainedFold]],
    folds: int = 3,
    hierarchy: LabelHierarchy = HIERARCHY,
) -> Evidence:
    """What a run of these trainings measured."""
    return Evidence(methods, hierarchy, ((80, 40),) * folds, 1, "patient", replicates=REPLICATES)


def run_result(
    methods: Mapping[str, Sequence[TrainedFold]],
    dataset: str = "toy",
    leaks: int = 0,
    failures: tuple[str, ...] = (),
    hierarchy: LabelHierarchy = HIERARCHY,
    asked: Asked = Asked(),  # noqa: B008 - it is frozen
) -> RunResult:
    """A run of three folds; methods without trainings are missing."""
    tested = [tuple(predictions(k, 0).slides.tolist()) for k in range(3)]
    everything = {slide for slides in tested for slide in slides}
    folds = tuple(Fold(tuple(sorted(everything - set(test))), (), test) for test in tested)
    splits = SplitPlan("patient-kfold", folds, "patient", (leaks, 0, 0), (0, 0, 0))
    recipe = {"epochs": 20}
    jobs = [Job(dataset, "d", name, "1", {}, recipe, splits.digest, 0, name) for name in methods]
    plan = RunPlan(
        dataset,
        f"{dataset}, made up",
        hierarchy,
        splits,
        tuple(jobs),
        command="mil-bench run --dataset toy",
    )
    trained = {name: tuple(done) for name, done in methods.items()}
    return RunResult(plan, trained, failures, asked=asked)
