"""What is logged of a benchmark, a method, a fold and a trial, as plain values; no MLflow here.

Names are chosen for MLflow's own page: it groups metrics by what stands before a slash, shows the
run's name first, and has columns of its own for the dataset, the command and the commit, which are
tags that begin with ``mlflow.``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.evaluation.metrics import Measure, measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.evaluation.trials import Trial
    from mil_bench.planning.plan import Job, RunPlan


RUN, KIND, METHOD, FOLD, TRIAL = (
    f"mil_bench.{name}" for name in ("run", "kind", "method", "fold", "trial")
)
DESCRIPTION = "mlflow.note.content"
_LONGEST_TAG = 8000


@dataclass(frozen=True)
class Point:
    """One value of a metric."""

    name: str
    value: float
    step: int
    time: float


@dataclass(frozen=True)
class Entry:
    """What one run of MLflow says.

    Args:
        name: shown first.
        tags: what it is searched by, and where it comes from.
        params: what was chosen.
        points: metrics; undefined ones are left out.
        started: seconds since 1970.
        ended: seconds since 1970, None while it goes on.
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
    """The parent."""
    params = {"methods": ", ".join(plan.methods), "seeds": ", ".join(map(str, plan.seeds))}
    params |= {"folds": len(plan.splits.folds), **_where(plan)}
    tags = _tags(plan, "benchmark") | {DESCRIPTION: description(plan, "")}
    # MLflow's page shows some twenty letters: what tells runs of a dataset apart comes first.
    name = f"{_short(plan)} {', '.join(plan.methods)} on {plan.dataset}, {plan.splits.protocol}"
    return Entry(name[:250], tags, params, started=started)


def description(plan: RunPlan, report: str) -> str:
    """The text that stands above a benchmark, as Markdown: what it found, then how it was made.

    Args:
        plan: the benchmark.
        report: its report as Markdown, "" as long as there is none; its first tables are taken, as
            far as a tag holds.
    """
    left_out = "".join(f"\n\n{name} is left out: {why}" for name, why in plan.skipped.items())
    about = f"**{plan.dataset_caption}**, protocol {plan.splits.protocol}"
    made = f"{plan.caption}{left_out}\n\nAgain with: `{plan.command}`"
    sections = [section.replace(plan.caption, "").strip() for section in report.split("\n## ")]
    text = (
        sections[0].partition("\n")[2].strip() if report else ""
    )  # without the title: the page has one
    for section in sections[1:4]:
        longer = f"{text}\n\n## {section}"
        if len(about) + len(longer) + len(made) > _LONGEST_TAG - 10:
            break
        text = longer
    return f"{about}\n\n{text}\n\n{made}"[:_LONGEST_TAG]


def method_entry(plan: RunPlan, label: str, started: float) -> Entry:
    """A child: a method with the settings that all of its folds and seeds have; tuned ones stand at the folds."""
    jobs = [job for job in plan.jobs if job.label == label]
    name = jobs[0].method
    known = registry.yardsticks if name in registry.yardsticks.names() else registry.methods
    about = known.summary(name) if name in known.names() else ""
    seeds = dict.fromkeys(str(job.seed) for job in jobs)
    identity = {"method": label, "seeds": ", ".join(seeds), "folds": len(plan.splits.folds)}
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
        _all(identity | _where(plan), common),
        started=started,
    )


def fold_name(job: Job, fold: int) -> str:
    """What tells a fold of a method from all others."""
    return f"{job.key}/{fold}"


def fold_entry(
    plan: RunPlan, job: Job, result: TrainedFold, figures: Mapping[str, float], ended: float
) -> Entry:
    """A grandchild: one training.

    Args:
        plan: the benchmark.
        job: what was trained.
        result: what is stored of it.
        figures: of ``test_figures``.
        ended: when it was stored, seconds since 1970.
    """
    environment = dict(result.environment)
    commit, device = environment.pop("commit", ""), environment.pop("device", "")
    tags = _tags(plan, "fold") | {
        METHOD: job.label,
        FOLD: fold_name(job, result.fold),
        "mil_bench.job": job.key,
    }
    tags |= {"mil_bench.method_version": job.method_version, "device": device}
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
    values = dict(figures) | (cost if epochs else {})
    values |= {f"slides/{role}": count for role, count in result.slides.items()}
    points += [
        Point(name, value, 0, ended) for name, value in values.items() if not math.isnan(value)
    ]
    name = f"{job.label} seed {job.seed} fold {result.fold} in {_short(plan)} on {plan.dataset}"
    return Entry(name, tags, _beside(identity | _where(plan), job), points, started, ended)


def trial_name(trial: Trial) -> str:
    """What tells a trial from all others."""
    return f"{trial.study}/{trial.number}"


def trial_entry(plan: RunPlan, trial: Trial, ended: float) -> Entry:
    """A grandchild: one setting that was tried; it has no test figures, since no test label chose anything."""
    tags = _tags(plan, "trial") | {
        METHOD: trial.label,
        TRIAL: trial_name(trial),
        "mil_bench.job": trial.job_key,
    }
    tags |= {"mil_bench.state": trial.state} | (
        {"mil_bench.reason": trial.reason} if trial.reason else {}
    )
    about = "" if trial.fold is None else f" fold {trial.fold}"
    identity = {
        "method": trial.label,
        "seed": trial.seed,
        "study": trial.study,
        "trial": trial.number,
    }
    identity |= ({} if trial.fold is None else {"fold": trial.fold}) | _where(plan)
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
    name = f"{trial.label} seed {trial.seed}{about} trial {trial.number} in {_short(plan)} on {plan.dataset}"
    return Entry(
        name, tags, _all(identity, trial.settings), points, ended - trial.seconds, ended, status
    )


def test_figures(plan: RunPlan, result: TrainedFold) -> dict[str, float]:
    """Every figure of a fold's test slides, not a number where it is undefined."""
    found = measure(result.predictions, plan.hierarchy, plan.ordered).values
    return {_named("test", figure): value for figure, value in found.items()}


test_figures.__test__ = False  # its name is the field's word, and no test's


def summary_points(figures: Sequence[Mapping[str, float]], time: float) -> list[Point]:
    """Mean and sample standard deviation of a method's figures over its trainings.

    What is undefined in one of them has neither: its mean would not be about the same slides.
    """
    values = defaultdict(list)
    for each in figures:
        for name, value in each.items():
            values[name].append(value)
    whole = {
        k: v for k, v in values.items() if len(v) == len(figures) and not any(map(math.isnan, v))
    }
    step = len(figures)  # a later call that knows more trainings adds to the curve of the mean
    points = [Point(name, fmean(of), step, time) for name, of in whole.items()]
    return points + [
        Point(f"std_{name}", stdev(of), step, time) for name, of in whole.items() if step > 1
    ]


def headline_points(label: str, means: Mapping[str, tuple[float, int, float]]) -> list[Point]:
    """What a benchmark shows of a method itself, so that its page compares methods.

    Args:
        label: the method.
        means: name to mean, number of trainings, and time.
    """
    names = {f"test_fine/{key}": f"fine_{key}/{plain(label)}" for key in ("macro_auc", "accuracy")}
    return [Point(shown, *means[name]) for name, shown in names.items() if name in means]


def _tags(plan: RunPlan, kind: str) -> dict[str, str]:
    tags = {RUN: plan.run_id, KIND: kind, "mil_bench.dataset": plan.dataset_caption}
    tags |= {
        "mil_bench.data_digest": data_digest(plan),
        "mil_bench.split_digest": plan.splits.digest,
    }
    return tags | {"mlflow.source.name": plan.command or "mil-bench", "mlflow.source.type": "LOCAL"}


def data_digest(plan: RunPlan) -> str:
    """Digest of the bags; "" where nothing is to be trained."""
    return next((job.data_digest for job in plan.jobs), "")


def _short(plan: RunPlan) -> str:
    """What tells a benchmark from others on the same dataset: the end of its name."""
    return plan.run_id.rpartition("_")[2]


def _where(plan: RunPlan) -> dict[str, Any]:
    return {"dataset": plan.dataset, "protocol": plan.splits.protocol}


def _beside(identity: Mapping[str, Any], job: Job) -> dict[str, Any]:
    return _all(identity, {**job.recipe, **job.params})


def _all(identity: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What it is and how it was set; a setting that is called like a part of the identity keeps its value too."""
    return dict(identity) | {f"setting {k}" if k in identity else k: v for k, v in settings.items()}


def _named(part: str, figure: Measure) -> str:
    """A figure's name: ``test_fine/macro_auc``, ``test_fine_auc/ADH``."""
    section = "_".join(filter(None, [part, figure.level, figure.key if figure.of else ""]))
    return f"{section}/{plain(figure.of or figure.key)}"


def plain(name: str) -> str:
    """A name with the characters MLflow allows, in a metric's section without a slash."""
    return "".join(c if c.isalnum() or c in "_-. " else "_" for c in name)
