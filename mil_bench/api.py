"""The Python interface: train and compare methods, and what watches a run."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.errors import InputError, StorageError, UnknownNameError
from mil_bench.evaluation.metric import MARGIN
from mil_bench.planning.asked import Asked
from mil_bench.planning.prepare import Prepared
from mil_bench.planning.prepare import prepare as prepare_request
from mil_bench.planning.request import RunRequest
from mil_bench.planning.rows import MethodRow
from mil_bench.progress import progress_bar, unwatched
from mil_bench.results import Results
from mil_bench.running.setup import ELSEWHERE, Cluster, Setup, data_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.cluster.folds import FoldsElsewhere
    from mil_bench.methods import Method
    from mil_bench.running.listeners import Listener
    from mil_bench.running.result_store import ResultStore
    from mil_bench.running.runner import MissingFolds
    from mil_bench.runs.result import RunResult


def run(
    methods: str | MethodRow | type[Method] | Sequence[str | MethodRow | type[Method]] = "all",
    dataset: str = "digits",
    *,
    protocol: str | None = None,
    folds: int | None = None,
    repeats: int = 1,
    splits: Path | str | None = None,
    allow_missing: bool = False,
    seeds: int | Sequence[int] = 0,
    preset: str = "paper",
    epochs: int | None = None,
    combine: str | None = None,
    class_weights: str | None = None,
    sampler: str | None = None,
    encoder: str | Sequence[str] = (),
    plugins: Path | str | Sequence[Path | str] = (),
    tune: int | None = None,
    tuned: bool = False,
    select: str = "per-fold",
    pruning: bool = True,
    metric: str | None = None,
    margin: float = 100 * MARGIN,
    reference: str | None = None,
    pairs: Sequence[str | tuple[str, str]] = (),
    results: Path | str = "results",
    data: Path | str | None = None,
    workers: int | None = None,
    device: str = "auto",
    deterministic: bool = False,
    on: str = "local",
    patience_minutes: float = 240,
    debug: bool = False,
    cluster: Cluster | None = None,
    shard: str | None = None,
    collect: bool = False,
    tracking: bool = True,
    progress: bool = True,
    **unknown: object,
) -> RunResult:
    """Train methods by seeded cross-validation and compare them.

    Repeating a call trains only what is missing.

    Args:
        methods: "all", "core" (HMIL, ABMIL, CLAM, TransMIL, DSMIL and pooling), a name, or several
            of these; with settings as ``"hmil:align_bags=false"``. Or classes:
            ``MyMethod`` of a notebook is ``my-method``, and all trainings run in this process.
        dataset: a dataset's name, with settings if it is generated (``"bracs-sim:slides=200"``), or
            the path of a card file.
        protocol: name of a protocol, None for the dataset's default.
        folds: number of folds, None for the preset's.
        repeats: number of times that the cross-validation is made, each time with other folds.
        splits: a split file to follow.
        allow_missing: follow it without its slides that have no features.
        seeds: training seeds; every method is trained once per fold and seed.
        preset: "paper", the authors' recipes on all folds; or "quick", 3 folds, at most 40
            steps per training slide.
        epochs: epochs for every method, None for recipe and preset.
        combine: how slides of a patient are combined if labels belong to patients: "bag" or
            "mean"; None for "bag".
        class_weights: for every method, "balanced" or "none"; None for the recipe's.
        sampler: for every method, "balanced" (the training slides of an epoch are drawn with
            replacement, so that classes come equally often) or "shuffled"; None for the recipe's.
        encoder: name of the encoder whose features are used, if there are several. Of several names
            the first is used, on the slides that all of them have; call ``run`` once with each in
            front, and compare the results with ``mil_bench.runs.encoders.EncoderGrid``.
        plugins: Python files with methods.
        tune: first run a search of so many trials per method.
        tuned: use the settings that stored trials have chosen.
        select: how trials are chosen, "per-fold" or "shared".
        pruning: end trials without prospect early.
        metric: key of the metric on which methods are compared ("accuracy"), None for the
            dataset's, mostly macro AUC.
        margin: methods that are shown to differ by less are practically equivalent, in percentage
            points, or in hundredths for a metric that is not shown in percent.
        reference: compare only this method with each other one, as tables call them.
        pairs: compare only these pairs, each ``("a", "b")`` or ``"a:b"``.
        results: folder of results.
        data: folder of packed features, None for ``data`` or the value of ``MIL_BENCH_DATA``.
        workers: trainings at the same time, None for one per core or GPU.
        device: "auto", "cpu", "cuda" (all visible GPUs) or "cuda:3" (one of them).
        deterministic: on a GPU, compute in the same order every time; slower.
        on: what trains: "local" (processes), "inline" (this process), "slurm", "workers", "dask"
            or an executor of another package.
        patience_minutes: a training that ends no epoch for so long is ended; 0 for never.
        debug: train in this process, and raise the first error of a training.
        cluster: how other machines are used, for ``on="slurm"``, "workers" and "dask".
        shard: "I/N" to train only part I of N.
        collect: train nothing; take what is stored.
        tracking: log to MLflow.
        progress: show progress.
        unknown: refused, with the nearest name there is.

    Returns:
        A ``RunResult``: ``.tables`` holds pandas frames, ``.predictions`` every test prediction.

    Raises:
        MilBenchError: what is wrong with the request; its text says what to do.
    """
    for name in unknown:
        raise UnknownNameError(
            "option", name, inspect.signature(run).parameters.keys() - {"unknown"}
        )
    request = RunRequest(
        dataset=dataset,
        methods=_names_of(methods),
        protocol=protocol,
        folds=folds,
        repeats=repeats,
        splits=None if splits is None else Path(splits),
        allow_missing=allow_missing,
        seeds=(seeds,) if isinstance(seeds, int) else tuple(seeds),
        preset=preset,
        epochs=epochs,
        combine=combine,
        class_weights=class_weights,
        sampler=sampler,
        encoders=(encoder,) if isinstance(encoder, str) else tuple(encoder),
        plugins=_paths(plugins),
        tune=tune,
        tuned=tuned,
        select=select,
        pruning=pruning,
    )
    setup = Setup(
        results=Path(results),
        data=data_folder() if data is None else Path(data),
        workers=workers,
        device=device,
        deterministic=deterministic,
        on=on,
        patience_minutes=patience_minutes,
        debug=debug,
        cluster=cluster or Cluster(),
        shard=shard,
        collect=collect,
        tracking=tracking,
        progress=progress,
    )
    asked = _asked(metric, margin, reference, pairs)
    prepared = prepare(request, setup)
    return execute(prepared, _where_classes_are(prepared, setup), asked)


def _names_of(methods: Any) -> tuple[str | MethodRow, ...]:
    """Names and rows as they are; classes as names, under which they are offered from now on."""
    from mil_bench.methods import Method

    given = (methods,) if isinstance(methods, str | MethodRow | type) else tuple(methods)
    wrong = [
        f"{method!r:.80} is neither a name nor a class of mil_bench.methods.Method"
        for method in given
        if not isinstance(method, str | MethodRow)
        and not (isinstance(method, type) and issubclass(method, Method))
    ]
    if wrong:
        raise InputError("methods", wrong, "mil-bench methods list shows the names.")
    return tuple(
        registry.methods.add_class(method) if isinstance(method, type) else method
        for method in given
    )


def _where_classes_are(prepared: Prepared, setup: Setup) -> Setup:
    """The setup, with all trainings in this process if other processes do not know a class."""
    names = sorted(
        {j.method for j in prepared.plan.jobs if registry.methods.is_of_session(j.method)}
    )
    if not names or setup.on == "inline":
        return setup
    if setup.progress:
        sys.stderr.write(
            f"{', '.join(names)}: a class of this session, so all methods are trained in this "
            "process, one after another. In a file (plugins=FILE) they use all cores.\n"
        )
    return dataclasses.replace(setup, on="inline")


def _paths(files: Path | str | Sequence[Path | str]) -> tuple[Path, ...]:
    return (Path(files),) if isinstance(files, str | Path) else tuple(map(Path, files))


def _asked(
    metric: str | None, margin: float, reference: str | None, pairs: Sequence[str | tuple[str, str]]
) -> Asked:
    each = (pairs,) if isinstance(pairs, str) else pairs
    words = tuple(pair if isinstance(pair, str) else ":".join(pair) for pair in each)
    return Asked(margin, reference, words, metric)


def open_run(
    name: str,
    results: Path | str = "results",
    *,
    metric: str | None = None,
    margin: float = 100 * MARGIN,
    reference: str | None = None,
    pairs: Sequence[str | tuple[str, str]] = (),
) -> RunResult:
    """A stored run.

    Args:
        name: of the run, as ``mil-bench runs list`` shows it.
        results: folder of results.
        metric: as of ``run``.
        margin: as of ``run``.
        reference: as of ``run``.
        pairs: as of ``run``.

    Raises:
        UnknownNameError: there is no such run.
        InputError: the run has no such method, or methods cannot be compared on the metric.
        StorageError: one of its files is broken.
    """
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.result import RunResult

    store = ResultStore(Results(Path(results)).runs)
    asked = _asked(metric, margin, reference, pairs)
    result = RunResult.collect(store, store.load_plan(name), asked=asked)
    result.note_shown()
    return result


def prepare(request: RunRequest, setup: Setup) -> Prepared:
    """Check a request and plan it; trains nothing.

    A simulated dataset is generated if it is not there.
    """

    def watch(bags: Any, count: int) -> Any:
        return progress_bar(bags, count, f"making {request.dataset}")

    return prepare_request(request, Path(setup.data), watch if setup.progress else None)


def execute(
    prepared: Prepared,
    setup: Setup,
    asked: Asked = Asked(),  # noqa: B008 - it is frozen
) -> RunResult:
    """Train what the result store lacks and collect everything; tunes first if asked to.

    Raises:
        InputError: the run lacks a method that is to be compared, or cannot be made as asked.
    """
    from mil_bench.running.result_store import ResultStore
    from mil_bench.runs.plan_records import keep_chosen, keep_plan
    from mil_bench.runs.result import RunResult

    asked.require(prepared.plan)  # before anything is trained
    store = ResultStore(setup.folder.runs)
    if prepared.request.is_tuned:
        if prepared.request.tune and setup.cluster.detach:
            remedy = "Call mil-bench tune ... --detach first, then mil-bench run ... --tuned."
            problem = "the trials decide what is trained, so detach cannot send both"
            raise InputError("the request", [problem], remedy)
        if prepared.request.tune and not setup.collect:
            setup.require_device()
        record = None if setup.collect else keep_plan(store, prepared, asked)
        prepared = tune_settings(prepared, setup)
        if record is not None:
            keep_chosen(store, record, prepared.plan)
    plan = prepared.plan
    listeners = _listeners(setup)
    source = _source(prepared, store, setup, listeners)
    if not (source.is_complete or setup.collect):
        setup.require_device()
        prepared.bags.verify(progress_bar if setup.progress else unwatched)
    store.save_plan(plan)
    if not (setup.collect or prepared.request.is_tuned):
        keep_plan(store, prepared, asked)
    try:
        trainings, stored_keys = source.trainings, {(job.key, fold) for job, fold in source.stored}
        done = sum((job.key, fold) in stored_keys for job, fold in trainings)
        for listener in listeners:
            listener.on_start(plan, trainings, done)
        for job, fold in source.stored:
            stored = store.load_fold(job, fold)
            for listener in listeners:
                listener.on_stored_fold(job, stored)
        if not setup.collect:
            source.train()
        if source.is_detached or setup.shard:
            return RunResult.collect(store, plan, tuple(source.failures), asked)
        failures = (*source.failures, *source.vanished())
        result = RunResult.collect(store, plan, failures, asked)
        try:
            write = result.write if setup.tracking else result.write_tables  # figures take seconds
            folder = write(setup.folder.reports / plan.run_id).parent
            for listener in listeners:
                listener.on_report(folder, result.sentences, result.report_tables)
        except StorageError as error:  # the tables can be shown all the same
            result = RunResult.collect(store, plan, (*failures, str(error)), asked)
    finally:
        for listener in listeners:
            listener.on_end()
    return result


def _source(
    prepared: Prepared, store: ResultStore, setup: Setup, listeners: Sequence[Listener]
) -> MissingFolds | FoldsElsewhere:
    """What trains the missing folds: this machine or others."""
    if setup.on in ELSEWHERE:
        from mil_bench.cluster.folds import FoldsElsewhere

        return FoldsElsewhere(prepared, store, setup, listeners)
    from mil_bench.running.runner import MissingFolds

    return MissingFolds(prepared, store, setup.machine, setup.folder.logs, listeners)


def tune_settings(prepared: Prepared, setup: Setup) -> Prepared:
    """The plan with chosen settings; missing trials are made first if that was asked for.

    Raises:
        InputError: trials are missing that were not asked for, or that other machines did not make.
    """
    from mil_bench.tuning.choosing import with_chosen_settings

    if prepared.request.tune:
        make_missing_trials(prepared, setup)
    return with_chosen_settings(prepared, setup.folder)


def make_missing_trials(prepared: Prepared, setup: Setup) -> tuple[int, int]:
    """Make the trials that a request asks for; with ``detach`` only hand them to other machines.

    Returns:
        How many trials are stored, and how many are asked for.

    Raises:
        InputError: other machines did not make all of them.
    """
    from mil_bench.cluster.trials import TrialsElsewhere  # brings optuna
    from mil_bench.tuning.choosing import stored_trials, studies_of
    from mil_bench.tuning.display import DashboardFile, TuningDisplay
    from mil_bench.tuning.tuner import make_trials

    trials = prepared.request.tune
    assert trials is not None
    prepared.bags.verify(progress_bar if setup.progress else unwatched)
    plans = studies_of(prepared)
    listeners: list[Listener] = [DashboardFile(setup.folder.dashboard_file)]
    if setup.progress:
        listeners.insert(0, TuningDisplay())
    if setup.on in ELSEWHERE:
        TrialsElsewhere(prepared, plans, setup, listeners).train()
    else:
        make_trials(prepared, plans, trials, setup.folder, setup.machine, listeners)
    return stored_trials(plans, trials, setup.folder), trials * len(plans)


def _listeners(setup: Setup) -> list[Listener]:
    """Progress and tracking, as asked for."""
    listeners: list[Listener] = []
    if setup.progress:
        from mil_bench.running.display import ProgressDisplay

        listeners.append(ProgressDisplay())
    if setup.tracking:
        from mil_bench.tracking.tracker import MlflowTracker

        listeners.append(MlflowTracker(setup.folder))
    return listeners
