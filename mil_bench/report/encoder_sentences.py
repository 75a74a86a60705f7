"""What may be said of methods on the features of several encoders, in words."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from mil_bench.report.tables import p_number
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.interaction import Contrast
    from mil_bench.evaluation.verdicts import Verdict

_ONLY_THESE = "This holds for these encoders and this dataset only."
_NOT_REVERSED = (
    "No order is shown to be reversed: of no pair is one method better with one encoder and the "
    "other with another. Differences can grow or vanish without that, as with features that hold "
    "no signal."
)


def agreement_note(methods: int) -> str:
    """What a rank correlation over so many methods can say."""
    return (
        "Rank correlation of the methods' means: 1 for the same order, -1 for the reverse. With "
        f"{plural(methods, 'method')} it describes these means and is no test: methods that hardly "
        "differ change places by chance."
    )


def best_sentences(
    means: Mapping[str, Sequence[float]],
    methods: Sequence[str],
    verdicts: Mapping[str, Sequence[Verdict]],
) -> list[str]:
    """The best mean of each encoder, and how many methods it is shown to be better than.

    Args:
        means: encoder to the methods' means.
        methods: the methods, in the order of the means.
        verdicts: encoder to the verdicts of its run.
    """
    sentences = []
    for encoder, values in means.items():
        best = [m for m, value in zip(methods, values, strict=True) if value == max(values)]
        beaten = {
            verdict.second
            for verdict in verdicts[encoder]
            if verdict.answer == "better" and verdict.first in best and verdict.second in methods
        }
        others = len(methods) - len(best)
        is_one = len(best) == 1
        start = f"With {encoder}, {' and '.join(best)} {'has' if is_one else 'have'} the best mean"
        if not others:
            sentences.append(f"{start}.")
        elif not beaten:
            no_other = "is not" if is_one else "none is"
            sentences.append(f"{start}, and {no_other} shown to be better than any other method.")
        else:
            of = f"{len(beaten)} of the {plural(others, 'other')}"
            shown = f"{'is' if is_one else 'are'} shown to be better than {of}"
            sentences.append(f"{start}, and {shown}.")
    return sentences


def interaction_sentences(
    contrasts: Sequence[Contrast] | str, verdicts: Mapping[str, Sequence[Verdict]]
) -> list[str]:
    """Whether the ranking depends on the encoder: what is shown, and what is not.

    Args:
        contrasts: how differences change with the encoder, or why that is not tested.
        verdicts: encoder to the verdicts of its run.
    """
    if isinstance(contrasts, str):
        return [
            f"Whether differences between methods depend on the encoder is not tested: {contrasts}."
        ]
    reversed_pairs = _reversed(verdicts)
    shown = sorted((c for c in contrasts if c.is_shown), key=lambda c: (c.adjusted, -abs(c.change)))
    if not shown:
        most = max(max(abs(c.low), abs(c.high)) for c in contrasts)
        return [
            "Undecided whether the ranking of methods depends on the encoder: none of "
            f"{len(contrasts)} changes of a difference is significant. That does not show that it "
            f"is the same: a difference may still change by up to {100 * most:.1f} points (95 % "
            "intervals for all of them).",
            *reversed_pairs,
        ]
    strongest = shown[0]
    return [
        "Differences between methods depend on the encoder: "
        f"{len(shown)} of {len(contrasts)} changes of a difference from one encoder to another "
        f"{'is' if len(shown) == 1 else 'are'} significant. {_said(strongest)}",
        *(reversed_pairs or [_NOT_REVERSED]),
        _ONLY_THESE,
    ]


def _said(contrast: Contrast) -> str:
    contrast = contrast if max(contrast.differences, key=abs) > 0 else contrast.reversed
    one, other = (f"{100 * value:+.1f}" for value in contrast.differences)
    return (
        f"The strongest: {contrast.first} minus {contrast.second} is {one} points with "
        f"{contrast.one} and {other} with {contrast.other}, a change of "
        f"{100 * contrast.change:+.1f} [{100 * contrast.low:+.1f}, {100 * contrast.high:+.1f}] "
        f"points (adjusted p {_p(contrast.adjusted)})."
    )


def _p(p: float) -> str:
    text = p_number(p)
    return text if text.startswith("<") else f"= {text}"


def _reversed(verdicts: Mapping[str, Sequence[Verdict]]) -> list[str]:
    """The pairs of which each method is shown to be better with some encoder, one sentence."""
    better = {
        encoder: {(v.first, v.second) for v in pairs if v.answer == "better"}
        for encoder, pairs in verdicts.items()
    }
    pairs = [
        f"{first} is better than {second} with {one} and worse with {other}"
        for one, other in combinations(better, 2)
        for first, second in sorted(better[one])
        if (second, first) in better[other]
    ]
    if not pairs:
        return []
    return [
        f"The order of {plural(len(pairs), 'pair')} is reversed: {first_names(pairs)} (verdicts of "
        "each run, adjusted for its own pairs)."
    ]
