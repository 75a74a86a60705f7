"""Values of a slide's instances by the models of a method, and their ranks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from mil_bench.errors import InputError
from mil_bench.evaluation.metrics import attention_auc
from mil_bench.inference.models import applied, batch_of
from mil_bench.methods import InstanceMap
from mil_bench.running.denormals import denormals_as_zero

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mil_bench.bags.bag import Bag
    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.inference.models import FoldModel
    from mil_bench.methods import Method

RULE = (
    "Colour: the rank of the instance's value in {within}, from 0 (lowest) to 1 (highest); equal "
    "values share their mean rank. A value is the mean over the models."
)
_NO_ATTENTION = "returns no attention and declares no values of instances (instance_map)"


@dataclass(frozen=True, eq=False)
class MethodMap:
    """What a method's models show of a slide.

    Args:
        label: of the method, as tables call it.
        meaning: what a value is, one clause.
        classes: class of each column; ("",) if one column holds for all classes.
        values: mean over the models ``[n, K]``.
        probabilities: mean over the models ``[C]``.
        models: their number.
        shown: number of the column that is shown alone.
        bag_ranks: ranks of the values ``[n, K]`` in the bag of which they are a part; None if they
            are a whole bag.
    """

    label: str
    meaning: str
    classes: tuple[str, ...]
    values: np.ndarray
    probabilities: np.ndarray
    models: int
    shown: int
    bag_ranks: np.ndarray | None = None

    @property
    def ranks(self) -> np.ndarray:
        """Rank of each value in its column, from 0 to 1 ``[n, K]``; 1 for a single instance."""
        if self.bag_ranks is not None:
            return self.bag_ranks
        return np.stack([ranks_of(column) for column in self.values.T], 1)

    def part(self, rows: slice) -> MethodMap:
        """Some rows of the bag, with their ranks in the whole bag."""
        return replace(self, values=self.values[rows], bag_ranks=self.ranks[rows])

    def name_of(self, column: int) -> str:
        """What a column is called: the method, and the class if there is one."""
        name = self.classes[column]
        return f"{self.label}: {name}" if name else self.label

    def auc(self, witnesses: np.ndarray) -> float:
        """AUC of the shown column for finding witnesses, as in reports.

        Args:
            witnesses: bool ``[n]``.
        """
        return attention_auc(self.values[:, self.shown], witnesses)

    def top(self, count: int) -> np.ndarray:
        """Numbers of the instances with the largest values in the shown column, best first."""
        return np.argsort(-self.values[:, self.shown], kind="stable")[:count]


def ranks_of(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 to 1 ``[n]``; equal values share their mean rank."""
    import pandas as pd

    if len(values) == 1:
        return np.ones(1)
    return (pd.Series(values).rank().to_numpy() - 1) / (len(values) - 1)


def method_map(
    models: Sequence[FoldModel],
    bag: Bag,
    hierarchy: LabelHierarchy,
    label: int,
    with_coords: bool = True,
) -> MethodMap | str:
    """The map of a method; or, if it has none, one sentence without its subject that says why.

    Args:
        models: at least one, of one method.
        bag: the slide.
        hierarchy: the classes.
        label: fine class of the slide, -1 if it is unknown. Of columns per class, that of the
            label is shown, or else that of the predicted class.
        with_coords: whether the models were trained with coordinates.

    Raises:
        InputError: a method fails on the slide, or its values are none.
    """
    bags, slide = batch_of(bag, with_coords), bag.slide.id
    values: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    classes: tuple[int, ...] = ()
    with denormals_as_zero():
        for model in models:
            if model.method.without_map:
                return model.method.without_map
            found = applied(model, bags, slide, _instance_map)
            if found is None:
                return _NO_ATTENTION
            values.append(_checked(model, found, len(bag.features), hierarchy))
            classes = tuple(found.classes)
            probabilities.append(applied(model, bags, slide, _probabilities))
    mean, meaning = np.mean(probabilities, 0), models[0].method.map_meaning
    names = tuple(hierarchy.fine[c] for c in classes) or ("",)
    wanted = label if label >= 0 else int(mean.argmax())
    shown = classes.index(wanted) if wanted in classes else 0
    return MethodMap(models[0].label, meaning, names, np.mean(values, 0), mean, len(models), shown)


def _instance_map(method: Method, bags: BagBatch) -> InstanceMap | None:
    return method.instance_map(bags)


def _probabilities(method: Method, bags: BagBatch) -> np.ndarray:
    return method(bags).fine[0].double().softmax(0).numpy()


def _checked(
    model: FoldModel, found: InstanceMap, rows: int, hierarchy: LabelHierarchy
) -> np.ndarray:
    """The values as numbers, if they have the form of the contract."""
    what = f"instance_map of {model.label} ({model.name})"
    remedy = "Correct the method; mil_bench.methods.InstanceMap says what is expected."
    if not isinstance(found, InstanceMap):
        problem = f"it returned a {type(found).__name__}, expected an InstanceMap"
        raise InputError(what, [problem], remedy)
    values, classes = found
    columns, problems = len(classes) or 1, []
    if not isinstance(values, torch.Tensor) or values.shape != (rows, columns):
        kind = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
        problems.append(f"it returned {kind}; values have to be ({rows}, {columns})")
    elif not values.isfinite().all():
        problems.append("its values are not finite")
    if not all(0 <= c < hierarchy.n_fine for c in classes):
        problems.append(f"its classes {classes} are not those from 0 to {hierarchy.n_fine - 1}")
    if problems:
        raise InputError(what, problems, remedy)
    return values.double().numpy()
