"""What the commands do: build a request, call, print."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def run(arguments: argparse.Namespace) -> int:
    """Train and compare; 1 if a training failed."""
    from mil_bench.running.request import RunRequest
    from mil_bench.running.runner import Workplace, execute, prepare

    place = Workplace(
        results=arguments.results,
        data=arguments.data,
        workers=arguments.workers,
        device=arguments.device,
        tracking=not arguments.no_tracking,
    )
    requests = [
        RunRequest(
            dataset=dataset,
            methods=tuple(arguments.methods),
            protocol=arguments.protocol,
            folds=arguments.folds,
            seeds=tuple(arguments.seeds),
            preset=arguments.preset,
            epochs=arguments.epochs,
            plugins=tuple(arguments.plugin),
        )
        for dataset in dict.fromkeys(arguments.dataset)
    ]
    prepared = [prepare(request, place) for request in requests]  # all of them are checked before the first trains
    if arguments.dry_run:
        for each in prepared:
            _print_plan(each.plan, place.store)
        return 0
    failed = False
    for each in prepared:
        result = execute(each, place)
        _print_result(result, place.report_folder(result.plan) / "report.md")
        failed |= bool(result.failures)
    return 1 if failed else 0


def _print_plan(plan: Any, store: Any) -> None:
    folds = len(plan.splits.folds)
    print(f"run {plan.run_id}\n{plan.caption}\n")
    for k, fold in enumerate(plan.splits.folds):
        print(f"fold {k}: {len(fold.train)} training, {len(fold.val)} validation, {len(fold.test)} test slides")
    print()
    for job in plan.jobs:
        recipe = job.recipe
        done = len(store.done(job) & set(range(folds)))
        how = "looks at no image"
        if recipe:
            how = f"{recipe['epochs']} epochs, {recipe['optimizer']}, learning rate {recipe['learning_rate']:g}, "
            how += f"{recipe['batch_size']} bags a step"
        print(f"{job.method:14} seed {job.seed}: {folds - done} of {folds} folds to train, {how}")
    for name, why in plan.skipped.items():
        print(f"{name:14} is left out: {why}")


def _print_result(result: Any, report: Path) -> None:
    from mil_bench.evaluation.report.terminal import print_tables

    print_tables(result.report_tables)
    for fact in result.facts:
        print(f"! {fact}")
    print(f"\nReport: {report}  (tables as CSV and LaTeX beside it; again with: mil-bench report {result.run_id})")


def list_names(arguments: argparse.Namespace) -> int:
    """Methods, datasets, protocols or runs."""
    if arguments.what == "runs":
        from mil_bench.running.result_store import ResultStore

        store = ResultStore(arguments.results / "runs")
        for run_id in store.runs():
            plan = store.load_plan(run_id)
            folds = set(range(len(plan.splits.folds)))
            done = sum(len(store.done(job) & folds) for job in plan.jobs)
            print(f"{run_id}  {done} of {len(plan.jobs) * len(folds)} trainings  {', '.join(plan.methods)}")
        return 0
    if arguments.what == "protocols":
        from mil_bench.data.splits import PROTOCOLS

        rows = [(name, protocol.summary) for name, protocol in PROTOCOLS.items()]
    else:
        rows = _methods() if arguments.what == "methods" else _datasets(arguments.data)
    width = max(len(name) for name, _ in rows)
    for name, summary in rows:
        print(f"{name:{width}}  {summary}")
    return 0


def _methods() -> list[tuple[str, str]]:
    from mil_bench.registry import methods, yardsticks

    rows = [(name, methods.fault(name) or methods.summary(name)) for name in methods.names()]
    return rows + [(name, yardsticks.summary(name)) for name in yardsticks.names()]


def _datasets(data: Path) -> list[tuple[str, str]]:
    from mil_bench.data.catalogue import store_path
    from mil_bench.registry import datasets

    rows = []
    for name in datasets.names():
        spec = datasets.load(name)
        ready = spec.generator is not None or store_path(spec, data).exists()
        rows.append((name, spec.title + ("" if ready else "  [features to be packed]")))
    return rows


def report(arguments: argparse.Namespace) -> int:
    """A run's tables again."""
    from mil_bench.running.result_store import ResultStore
    from mil_bench.running.run_result import RunResult

    store = ResultStore(arguments.results / "runs")
    result = RunResult.collect(store, store.load_plan(arguments.run))
    folder = arguments.results / "reports" / arguments.run
    _print_result(result, folder / "report.md")
    result.write(folder)
    return 0


def card(arguments: argparse.Namespace) -> int:
    """A dataset's card."""
    from mil_bench.data.catalogue import find_dataset

    spec = find_dataset(arguments.dataset)
    counts = dict(zip(spec.hierarchy.fine, spec.class_counts, strict=True))
    print(f"{spec.caption}\n{spec.title}\n")
    for g, coarse in enumerate(spec.hierarchy.coarse):
        own = [f for f, parent in zip(spec.hierarchy.fine, spec.hierarchy.parent, strict=True) if parent == g]
        print(f"  {coarse}: {', '.join(f'{name} ({counts[name]})' for name in own)}")
    print(f"\ngroups:    {spec.groups.count} of kind {spec.groups.name}")
    print(f"bags:      median {spec.bags.median} instances ({spec.bags.basis})")
    print(f"protocols: {', '.join(spec.protocols)}\nsource:    {spec.source}\nlicence:   {spec.licence}")
    print(f"cite:      {spec.citation}\ntraps:")
    for trap in spec.traps:
        print(f"  - {trap}")
    return 0


def pack(arguments: argparse.Namespace) -> int:
    """Feature files into a store."""
    from rich.console import Console
    from rich.progress import track

    from mil_bench.data import pack as packing
    from mil_bench.data.catalogue import find_dataset

    console = Console(stderr=True)

    def watch(files: Any, total: int) -> Any:
        return track(files, "packing", total, console=console, disable=not console.is_terminal)

    spec = find_dataset(arguments.dataset)
    packed = packing.pack(arguments.folder, spec, arguments.labels, arguments.data, watch)
    store = packed.store
    formats = ", ".join(f"{count} {name}" for name, count in packed.formats.items())
    print(f"{store.path}: {len(store)} slides, {store.rows} instances, {store.width} features ({formats})")
    counts = store.slides["label"].value_counts().reindex(range(spec.hierarchy.n_fine), fill_value=0)
    for name, count, expected in zip(spec.hierarchy.fine, counts, spec.class_counts, strict=True):
        shares = f"{count / len(store):.1%}, on the card {expected / sum(spec.class_counts):.1%}"
        print(f"  {name}: {count} slides ({shares})")
    if not store.group_name:
        blank = f"{len(packed.without_group)} of {len(store)} slides have no {spec.groups.name}"
        print(f"{blank}: slides of one {spec.groups.name} may fall on two sides of a split, and captions say so.")
    if packed.without_features:
        shown = ", ".join(packed.without_features[:5])
        print(f"{len(packed.without_features)} labelled slides have no feature file: {shown}")
    print(f"Run:  mil-bench run --methods all --dataset {spec.name}")
    return 0


def check(arguments: argparse.Namespace) -> int:
    """The conformance checks of a method; 1 if one fails."""
    from mil_bench import registry
    from mil_bench.methods import Method
    from mil_bench.methods.conformance import check_method

    for plugin in arguments.plugin:
        registry.methods.add_file(plugin, Method)
    outcomes = check_method(registry.methods.load(arguments.method))
    for outcome in outcomes:
        mark = "FAIL" if outcome.reason else "pass"
        print(f"{mark}  {outcome.check.name:19} {outcome.check.clause}")
        if outcome.reason:
            print(f"      {outcome.reason}")
    failed = sum(bool(outcome.reason) for outcome in outcomes)
    print(f"{arguments.method}: {len(outcomes) - failed} of {len(outcomes)} checks pass")
    return 1 if failed else 0


def new(arguments: argparse.Namespace) -> int:
    """A plugin package."""
    from mil_bench.scaffold import new_plugin

    for path in new_plugin(arguments.name, arguments.folder):
        print(path)
    folder = arguments.folder / arguments.name
    print(f"Next:  pip install -e {folder}  &&  mil-bench check {arguments.name}")
    return 0


def import_checkpoint(arguments: argparse.Namespace) -> int:
    """The authors' checkpoint as one of ours."""
    from mil_bench.data.catalogue import find_dataset
    from mil_bench.methods.build import build_method, parse_params, read_checkpoint, save_method

    hierarchy = find_dataset(arguments.dataset).hierarchy
    params = parse_params(arguments.method, arguments.param)
    method = build_method(arguments.method, arguments.in_dim, hierarchy, **params)
    method.load_official_state(read_checkpoint(arguments.file))
    target = arguments.file.with_name(f"{arguments.file.stem}.mil-bench.pt")
    save_method(method, arguments.method, params, target)
    print(f"{target}: {arguments.method} with {sum(p.numel() for p in method.parameters()):,} parameters")
    print(f"In Python:  mil_bench.load_method({str(target)!r})")
    return 0
