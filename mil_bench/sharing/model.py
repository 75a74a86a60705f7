"""Exported models, ready to predict slides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mil_bench import registry
from mil_bench.bags.batch import BagBatch
from mil_bench.errors import InputError, MilBenchError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods.checkpoints import build_method
from mil_bench.running.denormals import denormals_as_zero
from mil_bench.sharing.model_file import REMEDY, read_model_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.methods import Method
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
        methods: the models, in the order of ``about.models``.
    """

    about: ModelAbout
    hierarchy: LabelHierarchy
    methods: Sequence[Method]

    def predict(self, features: np.ndarray, coords: np.ndarray | None = None) -> SlidePrediction:
        """Probabilities of one slide.

        Args:
            features: of its patches ``[N, D]``, from the encoder that the models were trained with.
            coords: of its patches ``[N, 2]``, if the models were trained with coordinates.

        Raises:
            InputError: the arrays have another form, or the method refuses them.
        """
        rows = self._rows(features, coords)
        place = None if coords is None else torch.from_numpy(np.array(coords, np.float32))
        label = torch.zeros(1, dtype=torch.int64)  # no model reads it
        bag = BagBatch.pack(torch.from_numpy(rows), torch.tensor([len(rows)]), label, place)
        each = np.empty((len(self.methods), self.hierarchy.n_fine))
        try:
            with torch.inference_mode(), denormals_as_zero():  # as in training
                for i, method in enumerate(self.methods):
                    each[i] = method(bag).fine.double().softmax(1)[0].numpy()
        except Exception as error:  # a method is anybody's code
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(
                f"predicting with {self.about.label}",
                [f"the method failed: {reason}"],
                "Give coordinates if it was trained with them."
                if coords is None
                else "Check the arrays.",
            ) from error
        fine = each.mean(0)
        spread = each.std(0, ddof=1) if len(each) > 1 else np.full(len(fine), np.nan)
        names, coarse = self.hierarchy.fine, self.hierarchy.lift(fine)
        return SlidePrediction(
            dict(zip(names, fine.tolist(), strict=True)),
            dict(zip(self.hierarchy.coarse, coarse.tolist(), strict=True)),
            dict(zip(names, spread.tolist(), strict=True)),
            each,
        )

    def _rows(self, features: np.ndarray, coords: np.ndarray | None) -> np.ndarray:
        """The features in float32, if they can be those of a slide."""
        rows, width = np.asarray(features), self.about.in_dim
        problems = []
        if rows.ndim != 2 or rows.dtype.kind not in "fiu" or rows.shape[1] != width:
            problems.append(
                f"the features have the shape {rows.shape} and the type {rows.dtype}; an array of "
                f"numbers [N, {width}] is needed"
            )
        else:
            least, most = self.methods[0].min_rows, self.methods[0].max_rows
            if not least <= len(rows) <= (most or len(rows)):
                limit = f" to {most}" if most else " or more"
                problems.append(f"it has {len(rows)} rows; the method accepts {least}{limit}")
            if not np.isfinite(rows).all():
                problems.append("some features are not finite")
            if coords is not None and np.shape(coords) != (len(rows), 2):
                problems.append(
                    f"the coordinates have the shape {np.shape(coords)}, not ({len(rows)}, 2)"
                )
        if problems:
            raise InputError(f"predicting with {self.about.label}", problems, "Check the arrays.")
        return np.array(rows, np.float32)

    def __repr__(self) -> str:
        about = self.about
        return f"<ExportedModel {about.label} on {about.dataset}: {len(self.methods)} models>"


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
    installed = registry.methods.version(about.method, registry.methods.load(about.method))
    if installed != about.method_version:
        problem = (
            f"it was trained by version {about.method_version} of {about.method}, and {installed} "
            "is installed"
        )
        raise InputError(what, [problem], "Use the version that trained it.")
    try:
        hierarchy = LabelHierarchy(tuple(about.fine), tuple(about.coarse), tuple(about.parent))
        methods = [_built(about, model, hierarchy, arrays[model.name]) for model in about.models]
    except MilBenchError as error:
        raise InputError(what, [str(error).replace("\n", " ")], REMEDY) from error
    except Exception as error:  # a file may hold anything where settings and weights should be
        problem = f"its values do not fit {about.method} ({str(error).partition(chr(10))[0]:.200})"
        raise InputError(what, [problem], REMEDY) from error
    return ExportedModel(about, hierarchy, methods)


def _built(
    about: ModelAbout,
    model: FoldModelAbout,
    hierarchy: LabelHierarchy,
    arrays: Mapping[str, np.ndarray],
) -> Method:
    """A method with its weights; no memory is taken for sizes that the file's arrays do not have.

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
    return method.eval()
