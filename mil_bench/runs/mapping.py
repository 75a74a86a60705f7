"""A run's trained models on one slide, or on the slides of one patient, as maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mil_bench.bags.opening import open_bags
from mil_bench.errors import InputError
from mil_bench.inference.audit import training_overlap
from mil_bench.inference.patients import subject_of
from mil_bench.inference.slides import is_store, slides_of
from mil_bench.intake.readers import AS_USUAL, Reading
from mil_bench.maps.patches import patches_of
from mil_bench.maps.slide_image import open_slide
from mil_bench.maps.slide_maps import SlideMaps
from mil_bench.maps.values import MethodMap, method_map
from mil_bench.progress import progress_bar
from mil_bench.runs.predicting import (
    ModelChoice,
    chosen_models,
    feature_notes,
    groups_of,
    groups_of_run,
    labels_of,
    trained_on,
)
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.bags.bag import Bag
    from mil_bench.bags.store import BagStore
    from mil_bench.inference.models import FoldModel
    from mil_bench.runs.predicting import TrainedRun

ALL = "all"


@dataclass(frozen=True)
class SlideRequest:
    """A slide or patient, and where features and image are.

    Args:
        slide: its id, or the path of its feature file; or, if labels of the run belong to patients,
            a patient, all of whose slides are mapped. A name that is both is the slide.
        features: a folder of feature files or a bag store; None for the features of the training.
        image: the slide's image, None for none.
        micrometres_per_pixel: of level 0; None if the image says it, or nobody knows it.
        how: how feature files are read.
    """

    slide: str
    features: Path | None = None
    image: Path | None = None
    micrometres_per_pixel: float | None = None
    how: Reading = AS_USUAL

    def __post_init__(self) -> None:
        width = self.micrometres_per_pixel
        if width is not None and not 0.01 <= width <= 100:
            problem = f"{width:g} is no width of a pixel in micrometres"
            raise InputError("--mpp", [problem], "Give a number such as 0.25.")


def map_slides(result: TrainedRun, request: SlideRequest, choice: ModelChoice) -> list[SlideMaps]:
    """The maps of one method, or of all methods of a run, for each slide that is asked for.

    The models that did not see the slide in training are used, if there are any and no fold is
    named: the map of a slide that a model was trained on says little. If the slides of a patient
    are one bag, models get the whole bag, and the map of a slide is its part.

    Args:
        result: of the run.
        request: the slide or patient.
        choice: which models; the method "all" stands for all that are trained.

    Raises:
        MilBenchError: names what is wrong with the files or the models.
    """
    image = None if request.image is None else open_slide(request.image)
    methods = _methods(result, choice.method)
    models, _ = chosen_models(result, replace(choice, method=methods[0]))
    trained, store = trained_on(result, models, choice.data)
    source = _source(request, store, choice)
    subject = subject_of(result.plan, source, request.slide)
    if image is not None and len(subject.shown) > 1:
        problem = f"{request.slide} has {len(subject.shown)} slides, and an image shows one slide"
        raise InputError("--image", [problem], f"Name one of {first_names(subject.shown)}.")
    found = [slides_of(source, trained, how=request.how, only=slide) for slide in subject.members]
    groups: dict[str, str] = {}
    label_of: dict[str, int] = {}
    for own in found:
        groups |= groups_of(own.declared, own.slides)
        groups |= {own.slides[0]: subject.patient} if subject.patient else {}
        label_of |= labels_of(own, own.declared, own.classes, result)[0]
    width = request.micrometres_per_pixel
    if width is None and image is not None:
        width = image.micrometres_per_pixel
    mapper = _Mapper(
        result, choice, methods, groups, groups_of_run(result, store), trained.coords_unit != ""
    )
    facts = (*feature_notes(found[0], trained, choice.data), *subject.notes)
    fine, made = result.plan.hierarchy.fine, []
    for bag, inside, parts in subject.bags([own.read(0) for own in found]):
        slides = [member.slide.id for member in inside]
        label = next((label_of[slide] for slide in slides if slide in label_of), -1)
        maps, without, notes = mapper.maps_of(bag, slides, label)
        made += [
            SlideMaps(
                slide=part.slide.id,
                label=fine[label] if label >= 0 else "",
                hierarchy=result.plan.hierarchy,
                patches=patches_of(part, found[0].coords_unit, width),
                methods=maps if rows is None else [own.part(rows) for own in maps],
                without=without,
                witnesses=None if part.instance_labels is None else part.instance_labels >= 0,
                image=image,
                notes=(*facts, *notes),
                patient=subject.patient,
            )
            for part, rows in parts
        ]
    return made


@dataclass(frozen=True)
class _Mapper:
    """Makes the maps of a bag by all methods."""

    result: TrainedRun
    choice: ModelChoice
    methods: Sequence[str | None]
    groups: Mapping[str, str]
    trained_groups: Mapping[str, str]
    with_coords: bool

    def maps_of(
        self, bag: Bag, slides: Sequence[str], label: int
    ) -> tuple[list[MethodMap], dict[str, str], list[str]]:
        """The maps; label of each method without one to the reason; and what must be known.

        Args:
            bag: what models get.
            slides: that are in it.
            label: of the bag, -1 if it is unknown.

        Raises:
            InputError: no method has a map.
        """
        maps: list[MethodMap] = []
        without: dict[str, str] = {}
        notes: dict[str, None] = {}
        for method in progress_bar(self.methods, len(self.methods), "mapping"):
            models, more = chosen_models(self.result, replace(self.choice, method=method))
            models, which = self._unseen(models, slides)
            notes |= dict.fromkeys([*more, *which])
            hierarchy = self.result.plan.hierarchy
            found = method_map(models, bag, hierarchy, label, self.with_coords)
            if isinstance(found, MethodMap):
                maps.append(found)
            else:
                without[models[0].label] = found
        if not maps:
            problems = [f"{name} has no map: it {why}" for name, why in without.items()]
            raise InputError("maps", problems, "Name another method, or --method all.")
        return maps, without, list(notes)

    def _unseen(
        self, models: list[FoldModel], slides: Sequence[str]
    ) -> tuple[list[FoldModel], list[str]]:
        """The models in whose training slides took no part, and what must be said of it."""
        unseen = [
            model
            for model in models
            if not training_overlap([model], slides, self.groups, self.trained_groups, "").counts
        ]
        if len(unseen) == len(models):
            return models, []
        number = f"{len(models) - len(unseen)} of {plural(len(models), 'model')}"
        seen = f"The slide or its patient took part in the training of {number}"
        if self.choice.fold is not None or not unseen:
            return models, [f"{seen} of {models[0].label}, all of which are shown."]
        return unseen, [f"{seen} per method, so only the others are shown."]


def _methods(result: TrainedRun, method: str | None) -> list[str | None]:
    """The methods that are mapped; all that have a trained model for "all"."""
    if method != ALL:
        return [method]
    methods = [name for name, folds in result.trained.items() if any(f.in_dim for f in folds)]
    if not methods:
        raise InputError("the methods", ["no training is stored"], "Repeat the run.")
    return list(methods)


def _source(request: SlideRequest, store: BagStore | None, choice: ModelChoice) -> Path | BagStore:
    """Where the features of the slide are."""
    if request.features is not None:
        return open_bags(request.features) if is_store(request.features) else request.features
    if Path(request.slide).is_file():
        return Path(request.slide)
    if store is None:
        problem = f"the features of the training are not in {choice.data}"
        remedy = "Name features with --features, or their folder with --data."
        raise InputError(f"the slide '{request.slide}'", [problem], remedy)
    return store
