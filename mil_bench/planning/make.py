"""From a request to a plan: methods that can be trained on the bags, their settings, the folds."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench import registry
from mil_bench.bags.bag import patient_frame
from mil_bench.datasets.card import BAG, CENTRE, MEAN, PATIENT
from mil_bench.datasets.patients import combined, require_patients
from mil_bench.datasets.slides import common_slides, packed_slides
from mil_bench.errors import InputError, PluginError
from mil_bench.methods.recipe import recipe_from_json, takes_steps
from mil_bench.methods.settings import (
    defaults_of,
    parse_settings,
    require_loss,
    require_ranges,
    settings_of,
    stored_params,
    try_to_build,
)
from mil_bench.planning.data_facts import DataFacts
from mil_bench.planning.plan import Job, RunPlan
from mil_bench.planning.request import PRESETS, RunRequest
from mil_bench.planning.rows import MethodRow
from mil_bench.planning.slide_sizes import form_problems, require_sizes
from mil_bench.split_files.formats.own import follow_file
from mil_bench.splits.patients import split_patients, torn_patients
from mil_bench.splits.protocols import make_splits, protocol_named
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.card import DatasetSpec
    from mil_bench.datasets.slides import Slides
    from mil_bench.splits.plan import SplitPlan


def make_plan(
    request: RunRequest,
    spec: DatasetSpec,
    store: BagStore,
    beside: Mapping[str, BagStore] | None = None,
) -> RunPlan:
    """The plan for a request.

    Args:
        request: what the user asks for.
        spec: the dataset's card.
        store: the dataset's bags.
        beside: further stores of the dataset by encoder; only slides that all have are in the
            folds.

    Raises:
        UnknownNameError: a method, setting or protocol does not exist.
        SplitError: the splits cannot be made.
        InputError: the split file cannot be followed, a method refuses the value of a setting
            or the sizes of bags, or has no ordinal loss here.
        PluginError: a method has no recipe, or a parameter without a default that can be stored.
    """
    stores = {request.encoders[0]: store, **beside} if beside else {}
    table = common_slides(stores, spec, request.allow_missing) if stores else None
    combine = _combination(request, spec)
    if combine:
        what = f"slides of {spec.name}"
        require_patients(store.slides, spec.hierarchy.fine, store.group_name, what)
    splits = _splits(request, spec, table or packed_slides(store, spec))
    patients = _patients(splits, store, combine)
    facts = DataFacts.of(store, splits)
    items = patient_frame(store.slides) if combine else store.slides
    store = combined(store, combine)
    methods, skipped = _usable(request, store, splits)
    remarks = {
        row.label: method.without_hierarchy for row, method in methods if spec.hierarchy.is_flat
    }
    entries: list[tuple[MethodRow, Any, Mapping[str, Any], Mapping[str, Any]]] = [
        (row, method, *_settings(row, method, request, store, spec.ordered))
        for row, method in methods
    ]
    if store.group_name:
        entries += [
            (MethodRow(name), registry.yardsticks.load(name), {}, {})
            for name in registry.yardsticks.names()
        ]
    jobs = [
        Job(
            dataset=spec.slug,
            data_digest=store.digest,
            method=row.method,
            method_version=registry.methods.version(row.method, method),
            params=params,
            recipe=recipe,
            split_digest=splits.digest,
            seed=seed,
            label=row.label,
            combine=combine,
        )
        for row, method, params, recipe in entries
        for seed in request.seeds
    ]
    return RunPlan(
        dataset=spec.slug,
        dataset_caption=_caption(spec, store, len(patients) or len(store)),
        hierarchy=spec.hierarchy,
        splits=splits,
        jobs=tuple(jobs),
        skipped=skipped,
        remarks={name: remark for name, remark in remarks.items() if remark},
        ordered=spec.ordered,
        command=request.command,
        encoder=request.encoders[0] if request.encoders else store.encoder,
        centres=_centres(items, store.group_name),
        main_metric=spec.main_metric,
        data=facts,
        patients=patients,
    )


def _combination(request: RunRequest, spec: DatasetSpec) -> str:
    """How slides of a patient are combined, "" if labels belong to slides.

    Raises:
        InputError: labels belong to slides, and a combination is asked for.
    """
    if spec.unit == PATIENT:
        return request.combine or BAG
    if request.combine is not None:
        problem = f"combine is {request.combine}, and labels of {spec.name} belong to its slides"
        remedy = f'Leave --combine out, or write unit = "{PATIENT}" on the card of the dataset.'
        raise InputError("the request", [problem], remedy)
    return ""


def _patients(splits: SplitPlan, store: BagStore, combine: str) -> dict[str, str]:
    """Slide to its patient: of all slides if they are bags, else of those in the folds.

    Raises:
        InputError: a part of a fold has some slides of a patient and lacks others.
    """
    if not combine:
        return {}
    name, slides = store.group_name, store.slides
    patients = dict(zip(slides["slide"], slides["group"], strict=True))
    if combine == MEAN:
        listed = {s for fold in splits.folds for s in (*fold.train, *fold.val, *fold.test)}
        patients = {slide: group for slide, group in patients.items() if slide in listed}
    if problems := torn_patients(splits.folds, patients, name):
        remedy = (
            f"A {name} is one item here, with all its slides. Make folds of the slides that are "
            "there (mil-bench splits make), or take slides out of the label table (mil-bench data "
            "label)."
        )
        raise InputError("the folds", problems, remedy)
    return patients


def _caption(spec: DatasetSpec, store: BagStore, slides: int) -> str:
    """The dataset in words; for real data, with what is packed of it."""
    if spec.generator is not None:
        return spec.caption
    without = plural(store.without_features, "labelled slide has", "labelled slides have")
    missing = f"; {without} no features, left out" if store.without_features else ""
    packed = f"{slides} slides; {store.origin}, {store.width} features{missing}"
    return f"{spec.caption} ({packed})"


def _centres(items: pd.DataFrame, group_name: str) -> dict[str, str]:
    """Slide or patient to its centre; empty if no centre is known."""
    if any(items["centre"]):
        return dict(zip(items["slide"], items["centre"], strict=True))
    if group_name == CENTRE:
        return dict(zip(items["slide"], items["group"], strict=True))
    return {}


def _splits(request: RunRequest, spec: DatasetSpec, table: Slides) -> SplitPlan:
    """The folds of the split file if there is one, or else folds made by the protocol."""
    if request.splits is not None:
        plan = follow_file(Path(request.splits), spec, table, request.allow_missing)
        return dataclasses.replace(plan, facts=table.facts + plan.facts)
    protocol = request.protocol or spec.protocols[0]
    usual = protocol_named(protocol, spec.protocols, spec.name).usual_folds
    folds = request.folds
    if folds is None:
        folds = usual(table.frame, spec.folds, PRESETS[request.preset].folds)
    about = protocol, table.frame, spec.hierarchy, folds, table.group_name
    make = split_patients if spec.unit == PATIENT else make_splits
    plan = make(*about, request.repeats)
    facts = table.facts + table.blind_spots(table.frame["slide"])
    return dataclasses.replace(plan, facts=facts)


def _usable(
    request: RunRequest, store: BagStore, splits: SplitPlan
) -> tuple[list[tuple[MethodRow, Any]], dict[str, str]]:
    """The requested rows that can be trained on these bags, and for the others the reason.

    Raises:
        PluginError: a method that the request names cannot be loaded or planned.
        InputError: it does not accept bags of the sizes that slides of the split have.
    """
    methods, skipped = [], {}
    for row in request.rows:
        try:
            method = registry.methods.load(row.method)
            _require_form(row.method, method)
        except PluginError as error:
            if request.names(row):
                raise
            skipped[row.label] = str(error)
            continue
        if method.needs_instance_labels and store.instance_labels is None:
            skipped[row.label] = f"it learns from instance labels, and {store.dataset} has none"
            continue
        try:
            require_sizes(row.label, method, splits, store)
        except InputError as error:
            if request.names(row):
                raise
            skipped[row.label] = "; ".join(error.problems)
            continue
        methods.append((row, method))
    return methods, skipped


def _require_form(name: str, method: Any) -> None:
    """Refuse a method without a recipe, or with a parameter whose default cannot be stored."""
    problems = (
        [] if dataclasses.is_dataclass(getattr(method, "recipe", None)) else ["it has no recipe"]
    )
    for param, default in defaults_of(method).items():
        if default is inspect.Parameter.empty:
            problems.append(f"its parameter '{param}' has no default")
        elif not isinstance(default, str | int | float | bool | None):
            kind = type(default).__name__
            problems.append(
                f"the default of '{param}' is a {kind}, not a number, text, bool or None"
            )
    problems += form_problems(method)
    if problems:
        raise PluginError(
            f"The method '{name}' cannot be planned: {'; '.join(problems)}. "
            f"See mil-bench methods check {name}."
        )


def _settings(
    row: MethodRow, method: Any, request: RunRequest, store: BagStore, ordered: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All constructor parameters and the whole recipe; the row's settings override all others."""
    params, recipe = defaults_of(method), method.recipe.to_json()
    if request.class_weights is not None:
        recipe["class_weights"] = request.class_weights
    if request.sampler is not None and takes_steps(recipe):  # a fit sees every slide once
        recipe["sampler"] = request.sampler
    recipe = recipe_from_json(recipe).to_json()
    chosen = recipe if "loss" in params else {**recipe, **row.settings}
    require_loss(row.label, method, chosen, ordered)
    settings = parse_settings(row.method, row.settings, settings_of(method))
    if takes_steps(recipe):  # a fit has no budget
        recipe["epochs"] = request.epochs_of({**recipe, **settings})
    params |= {name: value for name, value in settings.items() if name in params}
    recipe |= {
        name: value for name, value in settings.items() if name in recipe or name not in params
    }
    if settings:  # report a value that the method refuses now, not after hours
        require_ranges(row.label, method, settings)
        recipe = _checked_recipe(row.label, recipe)
        try_to_build(row.label, method, store.width, store.hierarchy, params)
    return stored_params(method, params), recipe


def _checked_recipe(label: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe as it is stored; one that no training could follow is refused by its row."""
    try:
        return recipe_from_json(recipe).to_json()
    except InputError as error:
        raise InputError(f"settings of {label}", error.problems, error.remedy) from None
