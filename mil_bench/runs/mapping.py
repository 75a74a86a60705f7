"""A run's trained models on one slide, as maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mil_bench.errors import InputError
from mil_bench.inference.audit import training_overlap
from mil_bench.inference.slides import slides_of
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
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.bags.store import BagStore
    from mil_bench.inference.models import FoldModel
    from mil_bench.inference.slides import NewSlides
    from mil_bench.inference.trained_on import TrainedOn
    from mil_bench.runs.predicting import TrainedRun

ALL = "all"


@dataclass(frozen=True)
class SlideRequest:
    """A slide, and where its features and its image are.

    Args:
        slide: its id, or the path of its feature file.
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


def map_slide(result: TrainedRun, request: SlideRequest, choice: ModelChoice) -> SlideMaps:
    """The maps of one method, or of all methods of a run.

    The models that did not see the slide in training are used, if there are any and no fold is
    named: the map of a slide that a model was trained on says little.

    Args:
        result: of the run.
        request: the slide.
        choice: which models; the method "all" stands for all that are trained.

    Raises:
        MilBenchError: names what is wrong with the files or the models.
    """
    image = None if request.image is None else open_slide(request.image)
    methods = _methods(result, choice.method)
    models, _ = chosen_models(result, replace(choice, method=methods[0]))
    trained, store = trained_on(result, models, choice.data)
    slides = _slide(request, trained, store, choice)
    label_of, _ = labels_of(slides, slides.declared, slides.classes, result)
    overlap_with = _Training(
        groups_of(slides.declared, slides.slides), groups_of_run(result, store)
    )
    bag = slides.read(0)
    notes = dict.fromkeys(feature_notes(slides, trained, choice.data))
    maps: list[MethodMap] = []
    without: dict[str, str] = {}
    for method in progress_bar(methods, len(methods), "mapping"):
        models, more = chosen_models(result, replace(choice, method=method))
        models, which = overlap_with.without_it(models, bag.slide.id, choice)
        notes |= dict.fromkeys([*more, *which])
        label = label_of.get(bag.slide.id, -1)
        coords = trained.coords_unit != ""
        found = method_map(models, bag, result.plan.hierarchy, label, coords)
        if isinstance(found, MethodMap):
            maps.append(found)
        else:
            without[models[0].label] = found
    if not maps:
        problems = [f"{name} has no map: it {why}" for name, why in without.items()]
        raise InputError("maps", problems, "Name another method, or --method all.")
    width = request.micrometres_per_pixel
    if width is None and image is not None:
        width = image.micrometres_per_pixel
    fine = result.plan.hierarchy.fine
    return SlideMaps(
        slide=bag.slide.id,
        label=fine[label_of[bag.slide.id]] if label_of else "",
        hierarchy=result.plan.hierarchy,
        patches=patches_of(bag, slides.coords_unit, width),
        methods=maps,
        without=without,
        witnesses=None if bag.instance_labels is None else bag.instance_labels >= 0,
        image=image,
        notes=tuple(notes),
    )


def _methods(result: TrainedRun, method: str | None) -> list[str | None]:
    """The methods that are mapped; all that have a trained model for "all"."""
    if method != ALL:
        return [method]
    methods = [name for name, folds in result.trained.items() if any(f.in_dim for f in folds)]
    if not methods:
        raise InputError("the methods", ["no training is stored"], "Repeat the run.")
    return list(methods)


def _slide(
    request: SlideRequest, trained: TrainedOn, store: BagStore | None, choice: ModelChoice
) -> NewSlides:
    """The slide that is asked for."""
    if request.features is not None:
        return slides_of(request.features, trained, how=request.how, only=request.slide)
    if Path(request.slide).is_file():
        return slides_of(Path(request.slide), trained, how=request.how)
    if store is None:
        problem = f"the features of the training are not in {choice.data}"
        remedy = "Name features with --features, or their folder with --data."
        raise InputError(f"the slide '{request.slide}'", [problem], remedy)
    return slides_of(store, trained, only=request.slide)


@dataclass(frozen=True)
class _Training:
    """Patients of the slide and of the run, by slide."""

    groups: Mapping[str, str]
    trained_groups: Mapping[str, str]

    def without_it(
        self, models: list[FoldModel], slide: str, choice: ModelChoice
    ) -> tuple[list[FoldModel], list[str]]:
        """The models in whose training a slide took no part, and what must be said of it."""
        unseen = [
            model
            for model in models
            if not training_overlap([model], [slide], self.groups, self.trained_groups, "").counts
        ]
        if len(unseen) == len(models):
            return models, []
        number = f"{len(models) - len(unseen)} of {plural(len(models), 'model')}"
        seen = f"The slide or its patient took part in the training of {number}"
        if choice.fold is not None or not unseen:
            return models, [f"{seen} of {models[0].label}, all of which are shown."]
        return unseen, [f"{seen} per method, so only the others are shown."]
