"""From a request to a plan: which methods can be trained on these bags, with which settings, on which folds."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.datasets.slides import packed_slides
from mil_bench.errors import PluginError
from mil_bench.methods.settings import defaults_of, parse_settings, recipe_of
from mil_bench.planning.plan import Job, RunPlan
from mil_bench.planning.request import PRESETS, RunRequest
from mil_bench.planning.rows import MethodRow
from mil_bench.split_files.formats.own import follow_file
from mil_bench.splits.protocols import make_splits, protocol_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.splits.plan import SplitPlan


def make_plan(request: RunRequest, spec: DatasetSpec, store: BagStore) -> RunPlan:
    """The plan behind a request.

    Raises:
        UnknownNameError: a method, setting or protocol that does not exist.
        SplitError: the splits cannot be made.
        InputError: the split file cannot be followed, or a setting has a value it cannot have.
        PluginError: a method breaks the contract's form.
    """
    splits = _splits(request, spec, store)
    caption = spec.caption
    if spec.generator is None:
        caption += f" ({len(store)} slides; {store.origin}, {store.width} features)"
    methods, skipped = _usable(request, store)
    remarks = {
        each.label: method.without_hierarchy for each, method in methods if spec.hierarchy.is_flat
    }

    def job(
        variant: MethodRow,
        method: Any,
        params: Mapping[str, Any],
        recipe: Mapping[str, Any],
        seed: int,
    ) -> Job:
        return Job(
            dataset=spec.slug,
            data_digest=store.digest,
            method=variant.method,
            method_version=registry.methods.version(variant.method, method),
            params=params,
            recipe=recipe,
            split_digest=splits.digest,
            seed=seed,
            label=variant.label,
        )

    settings = [_settings(each, method, request, store) for each, method in methods]
    jobs = [
        job(each, method, *chosen, seed)
        for (each, method), chosen in zip(methods, settings, strict=True)
        for seed in request.seeds
    ]
    if store.group_name:
        yardsticks = [
            (MethodRow(name), registry.yardsticks.load(name))
            for name in registry.yardsticks.names()
        ]
        jobs += [
            job(each, yardstick, {}, {}, seed)
            for each, yardstick in yardsticks
            for seed in request.seeds
        ]
    return RunPlan(
        dataset=spec.slug,
        dataset_caption=caption,
        hierarchy=spec.hierarchy,
        splits=splits,
        jobs=tuple(jobs),
        skipped=skipped,
        remarks={name: remark for name, remark in remarks.items() if remark},
        ordered=spec.ordered,
        command=request.command,
    )


def _splits(request: RunRequest, spec: DatasetSpec, store: BagStore) -> SplitPlan:
    """The folds of the split file, or else made by the protocol."""
    table = packed_slides(store, spec)
    if request.splits is not None:
        return follow_file(Path(request.splits), spec, table)
    protocol = request.protocol or spec.protocols[0]
    own_folds = protocol_named(protocol, spec.protocols, spec.name).folds or spec.folds
    folds = (
        request.folds
        if request.folds is not None
        else min(PRESETS[request.preset].folds or own_folds, own_folds)
    )
    plan = make_splits(protocol, table.frame, spec.hierarchy, folds, table.group_name)
    return dataclasses.replace(plan, facts=table.blind_spots(table.frame["slide"]))


def _usable(
    request: RunRequest, store: BagStore
) -> tuple[list[tuple[MethodRow, Any]], dict[str, str]]:
    """The methods asked for that can be trained on these bags, and why the others cannot.

    Raises:
        PluginError: a method that was asked for by its name cannot be loaded.
    """
    methods, skipped = [], {}
    for variant in request.rows:
        try:
            method = registry.methods.load(variant.method)
            _require_form(variant.method, method)
        except PluginError as error:
            if request.names(variant):
                raise
            skipped[variant.label] = str(error)
            continue
        if method.needs_instance_labels and store.instance_labels is None:
            skipped[variant.label] = f"it learns from instance labels, and {store.dataset} has none"
        else:
            methods.append((variant, method))
    return methods, skipped


def _require_form(name: str, method: Any) -> None:
    """Refuse what cannot be planned: no recipe, or parameters whose defaults cannot be written down."""
    problems = (
        [] if dataclasses.is_dataclass(getattr(method, "recipe", None)) else ["it has no recipe"]
    )
    for param, default in defaults_of(method).items():
        if default is inspect.Parameter.empty:
            problems.append(f"its parameter '{param}' has no default")
        elif not isinstance(default, str | int | float | bool | None):
            problems.append(
                f"the default of '{param}' is a {type(default).__name__}, not a number, text, bool or None"
            )
    if problems:
        raise PluginError(
            f"The method '{name}' cannot be planned: {'; '.join(problems)}. See mil-bench check {name}."
        )


def _settings(
    variant: MethodRow, method: Any, request: RunRequest, store: BagStore
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All constructor parameters and the whole recipe; the variant's own settings come last."""
    params, recipe = defaults_of(method), dataclasses.asdict(method.recipe)
    recipe["betas"] = list(recipe["betas"])
    most = PRESETS[request.preset].most_epochs
    if request.epochs is not None:
        recipe["epochs"] = request.epochs
    elif request.is_tuned:
        recipe["epochs"] = PRESETS[request.preset].tuned_epochs
    elif most is not None:
        recipe["epochs"] = min(recipe["epochs"], most)
    own = parse_settings(variant.method, variant.settings, params | recipe_of(method))
    params |= {name: value for name, value in own.items() if name in params}
    recipe |= {name: value for name, value in own.items() if name in recipe}
    if own:  # a value that the method refuses is reported now, not after hours
        dataclasses.replace(method.recipe, **{**recipe, "betas": tuple(recipe["betas"])})
        method(store.width, store.hierarchy, **params)
    return params, recipe
