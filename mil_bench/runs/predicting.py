"""A run's trained models on new slides: what was asked, and what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mil_bench.datasets.card import CENTRE
from mil_bench.datasets.labels import read_label_table
from mil_bench.datasets.slide_ids import own_group
from mil_bench.datasets.slides import Slides
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.inference.audit import training_overlap
from mil_bench.inference.models import FoldModel
from mil_bench.inference.patients import Patients
from mil_bench.inference.predictions import PredictedItems, predict_slides
from mil_bench.inference.scores import score_tables
from mil_bench.inference.slides import slides_of
from mil_bench.inference.trained_on import TrainedOn, encoder_of, label_spec, training_store
from mil_bench.intake.readers import AS_USUAL, Reading
from mil_bench.progress import progress_bar
from mil_bench.running.setup import data_folder
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from mil_bench.bags.store import BagStore
    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.inference.slides import NewSlides
    from mil_bench.methods import Method
    from mil_bench.planning.plan import RunPlan
    from mil_bench.report.tables import ResultTable


class TrainedRun(Protocol):
    """What applying a run's models needs of its result; ``RunResult`` has it."""

    @property
    def plan(self) -> RunPlan:
        """What was to be trained."""
        ...

    @property
    def trained(self) -> Mapping[str, tuple[TrainedFold, ...]]:
        """Method to its trained folds."""
        ...

    @property
    def run_id(self) -> str:
        """Name of the run."""
        ...

    def model(self, method: str, seed: int | None = None, fold: int = 0) -> Method:
        """A trained method in evaluation mode."""
        ...


@dataclass(frozen=True)
class ModelChoice:
    """Which of a run's trained models are applied to new slides.

    Args:
        method: as tables call it, None if the run has one method only.
        fold: one fold's models, None for those of all folds.
        seed: one seed's models, None for those of all seeds.
        data: folder of packed features, where the training features are looked for.
    """

    method: str | None = None
    fold: int | None = None
    seed: int | None = None
    data: Path = field(default_factory=data_folder)


@dataclass(frozen=True, eq=False)
class Predicted:
    """What trained models say of new slides.

    Args:
        frame: one row per slide, or per patient if labels of the run belong to patients; see
            ``PredictedItems.frame``.
        tables: scores, if labels are known.
        notes: what must be known, one sentence each.
        of_slides: one row per slide, if those of a patient were averaged; else None.
    """

    frame: pd.DataFrame
    tables: list[ResultTable]
    notes: list[str]
    of_slides: pd.DataFrame | None = None


def predict(
    result: TrainedRun,
    features: Path | np.ndarray,
    choice: ModelChoice,
    *,
    labels: Path | None = None,
    allow_leaks: bool = False,
    per_model: bool = False,
    how: Reading = AS_USUAL,
) -> Predicted:
    """Apply trained models to new slides, and score them if their labels are known.

    Args:
        result: of the run.
        features: a folder of feature files, a feature file, a bag store, or an array ``[n, D]``.
        choice: which models.
        labels: a label table.
        allow_leaks: also score slides that took part in training.
        per_model: one column per model, too.
        how: how feature files are read.

    Raises:
        MilBenchError: names what is wrong with the files, the models or the table.
    """
    models, notes = chosen_models(result, choice)
    trained, store = trained_on(result, models, choice.data)
    table = None if labels is None else read_label_table(labels, label_spec(result.plan), True)
    named = frozenset() if table is None else table.named
    slides = slides_of(features, trained, named, how, progress_bar)
    known, plan = slides.declared, result.plan
    if table is not None and labels is not None:
        known = Slides(table.frame, table.group_name, f"label table {labels.name}")
    classes = slides.classes if table is None else plan.hierarchy.fine
    label_of, more = labels_of(slides, known, classes, result)
    group_of, group_name = groups_of(known, slides.slides), known.group_name if known else ""
    are_patients = group_name != CENTRE
    patients = Patients.among(slides.slides, group_of if are_patients else {}, plan)
    if patients is not None:
        patients.labels(label_of, plan.hierarchy.fine)  # refuses before anything is predicted
        group_of, group_name = patients.known, patients.name
        more += patients.notes
    overlap = training_overlap(
        models, slides.slides, group_of, groups_of_run(result, store), plan.splits.group_name
    )
    notes += [*slides.notes, *feature_notes(slides, trained, choice.data), *more]
    items = slides if patients is None else patients.items(slides)
    with_coords, counts = trained.coords_unit != "", overlap.counts
    predictions = predict_slides(models, items, plan.hierarchy, with_coords, progress_bar)
    about = PredictedItems(predictions, label_of, group_of, group_name, counts)
    of_slides = None
    if patients is not None:
        of_slides = about.frame(per_model) if items is slides else None
        about = patients.measured(about)
    scored = {i: c for i, c in about.labels.items() if allow_leaks or i not in about.counts}
    notes += overlap.sentences(len(models), bool(label_of) and not allow_leaks, plan.unit)
    tables = []
    if scored:
        caption = (
            f"{models[0].label}, {plural(len(models), 'model')} of the run {result.run_id}, on "
            f"{plural(len(scored), plan.unit)} of {slides.title}."
        )
        made = score_tables(
            about.predictions, scored, about.groups, group_name, plan.ordered, caption
        )
        tables = [table.in_unit(plan.unit) for table in made]
    elif label_of:
        notes.append(f"No {plan.unit} is left to be scored.")
    return Predicted(about.frame(per_model), tables, notes, of_slides)


def chosen_models(result: TrainedRun, choice: ModelChoice) -> tuple[list[FoldModel], list[str]]:
    """The stored models that are chosen, and a note if some are not stored.

    Raises:
        UnknownNameError: the run has no such method or seed.
        InputError: there is no such fold, nothing is stored, or a model cannot be built.
    """
    plan, method = result.plan, choice.method
    trained = [job.label for job in plan.jobs if job.is_trained]
    if method is None:
        if len(set(trained)) != 1:
            problem = f"the run has several methods: {', '.join(dict.fromkeys(trained))}"
            raise InputError("the method", [problem], "Name one of them.")
        method = trained[0]
    if method not in plan.methods:
        raise UnknownNameError("method in this run", method, plan.methods)
    if choice.seed is not None and choice.seed not in plan.seeds:
        raise UnknownNameError("training seed", str(choice.seed), map(str, plan.seeds))
    folds = plan.splits.folds
    if choice.fold is not None and not 0 <= choice.fold < len(folds):
        problem = f"there is no fold {choice.fold}; the run has the folds 0 to {len(folds) - 1}"
        raise InputError("the fold", [problem], "Name one of them.")
    stored = [
        (fold.seed, fold.fold)
        for fold in result.trained.get(method, ())
        if choice.seed in (None, fold.seed) and choice.fold in (None, fold.fold)
    ]
    if not stored:
        problem = f"no training of {method} is stored that fits"
        raise InputError("the models", [problem], "Repeat the run to train it.")
    models = [
        FoldModel(
            method,
            seed,
            k,
            frozenset((*folds[k].train, *folds[k].val)),
            result.model(method, seed, k),
        )
        for seed, k in stored
    ]
    seeds = 1 if choice.seed is not None else len(plan.seeds)
    planned = seeds * (1 if choice.fold is not None else len(folds))
    if len(models) == planned:
        return models, []
    return models, [f"Only {len(models)} of {planned} trainings of {method} are stored."]


def trained_on(
    result: TrainedRun, models: list[FoldModel], data: Path
) -> tuple[TrainedOn, BagStore | None]:
    """The features on which models were trained, and their bag store if it is in the folder."""
    width, store = models[0].method.in_dim, training_store(result.plan, data)
    if store is None:
        return TrainedOn(width, result.plan.encoder), None
    return TrainedOn(width, encoder_of(store), store.coords_unit), store


def labels_of(
    slides: NewSlides, known: Slides | None, classes: tuple[str, ...], result: TrainedRun
) -> tuple[dict[str, int], list[str]]:
    """Slide to its class in the run, of the slides whose label is known; and notes.

    Classes are matched by name.

    Args:
        slides: that are predicted.
        known: what is known of them.
        classes: names of the classes of ``known``.
        result: of the run.
    """
    if known is None:
        return {}, []
    fine, wanted = result.plan.hierarchy.fine, set(slides.slides)
    labels, strange, notes = {}, set(), []
    for slide, label in zip(known.frame["slide"], known.frame["label"], strict=True):
        if slide not in wanted or label < 0:
            continue
        if classes[label] in fine:
            labels[slide] = fine.index(classes[label])
        else:
            strange.add(classes[label])
    if strange:
        names = ", ".join(sorted(strange))
        notes.append(f"The run has no class {names}; slides of it are not scored.")
    without = [slide for slide in slides.slides if slide not in labels]
    if without and labels:
        count = plural(len(without), "slide has", "slides have")
        notes.append(f"{count} no label and are not scored: {first_names(without)}.")
    if not labels:
        hint = known.near_miss(slides.slides)
        notes.append(f"No slide has a label in the {known.origin}{hint and f'; {hint}'}.")
    return labels, notes


def groups_of(known: Slides | None, slides: tuple[str, ...]) -> dict[str, str]:
    """Slide to its group, of these slides whose group is known."""
    if known is None or not known.group_name:
        return {}
    wanted = set(slides)
    pairs = zip(known.frame["slide"], known.frame["group"], strict=True)
    return {s: g for s, g in pairs if s in wanted and g and g != own_group(s)}


def groups_of_run(result: TrainedRun, store: BagStore | None) -> Mapping[str, str]:
    """Slide to its group, of all slides of a run whose group is stored or in its bag store."""
    groups: dict[str, str] = dict(result.plan.patients)
    if not result.plan.splits.group_name:
        return groups
    if store is not None:
        groups |= dict(zip(store.slides["slide"], store.slides["group"], strict=True))
    for folds in () if result.plan.patients else result.trained.values():
        for fold in folds:
            tested = fold.predictions
            groups |= dict(zip(tested.slides.tolist(), tested.groups.tolist(), strict=True))
    return {slide: group for slide, group in groups.items() if group and group != own_group(slide)}


def feature_notes(slides: NewSlides, trained: TrainedOn, data: Path) -> list[str]:
    """What could not be compared with the features of the training, and what differs."""
    unit, before = slides.coords_unit, trained.coords_unit
    if before is None:
        return [
            f"The features of the training are not in {data}, so only their width"
            f"{' and their encoder are' if trained.encoder else ' is'} compared."
        ]
    if before and unit and unit != before:
        return [
            f"Coordinates are in {unit}, and were in {before} in training; a method that uses them "
            "cannot be trusted here."
        ]
    return []


def frame_of(
    result: TrainedRun, features: Any, choice: ModelChoice, per_model: bool
) -> pd.DataFrame:
    """The predictions of a path or of anything that NumPy takes for an array."""
    source = Path(features) if isinstance(features, str | Path) else np.asarray(features)
    return predict(result, source, choice, per_model=per_model).frame
