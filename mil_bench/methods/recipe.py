"""How a method's authors train it, or that it fits itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from mil_bench.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

OPTIMIZERS = ("adam", "adamw", "lookahead-radam", "sgd")
CLASS_WEIGHTS = ("none", "balanced")
SAMPLERS = ("shuffled", "balanced")
SCHEDULES = ("constant", "cosine", "step", "plateau")
OWN_LOSS, ORDINAL_LOSS = LOSSES = ("own", "ordinal")
_LARGEST = 1_000_000  # of what is counted; larger ones are mistakes


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _LARGEST


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "learning_rate": (
        lambda value: _is_number(value) and 0 < value < math.inf,
        "a finite number greater than 0",
    ),
    "epochs": (_is_count, f"a whole number from 1 to {_LARGEST:,}"),
    "batch_size": (_is_count, f"a whole number from 1 to {_LARGEST:,}"),
    "weight_decay": (
        lambda value: _is_number(value) and 0 <= value < math.inf,
        "a finite number from 0 on",
    ),
    "betas": (
        lambda value: len(value) == 2 and all(_is_number(b) and 0 <= b < 1 for b in value),
        "two numbers from 0 on and less than 1",
    ),
    "final_learning_rate": (
        lambda value: _is_number(value) and 0 <= value < math.inf,
        "a finite number from 0 on",
    ),
    "patience": (
        lambda value: value is None or _is_count(value),
        f"none, or a whole number from 1 to {_LARGEST:,}",
    ),
    "milestones": (
        lambda value: all(_is_number(share) and 0 < share < 1 for share in value),
        "shares of the training, greater than 0 and less than 1",
    ),
    "step_factor": (
        lambda value: _is_number(value) and 0 < value < math.inf,
        "a finite number greater than 0",
    ),
    "warm_up": (lambda value: _is_number(value) and 0 <= value < 1, "a number from 0 to below 1"),
    "clip_norm": (
        lambda value: value is None or (_is_number(value) and 0 < value < math.inf),
        "none, or a finite number greater than 0",
    ),
    "momentum": (
        lambda value: _is_number(value) and 0 <= value < 1,
        "a number from 0 on and less than 1",
    ),
    "plateau_patience": (
        lambda value: type(value) is int and 0 <= value <= _LARGEST,
        f"a whole number from 0 to {_LARGEST:,}",
    ),
    "ema": (
        lambda value: _is_number(value) and 0 <= value < 1,
        "a number from 0 on and less than 1",
    ),
    "accumulate": (_is_count, f"a whole number from 1 to {_LARGEST:,}"),
    "rates": (
        lambda value: (
            isinstance(value, Mapping)
            and all(isinstance(prefix, str) and prefix for prefix in value)
            and all(_is_number(factor) and 0 < factor < math.inf for factor in value.values())
        ),
        "a mapping of prefixes of parameter names to numbers greater than 0",
    ),
    "clip_modules": (
        lambda value: all(isinstance(prefix, str) and prefix for prefix in value),
        "prefixes of parameter names",
    ),
}
_FIRST = (
    "learning_rate",
    "epochs",
    "batch_size",
    "optimizer",
    "weight_decay",
    "betas",
    "schedule",
    "final_learning_rate",
    "patience",
)
"""Fields that every stored recipe has; others are stored where they differ from their default, so
that a new field changes no key of a job that does not use it."""
OPTIONAL_NUMBERS: Mapping[str, type] = {"patience": int, "clip_norm": float}
"""Fields that are numbers or None, with the number's type."""


@dataclass(frozen=True)
class Recipe:
    """Optimizer settings and budget.

    Args:
        learning_rate: step size.
        epochs: passes over the training bags.
        batch_size: bags per step.
        optimizer: one of ``OPTIMIZERS``.
        weight_decay: in the optimizer's own sense (L2 inside Adam and SGD, decoupled in AdamW).
        betas: decay rates of the moments.
        schedule: how the learning rate changes after every epoch: "constant"; "cosine", from
            ``learning_rate`` to ``final_learning_rate``; "step", times ``step_factor`` at each
            milestone; "plateau", times ``step_factor`` whenever a fold's validation loss has not
            fallen for more than ``plateau_patience`` epochs, by the rule of torch's
            ``ReduceLROnPlateau``. Each fold has a learning rate of its own then.
        final_learning_rate: the learning rate at which the cosine ends, and the lowest that a
            plateau leads to.
        patience: a fold stops after this many epochs without a lower validation loss; None disables
            early stopping.
        milestones: of the schedule "step", as shares of the training: 0.5 is epoch 100 of 200, and
            epoch 20 where a preset allows 40.
        step_factor: of the schedules "step" and "plateau".
        warm_up: share of the training in which the learning rate rises evenly, epoch by epoch, up
            to the schedule's. The cosine begins afterwards; milestones do not move.
        clip_norm: gradients whose L2 norm is larger are scaled down to it, with the factor
            ``clip_norm / (norm + 1e-6)`` of ``torch.nn.utils.clip_grad_norm_``; None for no
            clipping.
        clip_modules: prefixes of parameter names ("attention", "head.0"). Each one's parameters are
            clipped by their own norm, and other parameters are not clipped. () is one norm over all
            parameters.
        class_weights: "none", or "balanced": in every fold, a training bag's loss counts ``n / (c *
            n_y)`` times, for n training bags of which n_y have its fine class y, and c classes
            that occur.
        sampler: "shuffled", an epoch has every training bag once; or "balanced", an epoch has as
            many bags as the fold trains on, drawn with replacement, with chances that are the same
            for every class and, within a class, for every bag.
        momentum: of the optimizer "sgd".
        rates: prefixes of parameter names, as in ``clip_modules``, to factors: the parameters of
            "encoder" learn at ``rates["encoder"]`` times the learning rate. The others have 1.
        plateau_patience: epochs without a lower validation loss that the schedule "plateau" allows.
        ema: decay of an exponential moving average of the weights, which is what is validated,
            stored and tested: ``average = ema * average + (1 - ema) * weights`` after every step,
            from the weights after the first. 0 for none.
        accumulate: batches per step of the optimizer, whose gradients are averaged; also over the
            end of an epoch. With a batch size of 1, bags per step.
        loss: "own", the method's loss; or "ordinal", for grades: the cross-entropy with soft labels
            of ``methods.ordinal``, for methods whose loss is the plain cross-entropy.

    Raises:
        UnknownNameError: there is no such optimizer, schedule, class weighting, sampler or loss.
        InputError: a number is outside its range.
    """

    learning_rate: float
    epochs: int
    batch_size: int = 1
    optimizer: str = "adam"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "constant"
    final_learning_rate: float = 0.0
    patience: int | None = None
    milestones: tuple[float, ...] = ()
    step_factor: float = 0.1
    warm_up: float = 0.0
    clip_norm: float | None = None
    clip_modules: tuple[str, ...] = ()
    class_weights: str = "none"
    sampler: str = "shuffled"
    momentum: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict, hash=False)
    plateau_patience: int = 10
    ema: float = 0.0
    accumulate: int = 1
    loss: str = OWN_LOSS

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipe:
        """The inverse of ``to_json``."""
        values: dict[str, Any] = {
            name: tuple(each) if isinstance(each, list) else each for name, each in value.items()
        }
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """A value that JSON can hold, the same as before for recipes without newer fields."""
        default = {
            each.name: each.default if each.default_factory is MISSING else each.default_factory()
            for each in fields(self)
        }
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name in _FIRST or value != default[name]
        }

    def __post_init__(self) -> None:
        _require_known("optimizer", self.optimizer, OPTIMIZERS)
        _require_known("schedule", self.schedule, SCHEDULES)
        _require_known("class weighting", self.class_weights, CLASS_WEIGHTS)
        _require_known("sampler", self.sampler, SAMPLERS)
        _require_known("loss", self.loss, LOSSES)
        problems = [
            f"'{name}={getattr(self, name)!r}': {name} is {words}"
            for name, (fits, words) in _RANGES.items()
            if not fits(getattr(self, name))
        ]
        if problems:
            raise InputError("recipe", problems, "Nothing was trained.")

    def learning_rate_at(self, progress: float) -> float:
        """Step size after a share of the training, in [0, 1]; for "plateau", before any fall."""
        epoch = round(progress * self.epochs, 6)
        rising = self.warm_up * self.epochs  # epochs
        warm = min(1.0, (epoch + 1) / (rising + 1))
        if self.schedule == "cosine":
            progress = max(0.0, (progress - self.warm_up) / (1 - self.warm_up))
            fall = (1 + math.cos(math.pi * progress)) / 2
            span = self.learning_rate - self.final_learning_rate
            return warm * (self.final_learning_rate + span * fall)
        if self.schedule == "step":
            past = sum(epoch >= share * self.epochs - 1e-6 for share in self.milestones)
            return warm * self.learning_rate * self.step_factor**past
        return warm * self.learning_rate


@dataclass(frozen=True)
class Fit:
    """Takes the place of a recipe for a method that fits itself, see ``Method.fit``.

    Args:
        class_weights: as in ``Recipe``.

    Raises:
        UnknownNameError: there is no such class weighting.
    """

    epochs: ClassVar[int] = 1
    """A fit counts as one epoch, whatever budget other methods have."""

    class_weights: str = "none"

    def __post_init__(self) -> None:
        _require_known("class weighting", self.class_weights, CLASS_WEIGHTS)

    def to_json(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        return {"epochs": self.epochs, **asdict(self)}


def recipe_from_json(value: Mapping[str, Any]) -> Recipe | Fit:
    """The inverse of ``to_json`` of a recipe or a fit."""
    if takes_steps(value):
        return Recipe.from_json(value)
    return Fit(value["class_weights"])


def takes_steps(value: Mapping[str, Any]) -> bool:
    """Whether a stored recipe is one of an optimizer, not of a method that fits itself."""
    return "learning_rate" in value


def _require_known(kind: str, name: Any, known: Collection[str]) -> None:
    if name not in known:
        raise UnknownNameError(kind, str(name), known)
