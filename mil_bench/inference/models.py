"""Trained models applied to one bag after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from mil_bench.bags.batch import BagBatch
from mil_bench.errors import InputError, MilBenchError
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mil_bench.bags.bag import Bag
    from mil_bench.inference.slides import NewSlides
    from mil_bench.methods import Method

_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class FoldModel:
    """A trained model, and the slides that took part in its training.

    Args:
        label: of its method, as tables call it.
        seed: training seed.
        fold: number of the fold.
        seen: slides on which it was trained or validated.
        method: the model, in evaluation mode.
    """

    label: str
    seed: int
    fold: int
    seen: frozenset[str]
    method: Method

    @property
    def name(self) -> str:
        """Which of a method's models it is."""
        return f"seed {self.seed}, fold {self.fold}"


def batch_of(bag: Bag, with_coords: bool = True) -> BagBatch:
    """A bag as a batch of one, in float32; its label is 0, as no model reads it.

    Args:
        bag: the bag.
        with_coords: whether the models were trained with coordinates.
    """
    is_ready = bag.features.dtype == np.float32 and bag.features.flags.writeable
    rows = bag.features if is_ready else np.array(bag.features, dtype=np.float32)
    features, coords = torch.from_numpy(np.ascontiguousarray(rows)), None
    if with_coords and bag.coords is not None:
        coords = torch.from_numpy(bag.coords.astype(np.float32))
    zero = torch.zeros(1, dtype=torch.int64)
    return BagBatch.pack(features, torch.tensor([len(features)]), zero, coords)


@torch.inference_mode()
def applied(
    model: FoldModel, bags: BagBatch, slide: str, use: Callable[[Method, BagBatch], _Result]
) -> _Result:
    """What ``use`` makes of a model and a bag, with whatever a method may raise as one message.

    Args:
        model: the model.
        bags: a batch of one bag.
        slide: id of its slide, for messages.
        use: calls the method.

    Raises:
        InputError: the method fails on this slide.
    """
    what = f"{model.label} ({model.name}) on {f'slide {slide!r}' if slide else 'the array'}"
    try:
        return use(model.method, bags)
    except InputError as error:
        raise InputError(what, error.problems, error.remedy) from error
    except MilBenchError as error:
        raise InputError(what, [str(error)], "Correct the method.") from error
    except Exception as error:  # a method is anybody's code
        text = str(error).partition("\n")[0]
        problem = f"the method failed: {type(error).__name__}{f': {text}' if text else ''}"
        remedy = "mil-bench methods check tests a method on bags of many sizes."
        if bags.coords is None:
            remedy = f"The slide has no coordinates; give them if the method needs them. {remedy}"
        raise InputError(what, [problem], remedy) from error


def require_rows(models: Sequence[FoldModel], slides: NewSlides) -> None:
    """Refuse slides with fewer or more instances than a method accepts.

    Raises:
        InputError: names them.
    """
    method = models[0].method
    most = method.max_rows or np.inf
    outside = [
        f"{slide} ({rows})"
        for slide, rows in zip(slides.slides, slides.rows, strict=True)
        if not method.min_rows <= rows <= most
    ]
    if outside:
        limit = f"at most {method.max_rows}" if method.max_rows else "any number"
        accepts = f"it accepts from {method.min_rows} on, {limit}"
        count = plural(len(outside), "slide has", "slides have")
        problem = f"{count} a number of instances that the method refuses ({accepts}): "
        remedy = "Take these slides out, or name another method."
        raise InputError(models[0].label, [problem + first_names(outside)], remedy)
