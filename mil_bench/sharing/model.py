"""Exported models, ready to predict slides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mil_bench.errors import InputError, MilBenchError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.inference.models import FoldModel
from mil_bench.inference.predictions import predict_slides
from mil_bench.inference.slides import slides_of
from mil_bench.inference.trained_on import TrainedOn
from mil_bench.methods.checkpoints import build_method
from mil_bench.runs.models import require_version
from mil_bench.sharing.model_file import REMEDY, read_model_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.inference.slides import NewSlides
    from mil_bench.sharing.model_file import FoldModelAbout, ModelAbout


@dataclass(frozen=True, eq=False)
class SlidePrediction:
    """What models say of one slide.

    Args:
        fine: fine class to its probability, mean over the models.
        coarse: coarse class to its probability, the sum of those of its fine classes.
        spread: fine class to the sample standard deviation over the models, NaN for one model.
        each: fine probabilities of each model ``[M, C]``.
    """

    fine: Mapping[str, float]
    coarse: Mapping[str, float]
    spread: Mapping[str, float]
    each: np.ndarray

    @property
    def predicted(self) -> str:
        """The most probable fine class."""
        return max(self.fine, key=lambda name: self.fine[name])


@dataclass(frozen=True, eq=False, repr=False)
class ExportedModel:
    """The models of one method that a file holds, in evaluation mode, on the CPU.

    Args:
        about: what the file says: method, classes, features, training, citation, results.
        hierarchy: the classes.
        models: seed, fold and method of each, in the order of ``about.models``.
    """

    about: ModelAbout
    hierarchy: LabelHierarchy
    models: Sequence[FoldModel]

    def predict(self, features: np.ndarray, coords: np.ndarray | None = None) -> SlidePrediction:
        """Probabilities of one slide.

        Args:
            features: of its patches ``[N, D]``, from the encoder that the models were trained with.
            coords: of its patches ``[N, 2]``, if the models were trained with coordinates.

        Raises:
            InputError: the arrays have another form, or the method refuses them.
        """
        expected = TrainedOn(self.about.in_dim, self.about.encoder)
        slides = slides_of(np.asarray(features), expected)
        if coords is not None:
            slides = _with_coords(slides, np.asarray(coords))
        each = predict_slides(self.models, slides, self.hierarchy).fine[:, 0]
        fine = each.mean(0)
        spread = each.std(0, ddof=1) if len(each) > 1 else np.full(len(fine), np.nan)
        names, coarse = self.hierarchy.fine, self.hierarchy.lift(fine)
        return SlidePrediction(
            dict(zip(names, fine.tolist(), strict=True)),
            dict(zip(self.hierarchy.coarse, coarse.tolist(), strict=True)),
            dict(zip(names, spread.tolist(), strict=True)),
            each,
        )

    def __repr__(self) -> str:
        about = self.about
        return f"<ExportedModel {about.label} on {about.dataset}: {len(self.models)} models>"


def _with_coords(slides: NewSlides, coords: np.ndarray) -> NewSlides:
    """One slide with the coordinates of its patches."""
    rows = slides.rows[0]
    if coords.shape != (rows, 2) or coords.dtype.kind not in "fiu":
        problem = f"they have the shape {coords.shape} and the type {coords.dtype}"
        remedy = f"Give numbers [{rows}, 2], one row per patch."
        raise InputError("the array of coordinates", [problem], remedy)
    bag = replace(slides.read(0), coords=coords)
    return replace(slides, read=lambda _: bag)


def load_model(path: str | Path) -> ExportedModel:
    """The models in a file that ``mil-bench export`` wrote.

    Only arrays and texts are read; nothing in the file is executed. The method has to be installed
    in the version that trained it; a method of a single file has to be named first, as for a run.

    Raises:
        InputError: it is no such file, is damaged, or the method's code has another version.
        UnknownNameError: the method is not installed.
    """
    about, arrays = read_model_file(Path(path))
    what = f"model file {path}"
    require_version(what, about.method, about.method_version)
    try:
        hierarchy = LabelHierarchy(tuple(about.fine), tuple(about.coarse), tuple(about.parent))
        models = [_built(about, model, hierarchy, arrays[model.name]) for model in about.models]
    except InputError as error:
        raise InputError(what, error.problems, REMEDY) from error
    except MilBenchError as error:
        raise InputError(what, [str(error)], REMEDY) from error
    except Exception as error:  # a file may hold anything where settings and weights should be
        problem = f"its values do not fit {about.method} ({str(error).partition(chr(10))[0]:.200})"
        raise InputError(what, [problem], REMEDY) from error
    return ExportedModel(about, hierarchy, models)


def _built(
    about: ModelAbout,
    model: FoldModelAbout,
    hierarchy: LabelHierarchy,
    arrays: Mapping[str, np.ndarray],
) -> FoldModel:
    """A model with its weights; no memory is taken for sizes that the file's arrays do not have.

    Raises:
        ValueError: its arrays have other names or shapes than the method's.
    """
    with torch.device("meta"):
        shapes = build_method(about.method, about.in_dim, hierarchy, **model.params).state_dict()
    expected = {name: tuple(value.shape) for name, value in shapes.items()}
    actual = {name: array.shape for name, array in arrays.items()}
    if expected != actual:
        names = sorted(n for n in {*expected, *actual} if expected.get(n) != actual.get(n))
        raise ValueError(f"{model.name}: other shapes of {', '.join(names)}")
    method = build_method(about.method, about.in_dim, hierarchy, **model.params)
    method.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return FoldModel(about.label, model.seed, model.fold, frozenset(), method.eval())
