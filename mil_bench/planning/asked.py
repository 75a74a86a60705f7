"""What a user asks of a run's results: the margin, and which methods are compared."""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench.errors import InputError
from mil_bench.evaluation.metric import MARGIN
from mil_bench.planning.options import option, words_of
from mil_bench.wording import near_names, shortened

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.planning.plan import RunPlan

_NOT_IN_NAMES = re.compile(r"[^\w.+=,-]")
_LONGEST_NAME = 100
OPTIONS = ("metric", "margin", "reference", "pairs")


@dataclass(frozen=True)
class Asked:
    """A question that is asked before the results are seen; trainings do not depend on it.

    Args:
        margin: methods that differ by less are practically equivalent, in percentage points, or in
            hundredths for a metric that is not shown in percent.
        reference: a method that is compared with each other one, None for no such method.
        pairs: pairs of methods as ``"a:b"``. Without reference and pairs, all pairs are compared.
        metric: key of the metric on which methods are compared, None for the dataset's.
    """

    margin: float = option(
        100 * MARGIN,
        "methods that are shown to differ by less are practically equivalent (default: 1 point, "
        "which is 0.01 for metrics that are not shown in percent)",
        parse=float,
        metavar="POINTS",
    )
    reference: str | None = option(
        None,
        "compare this method with each other one, and adjust p-values for these pairs only; decide "
        "it before you see results",
        metavar="METHOD",
    )
    pairs: tuple[str, ...] = option(
        (),
        "compare only these pairs of methods, a:b c:d, and adjust p-values for them only; decide "
        "it before you see results",
        metavar="A:B",
    )
    metric: str | None = option(
        None,
        "compare methods on this metric (default: the dataset's, mostly macro_auc), such as "
        "accuracy, balanced_accuracy, macro_f1, quadratic_kappa or a package's own; decide it "
        "before you see results",
        metavar="KEY",
    )

    def __post_init__(self) -> None:
        problems = []
        if not isinstance(self.margin, int | float) or not 0 < self.margin < 100:
            problems.append(f"margin must be more than 0 and less than 100, not {self.margin!r}")
        if self.reference is not None and self.pairs:
            problems.append("reference and pairs are two questions: give only one of them")
        if not isinstance(self.metric, str | None):
            problems.append(f"metric must be the key of a metric, not {self.metric!r:.80}")
        if problems:
            raise InputError("the comparison", problems, "See mil-bench report --help.")
        if self.metric is not None:
            from mil_bench.evaluation.main_metric import measure_named

            measure_named(self.metric)

    def measure(self, plan: RunPlan) -> Measure:
        """What methods of a run are compared on."""
        from mil_bench.evaluation.main_metric import measure_named  # brings numpy

        return measure_named(self.metric or plan.main_metric)

    @property
    def again(self) -> str:
        """The options for a command that can be pasted, with a blank before each."""
        return "".join(f" {shlex.quote(word)}" for word in words_of(self))

    @property
    def name(self) -> str:
        """The question as a part of a folder's name (``reference-hmil``), "" for the usual one."""
        words = "-".join(word.removeprefix("--") for word in words_of(self))
        text = _NOT_IN_NAMES.sub("_", words)
        if len(text) <= _LONGEST_NAME:
            return text
        return f"{text[:_LONGEST_NAME]}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"

    def require(self, plan: RunPlan) -> None:
        """Refuse a run that has not what is asked for.

        Raises:
            InputError: it has no such method, a pair is not one, or its classes have no order.
            UnknownNameError: the dataset's main metric does not exist.
        """
        self.pairs_of(plan.methods)
        measure = self.measure(plan)
        if measure.metric.ordered_only and not plan.ordered:
            problem = (
                f"{measure.metric.words} ({measure.key}) is for ordered classes, and those of "
                f"{plan.dataset} have no order"
            )
            raise InputError("the comparison", [problem], "Choose another metric.")

    def pairs_of(self, methods: Collection[str]) -> tuple[tuple[str, str], ...] | None:
        """The pairs that are compared, None for all.

        Args:
            methods: names of the rows of the run.

        Raises:
            InputError: the run has no such method, or a pair is not one.
        """
        if self.reference is not None:
            if self.reference not in methods:
                self._refuse([_unknown(self.reference, methods)], methods)
            return tuple((self.reference, m) for m in methods if m != self.reference)
        if not self.pairs:
            return None
        found, problems = {}, []
        for text in self.pairs:
            splits = [(text[:i], text[i + 1 :]) for i, sign in enumerate(text) if sign == ":"]
            # Names can have colons of their own (hmil:align_bags=false).
            known = [pair for pair in splits if set(pair) <= set(methods)]
            if len(known) == 1 and known[0][0] != known[0][1]:
                found[frozenset(known[0])] = known[0]
            else:
                problems.append(_fault(text, splits, methods))
        if problems:
            self._refuse(problems, methods)
        return tuple(found.values())

    def _refuse(self, problems: Sequence[str], methods: Collection[str]) -> None:
        raise InputError("the comparison", problems, f"Methods of the run: {', '.join(methods)}.")


def _fault(text: str, splits: Sequence[tuple[str, str]], methods: Collection[str]) -> str:
    """Why a text is not a pair of two methods."""
    if len(splits) != 1:
        return f"'{text}' is not a pair of two methods A:B"
    if splits[0][0] == splits[0][1]:
        return f"'{text}' names one method twice"
    unknown = [name for name in splits[0] if name not in methods]
    return f"'{text}': {_unknown(unknown[0], methods)}"


def _unknown(name: str, methods: Collection[str]) -> str:
    near = near_names(name, methods)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"the run has no method '{shortened(name)}'{meant}"
