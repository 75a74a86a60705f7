"""The settings that trials have chosen, as a plan whose jobs have them."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING

from mil_bench import registry
from mil_bench.errors import InputError
from mil_bench.evaluation.trials import Trial, best_of
from mil_bench.methods.settings import tuned_ranges
from mil_bench.planning.choice import Chosen, Tuning
from mil_bench.planning.options import words_of
from mil_bench.running.setup import Setup
from mil_bench.tuning.pruning import Pruning
from mil_bench.tuning.studies import StudyPlan, trial_job
from mil_bench.tuning.trial_store import TrialStore
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.planning.plan import Job, RunPlan
    from mil_bench.planning.prepare import Prepared
    from mil_bench.planning.request import RunRequest
    from mil_bench.results import Results


def studies_of(prepared: Prepared) -> list[StudyPlan]:
    """The studies of a request, method by method; settings that the user fixes are not tuned."""
    request, plan = prepared.request, prepared.plan
    rows = {row.label: row for row in request.rows}
    folds = range(len(plan.splits.folds))
    groups = [(k,) for k in folds] if request.select == "per-fold" else [tuple(folds)]
    pruning = Pruning() if request.pruning else None
    studies: dict[str, StudyPlan] = {}
    for job in plan.jobs:
        if job.label not in rows:
            continue
        fixed = rows[job.label].settings
        ranges = tuned_ranges(registry.methods.load(job.method), plan.ordered)
        space = {name: values for name, values in ranges.items() if name not in fixed}
        for group in groups:
            study = StudyPlan(job, space, group, request.select, pruning)
            studies.setdefault(study.key, study)
    return list(studies.values())


def with_chosen_settings(prepared: Prepared, results: Results) -> Prepared:
    """A plan with the settings that stored trials have chosen.

    Args:
        prepared: the plan with the methods' own settings.
        results: where trials are stored.

    Raises:
        InputError: trials are missing: of those that the request asks for, or no trials are stored,
            or not the same number for every study.
    """
    request, plans = prepared.request, studies_of(prepared)
    store = TrialStore(results.studies)
    setup = Setup(results=results.folder, data=prepared.bags.path.parent)
    trials = _trials_of_each(plans, store, request, shlex.join(words_of(setup)))
    records = {plan.key: store.records(plan.folder_in(store))[:trials] for plan in plans}
    return dataclasses.replace(prepared, plan=_chosen_plan(prepared, trials, records))


def stored_trials(plans: Sequence[StudyPlan], trials: int, results: Results) -> int:
    """How many of the trials of all studies are stored, ``trials`` per study at most."""
    store = TrialStore(results.studies)
    return sum(min(trials, len(store.records(plan.folder_in(store)))) for plan in plans)


def _trials_of_each(
    plans: Sequence[StudyPlan], store: TrialStore, request: RunRequest, folders: str
) -> int:
    """The number of trials that is asked for, or is stored; the same for every study."""
    counts = {plan.key: len(store.records(plan.folder_in(store))) for plan in plans}
    most = request.tune or max(counts.values(), default=0)
    least = min(counts.values(), default=most)
    if least >= most > 0:
        return most
    problems = []
    for plan in plans:
        if counts[plan.key] < max(most, 1):
            fold = "" if plan.fold is None else f" fold {plan.fold}"
            others = f", {most} are asked for" if request.tune else f", others have {most}"
            problems.append(
                f"{plan.base.label} seed {plan.base.seed}{fold} has "
                f"{plural(counts[plan.key], 'trial')}{others if most else ''}"
            )
    command = f"{request.tune_command(most or 20)} {folders}".rstrip()
    remedy = f"Every method needs the same budget. Make the missing trials with\n  {command}"
    raise InputError("tuned settings", problems, remedy)


def _chosen_plan(
    prepared: Prepared, trials: int, records: Mapping[str, Sequence[Trial]]
) -> RunPlan:
    """The plan of the chosen jobs; each is trained on the folds that use it."""
    base, request = prepared.plan, prepared.request
    everywhere = tuple(range(len(base.splits.folds)))
    chosen: list[Chosen] = []
    folds_of: dict[tuple[str, str], list[int]] = {}
    jobs: dict[tuple[str, str], Job] = {}
    failed: dict[str, list[str]] = {}
    plans = studies_of(prepared)
    for job in base.jobs:
        studies = [p for p in plans if dataclasses.replace(p.base, label=job.label) == job]
        if not studies:  # a yardstick
            jobs[job.label, job.key], folds_of[job.label, job.key] = job, list(everywhere)
        for plan in studies:
            best = best_of(records[plan.key])
            number = None if best is None else best.number
            chosen.append(Chosen(job.label, job.method, job.seed, plan.fold, plan.key, number))
            if best is None:
                reason = records[plan.key][-1].reason
                fold = "" if plan.fold is None else f" in fold {plan.fold}"
                failed.setdefault(job.label, []).append(
                    f"no trial is complete{fold} (last reason: {reason})"
                )
                continue
            winner = dataclasses.replace(trial_job(plan, best.settings), label=job.label)
            jobs[job.label, winner.key] = winner
            folds_of.setdefault((job.label, winner.key), []).extend(plan.folds)
    complete = {label for label, _ in jobs}
    reasons = {label: "; ".join(texts) for label, texts in failed.items()}
    return dataclasses.replace(
        base,
        jobs=tuple(jobs.values()),
        parts=tuple(tuple(sorted(folds_of[name])) for name in jobs),
        skipped={
            **base.skipped,
            **{label: text for label, text in reasons.items() if label not in complete},
        },
        remarks={
            **base.remarks,
            **{label: text for label, text in reasons.items() if label in complete},
        },
        tuning=Tuning(trials, request.select, request.pruning, tuple(chosen)),
    )
