"""New slides: feature files, a bag store or an array; bags are read one by one."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.opening import open_bags
from mil_bench.bags.seal import seal_problem
from mil_bench.bags.store import BagStore
from mil_bench.datasets.slide_ids import SlideNames, own_group, without_ending
from mil_bench.datasets.slides import Slides
from mil_bench.errors import InputError
from mil_bench.inference.trained_on import TrainedOn, encoder_of, same_encoder
from mil_bench.intake.folders import FoundFile, find_feature_files, named_as_labelled
from mil_bench.intake.readers import AS_USUAL, FeatureFile, FileStart, Reading
from mil_bench.intake.row_packing import open_one, parted, row_problems, spread_over
from mil_bench.progress import unwatched
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from mil_bench.progress import Watch

_REMEDY = "Nothing was predicted. Correct these files, or take them out of the folder."
_OTHER_FEATURES = "Give features of the encoder on whose features the models were trained."


@dataclass(frozen=True, eq=False)
class NewSlides:
    """Slides whose features are read when they are needed.

    Args:
        title: where they are, for messages.
        slides: slide ids.
        rows: number of instances of each slide.
        read: the bag of the slide at a position, with the label -1; raises InputError if its file
            is no longer what it was.
        coords_unit: unit of the coordinates, "" if some slides have none.
        declared: labels and groups that come with the features, None if there are none.
        classes: names of the classes of ``declared``.
        notes: what was left out, one sentence each.
    """

    title: str
    slides: tuple[str, ...]
    rows: tuple[int, ...]
    read: Callable[[int], Bag]
    coords_unit: str = ""
    declared: Slides | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def only(self, slide: str) -> NewSlides:
        """One of these slides.

        Raises:
            InputError: there is no such slide.
        """
        place = self.slides.index(_matching(slide, self.slides, self.title))
        return replace(
            self,
            slides=self.slides[place : place + 1],
            rows=self.rows[place : place + 1],
            read=lambda position: self.read(place + position),
        )


def _matching(slide: str, known: Sequence[str], title: str) -> str:
    """The slide of a set that is asked for, which may be named with the ending of its file."""
    for name in (slide, without_ending(slide)):
        if name in known:
            return name
    hint = SlideNames(known).near_miss(slide, title) or f"it has {first_names(list(known))}"
    problem = f"there is no slide '{slide}' in {title}; {hint}"
    raise InputError("the slide", [problem], "Name one of its slides.")


def slides_of(
    source: Path | np.ndarray | BagStore,
    expected: TrainedOn,
    labelled: Collection[str] = (),
    how: Reading = AS_USUAL,
    watch: Watch = unwatched,
    only: str = "",
) -> NewSlides:
    """The slides of a folder of feature files, a feature file, a bag store or an array.

    Args:
        source: a path, an open store, or the features of one slide ``[n, D]``.
        expected: the features on which the models were trained.
        labelled: slide ids of a label table, which may be paths below the folder.
        how: how feature files are read.
        watch: wraps the iterations over the files.
        only: the one slide that is wanted, "" for all.

    Raises:
        InputError: there is no such slide; or, with all problems, files that cannot be read, that
            hold numbers that are not finite, or that have another width or encoder.
    """
    if isinstance(source, np.ndarray):
        return _of_array(source, expected)
    if isinstance(source, BagStore) or is_store(source):
        store = source if isinstance(source, BagStore) else open_bags(source)
        slides = _of_store(store, expected)
        return slides.only(only) if only else slides
    if source.is_file():
        name = without_ending(source.stem)
        return _of_files(str(source), [FoundFile(source, name, name)], expected, how, watch)
    found, ambiguous = named_as_labelled(find_feature_files(source), labelled)
    if ambiguous:
        raise InputError(f"features in {source}", ambiguous, _REMEDY)
    if only:
        names = [*(file.slide for file in found), *(file.below for file in found)]
        wanted = _matching(only, names, str(source))
        found = [file for file in found if wanted in (file.slide, file.below)]
    return _of_files(str(source), found, expected, how, watch)


def is_store(path: Path) -> bool:
    """Whether a path is a bag store, be it damaged."""
    if not path.is_file():
        return False
    if seal_problem(path) is not None:
        return True
    with path.open("rb") as file:
        datasets = FileStart(path, file.read(2**12)).datasets
    return {"features", "offsets", "labels", "slides"} <= datasets.keys()


def _of_array(features: np.ndarray, expected: TrainedOn) -> NewSlides:
    problems = []
    if features.ndim != 2 or features.dtype.kind != "f" or not len(features):
        problems.append(
            f"it has the shape {features.shape} and the type {features.dtype}; expected are "
            f"numbers [instances, {expected.width}]"
        )
    elif features.shape[1] != expected.width:
        problems.append(expected.other_width("it", features.shape[1]))
    elif not np.isfinite(features).all():
        problems.append("it holds NaN or infinite values")
    if problems:
        raise InputError("the array of features", problems, _OTHER_FEATURES)
    bag = Bag(Slide("", -1, own_group("")), features)
    return NewSlides("the array", ("",), (len(features),), lambda _: bag)


def _of_store(store: BagStore, expected: TrainedOn) -> NewSlides:
    problems, path = [], store.path
    if store.width != expected.width:
        problems.append(expected.other_width("it", store.width))
    encoder = encoder_of(store)
    if not same_encoder(encoder, expected.encoder):
        problems.append(expected.other_encoder("it", encoder))
    if problems:
        raise InputError(f"bag store {path}", problems, _OTHER_FEATURES)
    slides = tuple(store.slides["slide"].astype(str))

    def read(position: int) -> Bag:
        if damaged := store.damaged(position):
            problem = f"the {' and '.join(damaged)} of '{slides[position]}' changed on disk"
            raise InputError(f"bag store {path}", [problem], "Pack the features again.")
        return store.bag(position)

    rows = tuple(store.sizes.tolist())
    declared = Slides(store.slides, store.group_name, f"bag store {path.name}")
    unit = store.coords_unit
    return NewSlides(str(path), slides, rows, read, unit, declared, store.hierarchy.fine)


def _of_files(
    title: str, found: Sequence[FoundFile], expected: TrainedOn, how: Reading, watch: Watch
) -> NewSlides:
    """Feature files: their shapes and all their values are looked at before the first prediction.

    This is done in a process of its own, which can be ended if a damaged file has no end.
    """
    with spread_over(1) as spread:
        opened, problems = parted(
            watch(
                spread(functools.partial(open_one, how=how), found), len(found), "opening the files"
            )
        )
        fitting = [file for file in opened if file.file.rows]
        problems += [p for file in fitting for p in _problems(file.file, expected)]
        problems += _twice([file.file for file in fitting])
        looked = watch(spread(row_problems, fitting), len(fitting), "looking for NaN")
        problems += [problem for lines in looked for problem in lines]
    if not problems and not fitting:
        problems.append(f"{title}: no slide has any instances")
    if problems:
        raise InputError(f"features in {title}", problems, _REMEDY)
    files = [file.file for file in fitting]
    empty = [file.file.slide for file in opened if not file.file.rows]
    units = {file.coords_unit for file in files}
    return NewSlides(
        title,
        tuple(file.slide for file in files),
        tuple(file.rows for file in files),
        lambda position: _bag_of(files[position]),
        units.pop() if len(units) == 1 else "",
        notes=_left_out(empty),
    )


def _left_out(empty: Sequence[str]) -> tuple[str, ...]:
    if not empty:
        return ()
    words = plural(len(empty), "slide has no instance and is", "slides have no instances and are")
    return (f"{words} left out: {first_names(empty)}.",)


def _problems(file: FeatureFile, expected: TrainedOn) -> list[str]:
    """What a file has that the models were not trained on."""
    problems = []
    if file.width != expected.width:
        problems.append(expected.other_width(str(file.path), file.width))
    if not same_encoder(file.encoder, expected.encoder):
        problems.append(expected.other_encoder(str(file.path), file.encoder))
    return problems


def _twice(files: Sequence[FeatureFile]) -> list[str]:
    paths: dict[str, Path] = {}
    problems = []
    for file in files:
        if file.slide in paths:
            problems.append(f"{file.path} and {paths[file.slide]} are the same slide")
        paths.setdefault(file.slide, file.path)
    return problems


def _bag_of(file: FeatureFile) -> Bag:
    raw = file.read()
    slide, shown = Slide(file.slide, -1, own_group(file.slide)), raw.instance_labels
    witnesses = None if shown is None else np.where(shown > 0, 0, -1).astype(np.int16)
    return Bag(slide, raw.features, raw.coords, raw.patch_size, witnesses)
