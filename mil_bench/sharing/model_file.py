"""Trained weights as one safetensors file that says what they are; nothing in it can be executed.

The tensors of a model are named ``seed0-fold03/NAME``. The metadata has the keys ``format``,
``version`` and ``about``; the last is a ``ModelAbout`` as JSON.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from safetensors import safe_open
from safetensors.numpy import save_file

from mil_bench import durable
from mil_bench.datasets.regular_file import open_regular
from mil_bench.errors import InputError
from mil_bench.file_values import typed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

FORMAT = "mil-bench model"
VERSION = "1"
REMEDY = "Name a file that mil-bench export wrote."


class FoldModelAbout(BaseModel):
    """One model of a file.

    Args:
        seed: training seed.
        fold: number of the fold whose test slides it has never seen.
        params: all constructor parameters.
        recipe: how it was trained.
        selected_epoch: the epoch whose weights these are, from 1.
        slides: number of slides by role.
        sha256: of its arrays, see ``arrays_digest``.
    """

    seed: int
    fold: int
    params: dict[str, Any]
    recipe: dict[str, Any]
    selected_epoch: int
    slides: dict[str, int]
    sha256: str

    @property
    def name(self) -> str:
        """Begins the names of its tensors."""
        return f"seed{self.seed}-fold{self.fold:02d}"


class ModelAbout(BaseModel):
    """What a file of models says of them.

    Args:
        method: registered name.
        label: what tables call it.
        method_version: version of the code that trained it.
        method_source: what the method is and where it comes from.
        in_dim: feature width D.
        fine: names of the fine classes, in the order of probabilities.
        coarse: names of the coarse classes.
        parent: for each fine class the index of its coarse class.
        dataset: slug of the dataset.
        features: dataset and features in words.
        encoder: name of the encoder of the features, "" if it is not known.
        data_digest: of the packed features.
        protocol: by which the folds were made.
        split_digest: of the folds.
        run: name of the run.
        source: who trained it, if it was imported.
        citation: what to cite for the dataset.
        licence: of the dataset.
        trained_with: versions of libraries, and devices.
        results: metric to its values on the test slides of each model, in percent, None if
            undefined.
        models: the models.
        combine: how slides of a patient were combined ("bag" or "mean"), "" if labels belong to
            slides.
    """

    method: str
    label: str
    method_version: str
    method_source: str
    in_dim: int
    fine: list[str]
    coarse: list[str]
    parent: list[int]
    dataset: str
    features: str
    encoder: str
    data_digest: str
    protocol: str
    split_digest: str
    run: str
    source: str
    citation: str
    licence: str
    trained_with: dict[str, str]
    results: dict[str, list[float | None]]
    models: list[FoldModelAbout]
    combine: str = ""


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the names, types, shapes and bytes of arrays."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_model_file(
    path: Path, about: ModelAbout, weights: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """Write a new file.

    Args:
        path: where.
        about: what it holds.
        weights: name of each model to its arrays by name.

    Raises:
        StorageError: the folder or the disk refuses.
    """
    tensors = {
        f"{model}/{name}": array.copy(order="C")
        for model, arrays in weights.items()
        for name, array in arrays.items()
    }
    metadata = {"format": FORMAT, "version": VERSION, "about": about.model_dump_json()}
    with durable.new_file(path) as temporary:
        save_file(tensors, temporary, metadata)


def read_model_file(path: Path) -> tuple[ModelAbout, dict[str, dict[str, np.ndarray]]]:
    """What a file says, and its arrays by model and name.

    Raises:
        InputError: it is no such file, or is damaged.
    """
    what = f"model file {path}"
    try:
        open_regular(path).close()
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            says = metadata.get("format"), metadata.get("version")
            if says != (FORMAT, VERSION):
                problem = f"it does not say that it is a '{FORMAT}', version {VERSION}"
                raise InputError(what, [problem], REMEDY)
            about = typed(ModelAbout, json.loads(metadata.get("about", "")))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except InputError:
        raise
    except ValueError as error:
        raise InputError(what, [f"what it says of itself: {error}"], REMEDY) from error
    except OSError as error:
        problem = f"it cannot be read: {error.strerror or error}"
        raise InputError(what, [problem], REMEDY) from error
    except Exception as error:  # a damaged file makes the library raise almost anything
        raise InputError(what, [f"it is no safetensors file ({error})"], REMEDY) from error
    of_model: dict[str, dict[str, np.ndarray]] = {model.name: {} for model in about.models}
    strangers = []
    for name, array in arrays.items():
        model, _, parameter = name.partition("/")
        if model in of_model:
            of_model[model][parameter] = array
        else:
            strangers.append(f"its array '{name:.60}' belongs to no model")
    empty = [f"it has no arrays of {model}" for model, own in of_model.items() if not own]
    altered = [
        f"the arrays of {model.name} are not those that were written"
        for model in about.models
        if of_model[model.name] and arrays_digest(of_model[model.name]) != model.sha256
    ]
    if problems := [*strangers, *empty, *altered, *([] if about.models else ["it has no model"])]:
        raise InputError(what, problems, REMEDY)
    return about, of_model
