"""What is logged of a benchmark, a method, a fold and a trial, as plain values; no MLflow here.

Names are chosen for MLflow's own page: it groups metrics by the part of their name before the
slash, shows the run's name first, and has special columns for the dataset, the command and the
commit, which are tags that begin with ``mlflow.``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.evaluation.metric import LEVELS
from mil_bench.evaluation.metrics import Measure, class_names, measure
from mil_bench.evaluation.predictions import REPEATS
from mil_bench.report.render.markdown import markdown
from mil_bench.tracking.names import plain, plain_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.evaluation.trials import Trial
    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.report.tables import ResultTable


RUN, KIND, METHOD, FOLD, TRIAL = (
    f"mil_bench.{name}" for name in ("run", "kind", "method", "fold", "trial")
)
DESCRIPTION = "mlflow.note.content"
TEST, HELD, LOGGED = "mil_bench.test", "after the run", "logged"
"""Tag of a fold that says whether its values on test slides are logged, and its values."""
_LONGEST_TAG = 8000
_MOST_TABLES = 3


@dataclass(frozen=True)
class Point:
    """One value of a metric."""

    name: str
    value: float
    step: int
    time: float


@dataclass(frozen=True)
class Entry:
    """The content of one run in MLflow.

    Args:
        name: what MLflow shows first.
        tags: what users search by, and where the run comes from.
        params: settings.
        points: metrics; undefined ones are left out.
        started: seconds since 1970.
        ended: seconds since 1970, None while it is running.
        status: MLflow's word for how it ended.
    """

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict)
    points: Sequence[Point] = ()
    started: float = 0.0
    ended: float | None = None
    status: str = "FINISHED"


def benchmark_entry(plan: RunPlan, started: float) -> Entry:
    """The parent run: a benchmark."""
    params: dict[str, Any] = {"methods": ", ".join(plan.methods)}
    params |= {"seeds": ", ".join(map(str, plan.seeds))} | _folds(plan) | _data(plan)
    tags = _tags(plan, "benchmark") | {DESCRIPTION: description(plan)}
    # MLflow's page shows some twenty letters: what distinguishes runs on a dataset comes first.
    name = f"{_short(plan)} {', '.join(plan.methods)} on {plan.dataset}, {plan.splits.protocol}"
    return Entry(name, tags, params, started=started)


def description(
    plan: RunPlan, sentences: Sequence[str] = (), tables: Sequence[ResultTable] = ()
) -> str:
    """The text above a benchmark, as Markdown: first its results, then how it was made.

    Args:
        plan: the benchmark.
        sentences: verdicts and facts of its report.
        tables: of its report; the first three are shown, or fewer if a tag cannot hold them.
    """
    left_out = "".join(f"\n\n{name} is left out: {why}" for name, why in plan.skipped.items())
    about = f"**{plan.dataset_caption}**, protocol {plan.splits.protocol}"
    made = f"{plan.caption}{left_out}\n\nTo repeat it: `{plan.command}`"
    bare = [replace(table, caption="") for table in tables[:_MOST_TABLES]]
    for count in range(len(bare), -1, -1):
        page = markdown("", sentences, bare[:count]).partition("\n")[2]  # the tag has no heading
        text = "\n\n".join(filter(None, [about, page.strip(), made]))
        if len(text) <= _LONGEST_TAG:
            break
    return text[:_LONGEST_TAG]


def method_entry(plan: RunPlan, label: str, started: float) -> Entry:
    """A child run: a method with the settings that all its folds and seeds share.

    Settings that differ between folds, because they were tuned, are logged with the folds.
    """
    jobs = [job for job in plan.jobs if job.label == label]
    name = jobs[0].method
    names = registry.yardsticks if name in registry.yardsticks.names() else registry.methods
    about = names.summary(name) if name in names.names() else ""
    seeds = dict.fromkeys(str(job.seed) for job in jobs)
    identity = {"method": label, "seeds": ", ".join(seeds)} | _folds(plan)
    settings = {**jobs[0].recipe, **jobs[0].params}
    common = {
        k: v
        for k, v in settings.items()
        if all({**job.recipe, **job.params}[k] == v for job in jobs)
    }
    tags = _tags(plan, "method") | {METHOD: label} | ({DESCRIPTION: about} if about else {})
    return Entry(
        f"{label} in {_short(plan)} on {plan.dataset}",
        tags,
        _params(identity | _data(plan), common),
        started=started,
    )


def fold_name(job: Job, fold: int) -> str:
    """A name for a fold of a job that no other fold has."""
    return f"{job.key}/{fold}"


def fold_entry(
    plan: RunPlan, job: Job, result: TrainedFold, values: Mapping[str, float] | None, ended: float
) -> Entry:
    """A grandchild run: one training.

    Args:
        plan: the benchmark.
        job: what was trained.
        result: what is stored of it.
        values: from ``values_on_test``; None if they are not to be seen yet.
        ended: when it was stored, seconds since 1970.
    """
    environment = dict(result.environment)
    commit, device = environment.pop("commit", ""), environment.pop("device", "")
    tags = _tags(plan, "fold") | {
        METHOD: job.label,
        FOLD: fold_name(job, result.fold),
        "mil_bench.job": job.key,
        TEST: HELD if values is None else LOGGED,
    }
    tags |= {"mil_bench.method_version": job.method_version, "device": device}
    if repeats := environment.pop(REPEATS, ""):
        tags["mil_bench.repeats"] = repeats
    tags |= {f"version.{name}": version for name, version in environment.items()}
    if commit:
        tags |= {"mil_bench.commit": commit, "mlflow.source.git.commit": commit.partition("+")[0]}
    identity = {"method": job.label, "seed": job.seed, "fold": result.fold}
    started = ended - result.seconds
    epochs = max(map(len, result.curves.values()), default=0)
    points = [
        Point(f"curves/{name}", value, epoch, started + result.seconds * (epoch + 1) / epochs)
        for name, curve in result.curves.items()
        for epoch, value in enumerate(curve)
    ]
    cost = {
        "cost/seconds": result.seconds,
        "cost/epochs": epochs,
        "cost/best_epoch": result.best_epoch,
    }
    numbers = dict(values or {}) | (cost if epochs else {})
    numbers |= {f"slides/{role}": count for role, count in result.slides.items()}
    points += value_points(numbers, ended)
    name = f"{job.label} seed {job.seed} fold {result.fold} in {_short(plan)} on {plan.dataset}"
    params = _params(identity | _data(plan), {**job.recipe, **job.params})
    return Entry(name, tags, params, points, started, ended)


def value_points(values: Mapping[str, float], time: float) -> list[Point]:
    """Single values by name; undefined ones are left out."""
    return [Point(name, value, 0, time) for name, value in values.items() if not math.isnan(value)]


def trial_name(trial: Trial) -> str:
    """A name for a trial that no other trial has."""
    return f"{trial.study}/{trial.number}"


def trial_entry(plan: RunPlan, trial: Trial, ended: float) -> Entry:
    """A grandchild run: one trial. It has no values on test slides, which tuning never uses."""
    tags = _tags(plan, "trial") | {
        METHOD: trial.label,
        TRIAL: trial_name(trial),
        "mil_bench.job": trial.job_key,
    }
    tags |= {"mil_bench.state": trial.state} | (
        {"mil_bench.reason": trial.reason} if trial.reason else {}
    )
    fold_words = "" if trial.fold is None else f" fold {trial.fold}"
    identity = {
        "method": trial.label,
        "seed": trial.seed,
        "study": trial.study,
        "trial": trial.number,
    }
    identity |= ({} if trial.fold is None else {"fold": trial.fold}) | _data(plan)
    points = [
        Point(
            "curves/val_loss" + (f" fold {fold}" if len(trial.curves) > 1 else ""),
            value,
            epoch,
            ended,
        )
        for fold, curve in trial.curves.items()
        for epoch, value in enumerate(curve)
    ]
    values = {
        "trial/value": trial.value,
        "cost/epochs": trial.epochs,
        "cost/seconds": trial.seconds,
    }
    points += [
        Point(key, value, trial.number, ended) for key, value in values.items() if value is not None
    ]
    status = {"pruned": "KILLED", "failed": "FAILED"}.get(trial.state, "FINISHED")
    training = f"{trial.label} seed {trial.seed}{fold_words} trial {trial.number}"
    return Entry(
        f"{training} in {_short(plan)} on {plan.dataset}",
        tags,
        _params(identity, trial.settings),
        points,
        ended - trial.seconds,
        ended,
        status,
    )


def values_on_test(plan: RunPlan, result: TrainedFold) -> dict[str, float]:
    """All metric values of a fold's test slides by name, not a number if undefined."""
    values = measure(result.predictions, plan.hierarchy, plan.ordered).values
    names = {level: plain_names(class_names(level, plan.hierarchy)) for level in LEVELS}
    return {_named("test", measure, names): value for measure, value in values.items()}


def summary_points(trainings: Sequence[Mapping[str, float]], time: float) -> list[Point]:
    """Mean and sample standard deviation of a method's values over its trainings.

    A value that is undefined in one of them has neither: its mean would be over fewer slides than
    the other means.

    Args:
        trainings: the values of each training by name.
        time: of the points, seconds since 1970.
    """
    values = defaultdict(list)
    for of_training in trainings:
        for name, value in of_training.items():
            values[name].append(value)
    step = len(trainings)  # a later call with more trainings adds a point to the curve of the mean
    points = []
    for name, numbers in values.items():
        if len(numbers) == step and not any(map(math.isnan, numbers)):
            points.append(Point(name, fmean(numbers), step, time))
            if step > 1:
                points.append(Point(f"std_{name}", stdev(numbers), step, time))
    return points


def headline_points(
    plan: RunPlan, label: str, means: Mapping[str, tuple[float, int, float]]
) -> list[Point]:
    """The main values of a method, for the benchmark's own page, which compares methods.

    Args:
        plan: the benchmark.
        label: the method.
        means: name to mean, number of trainings, and time.
    """
    method = plain_names(job.label for job in plan.jobs)[label]
    names = {f"test_fine/{key}": f"fine_{key}/{method}" for key in ("macro_auc", "accuracy")}
    return [Point(shown, *means[name]) for name, shown in names.items() if name in means]


def _tags(plan: RunPlan, kind: str) -> dict[str, str]:
    tags = {RUN: plan.run_id, KIND: kind, "mil_bench.dataset": plan.dataset_caption}
    tags |= {
        "mil_bench.data_digest": data_digest(plan),
        "mil_bench.split_digest": plan.splits.digest,
    }
    return tags | {"mlflow.source.name": plan.command or "mil-bench", "mlflow.source.type": "LOCAL"}


def data_digest(plan: RunPlan) -> str:
    """Digest of the bags; "" if nothing is to be trained."""
    return next((job.data_digest for job in plan.jobs), "")


def _short(plan: RunPlan) -> str:
    """What distinguishes a benchmark from others on the same dataset: the end of its name."""
    return plan.run_id.rpartition("_")[2]


def _folds(plan: RunPlan) -> dict[str, Any]:
    """The number of folds of a repeat and, if there are several, of repeats."""
    repeats = plan.splits.repeats
    folds: dict[str, Any] = {"folds": len(plan.splits.folds) // repeats}
    return folds if repeats == 1 else folds | {"repeats": repeats}


def _data(plan: RunPlan) -> dict[str, Any]:
    data = {"dataset": plan.dataset, "protocol": plan.splits.protocol}
    return data | ({"combine": plan.combine} if plan.combine else {})


def _params(identity: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Identity and settings; a setting with the name of a part of the identity gets a prefix."""
    return dict(identity) | {f"setting {k}" if k in identity else k: v for k, v in settings.items()}


def _named(part: str, measure: Measure, names: Mapping[str, Mapping[str, str]]) -> str:
    """A metric's name in MLflow: ``test_fine/macro_auc``, ``test_fine_auc/ADH``."""
    key = plain(measure.key)
    section = "_".join(filter(None, [part, measure.level, key if measure.of else ""]))
    return f"{section}/{names[measure.level][measure.of] if measure.of else key}"
