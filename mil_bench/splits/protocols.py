"""Protocols: rules that make the folds of a split, and what each of them promises."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mil_bench import seeds
from mil_bench.errors import SplitError, UnknownNameError
from mil_bench.file_values import typed
from mil_bench.splits.centres import LEAVE_ONE_CENTRE_OUT, centre_folds, number_of_centres
from mil_bench.splits.lists import SplitLists
from mil_bench.splits.plan import ROLES, Fold, SplitPlan
from mil_bench.splits.stratified import cut_groups
from mil_bench.splits.validation import cut_validations
from mil_bench.wording import in_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from mil_bench.hierarchy import LabelHierarchy

IMPORTED = "imported"
"""Protocol of folds that someone else has made; it promises nothing."""
_BY_HMILS_RULE = "drawn anew by HMIL's rule, not its published lists"


Made = tuple[list["Fold"], str]
"""Folds, and what a caption must add to the name of the protocol that made them."""


def _patient_kfold(slides: pd.DataFrame, hierarchy: LabelHierarchy, folds: int, _: str) -> Made:
    """K stratified folds without shared groups; validation is held out of training the same way."""
    _require_groups_per_class(slides, hierarchy, folds)
    return _stratified_folds(slides, folds, 0), ""


def _stratified_folds(slides: pd.DataFrame, folds: int, repeat: int) -> list[Fold]:
    """The folds of a repeat, from 0 on."""
    # With K = 10 a ninth of the rest validates (80/10/10, as in the paper); never more than a
    # sixth.
    inner_folds = max(folds - 1, 6)
    labels, groups, ids = (slides[c].to_numpy() for c in ("label", "group", "slide"))
    identity = ("patient-kfold", folds, *(("repeat", repeat) if repeat else ()))
    outer = cut_groups(np.arange(len(slides)), labels, groups, folds, seeds.derive(*identity))
    seed = seeds.derive(*identity, "val")
    inner = cut_validations([rest for rest, _ in outer], labels, groups, inner_folds, seed)
    return [
        Fold(tuple(ids[train]), tuple(ids[val]), tuple(ids[test]))
        for (train, val), (_, test) in zip(inner, outer, strict=True)
    ]


def _require_groups_per_class(slides: pd.DataFrame, hierarchy: LabelHierarchy, folds: int) -> None:
    if folds < 2:
        raise SplitError(f"A cross-validation needs at least 2 folds, not {folds}.")
    labels, groups = slides["label"], slides["group"]
    numbers = [groups[labels == c].nunique() for c in range(hierarchy.n_fine)]
    fewest = min(numbers)
    if fewest >= folds:
        return
    short = [
        f"{name} is in {number}"
        for name, number in zip(hierarchy.fine, numbers, strict=True)
        if number < folds
    ]
    remedy = (
        f"Use --folds {fewest} at most." if fewest >= 2 else "Find slides of it from more groups."
    )
    raise SplitError(
        f"For {folds} folds, slides of every class must come from at least {folds} groups, but "
        f"{'; '.join(short)}. {remedy}"
    )


def _monte_carlo(slides: pd.DataFrame, hierarchy: LabelHierarchy, folds: int, _: str) -> Made:
    """HMIL's rule: repeated 80/10/10 hold-outs, stratified by slide, groups ignored."""
    made = []
    for k in range(folds):
        rng = seeds.generator("paper", k)
        parts: dict[str, list[str]] = {role: [] for role in ROLES}
        for c in range(hierarchy.n_fine):
            ids = rng.permutation(slides.loc[slides["label"] == c, "slide"].to_numpy())
            tenth = max(1, round(len(ids) / 10))
            parts["train"].extend(ids[2 * tenth :])
            parts["val"].extend(ids[:tenth])
            parts["test"].extend(ids[tenth : 2 * tenth])
        made.append(Fold(*(tuple(parts[role]) for role in ROLES)))
    return made, _BY_HMILS_RULE


def _official(slides: pd.DataFrame, _: LabelHierarchy, folds: int, group_name: str) -> Made:
    """The dataset's own split.

    Some, such as CAMELYON16's, have no validation part; then one is cut from training.
    """
    if folds != 1:
        raise SplitError(
            f"The official split is one split, it cannot have {folds} folds. "
            "Repeat it with --seeds instead."
        )
    without = slides.loc[~slides["split"].isin(ROLES), "slide"].tolist()
    if without:
        raise SplitError(
            f"The official split needs a role for every slide; {len(without)} of {len(slides)} "
            f"have none (first: {', '.join(without[:3])}). "
            "Pack with a label table that has a split column (train, val or test)."
        )
    fold = Fold(*(tuple(slides.loc[slides["split"] == role, "slide"]) for role in ROLES))
    if fold.val or not fold.train:
        return [fold], ""
    lists = SplitLists("", (fold,), (0,)).with_validation(slides, group_name)
    return list(lists.folds), lists.title


@dataclass(frozen=True)
class Protocol:
    """A rule that makes folds.

    Args:
        summary: what it does and promises, in one line.
        make: from slides, classes, the number of folds and what a group is, to the folds.
        folds: its number of folds, or a function of the slides that counts it; None if the
            dataset's card says it.
        again: makes the folds of a further repeat from slides, number of folds and the repeat's
            number from 1 on; or what to do instead of repeating it.
        allows_leaks: whether groups may be shared between roles.
        allows_val_leaks: whether training and validation may share groups.
    """

    summary: str
    make: Callable[[pd.DataFrame, LabelHierarchy, int, str], Made]
    folds: int | Callable[[pd.DataFrame], int] | None
    again: Callable[[pd.DataFrame, int, int], list[Fold]] | str
    allows_leaks: bool
    allows_val_leaks: bool = False

    def usual_folds(self, slides: pd.DataFrame, on_card: int, most: int | None = None) -> int:
        """The number of folds if the user does not say it.

        Args:
            slides: as in ``make_splits``.
            on_card: what the dataset's card says.
            most: a limit, which does not hold for a number that the slides give.
        """
        if callable(self.folds):
            return self.folds(slides)
        usual = self.folds or on_card
        return min(usual, most or usual)

    def forbids(self, leaks: int, val_leaks: int) -> bool:
        """Whether it rules out so many test and validation slides with groups of other roles."""
        return not self.allows_leaks and bool(leaks or (val_leaks and not self.allows_val_leaks))


PROTOCOLS: Mapping[str, Protocol] = {
    "patient-kfold": Protocol(
        "stratified k-fold cross-validation; training, validation and test share no patient",
        _patient_kfold,
        folds=None,
        again=_stratified_folds,
        allows_leaks=False,
    ),
    "official": Protocol(
        "the dataset's own split, one fold; repeat it with --seeds",
        _official,
        folds=1,
        again="it is one split. Repeat the trainings with --seeds",
        allows_leaks=True,
    ),
    "paper": Protocol(
        "ten 80/10/10 hold-outs stratified by slide, by HMIL's rule (not its lists); patients leak",
        _monte_carlo,
        folds=10,
        again="each of its hold-outs is drawn anew. Ask for more of them with --folds",
        allows_leaks=True,
    ),
    LEAVE_ONE_CENTRE_OUT: Protocol(
        "one fold per centre, which is tested; training and validation are slides of the others",
        centre_folds,
        folds=number_of_centres,
        again="the centres decide what its folds are. Repeat the trainings with --seeds",
        allows_leaks=False,
        allows_val_leaks=True,  # where the centres themselves are the groups
    ),
}


def protocol_named(name: str, offered: Sequence[str], dataset: str) -> Protocol:
    """The protocol of that name, if the dataset offers it.

    Raises:
        UnknownNameError: there is no such protocol.
        SplitError: the dataset does not offer it.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    if name not in offered:
        raise SplitError(f"{dataset} has no protocol '{name}'; it offers {', '.join(offered)}.")
    return PROTOCOLS[name]


def make_splits(
    name: str,
    slides: pd.DataFrame,
    hierarchy: LabelHierarchy,
    folds: int,
    group_name: str,
    repeats: int = 1,
) -> SplitPlan:
    """Folds by a protocol.

    Args:
        name: a key of ``PROTOCOLS``.
        slides: one row per slide with columns slide, label (fine index), group, split, centre.
        hierarchy: the classes.
        folds: how many, in each repeat.
        group_name: what a group is, "" if groups are unknown.
        repeats: how often they are made, each time with other folds. The first are those that one
            repeat would have.

    Raises:
        SplitError: the folds cannot be made or repeated, a class would be missing in a training
            part, or roles would share groups although the protocol promises that they do not.
    """
    protocol = PROTOCOLS[name]
    try:
        made, source = protocol.make(slides, hierarchy, folds, group_name)
        if repeats > 1:
            made = [*made, *_further_repeats(name, made, slides, repeats)]
    except SplitError as error:
        raise SplitError(in_group(str(error), group_name)) from error
    plan = bind_folds(name, made, slides, hierarchy, group_name)
    return replace(plan, source=source, repeats=repeats)


def repeatable(name: str) -> Callable[[pd.DataFrame, int, int], list[Fold]]:
    """What makes further repeats of a protocol.

    Raises:
        SplitError: its folds cannot differ; says what to do instead.
    """
    again = PROTOCOLS[name].again
    if isinstance(again, str):
        raise SplitError(f"The protocol '{name}' cannot be repeated with other folds: {again}.")
    return again


def _further_repeats(
    name: str, first: Sequence[Fold], slides: pd.DataFrame, repeats: int
) -> list[Fold]:
    """The folds of all repeats but the first.

    Raises:
        SplitError: the protocol cannot be repeated, or two repeats would have the same test parts.
    """
    again = repeatable(name)
    further = [again(slides, len(first), repeat) for repeat in range(1, repeats)]
    tests = {frozenset(fold.test for fold in folds) for folds in (first, *further)}
    if len(tests) < repeats:
        raise SplitError(
            f"Of {repeats} repeats of {len(first)} folds only {len(tests)} would have different "
            f"test parts: there are too few groups. Use --repeats {len(tests)} at most, or repeat "
            "the trainings with --seeds."
        )
    return [fold for folds in further for fold in folds]


def bind_folds(
    name: str,
    folds: Sequence[Fold],
    slides: pd.DataFrame,
    hierarchy: LabelHierarchy,
    group_name: str,
) -> SplitPlan:
    """Check folds against what is known of their slides, and count the groups that roles share.

    Args:
        name: a key of ``PROTOCOLS``, or ``IMPORTED``.
        folds: folds whose slides are all in ``slides``.
        slides: as in ``make_splits``; there may be more of them.
        hierarchy: the classes.
        group_name: what a group is, "" if groups are unknown.

    Raises:
        SplitError: as ``make_splits``.
    """
    label_of = dict(zip(slides["slide"], slides["label"], strict=True))
    group_of = dict(zip(slides["slide"], slides["group"], strict=True))
    problems = [
        line for k, fold in enumerate(folds) for line in _problems(k, fold, label_of, hierarchy)
    ]
    leaks = tuple(_shared(fold.test, (*fold.train, *fold.val), group_of) for fold in folds)
    val_leaks = tuple(_shared(fold.val, fold.train, group_of) for fold in folds)
    if name != IMPORTED and PROTOCOLS[name].forbids(sum(leaks), sum(val_leaks)):
        problems.append(
            f"{sum(leaks)} test and {sum(val_leaks)} validation slides share a "
            f"{group_name or 'group'} with slides of another role"
        )
    if problems:
        raise SplitError(f"The protocol '{name}' cannot be followed: " + "; ".join(problems))
    return SplitPlan(name, tuple(folds), group_name, leaks, val_leaks)


def plan_from_json(value: object) -> SplitPlan:
    """The inverse of ``dataclasses.asdict``.

    Older plans have no leaks, and no source; their protocol tells it.

    Raises:
        ValueError: a field is missing, unknown or of another type.
    """
    older = {"leaks": (), "val_leaks": ()}
    plan = typed(SplitPlan, older | value if isinstance(value, dict) else value)
    known = plan.source or plan.protocol != "paper"
    return plan if known else replace(plan, source=_BY_HMILS_RULE)


def _problems(
    k: int, fold: Fold, label_of: Mapping[str, int], hierarchy: LabelHierarchy
) -> list[str]:
    problems = []
    parts = [set(getattr(fold, role)) for role in ROLES]
    if sum(map(len, parts)) != len(set.union(*parts)):
        problems.append(f"fold {k} has a slide in two roles")
    problems += [
        f"fold {k} has no {role} slides"
        for role, part in zip(ROLES, parts, strict=True)
        if not part
    ]
    trained = {label_of[slide] for slide in fold.train}
    missing = [name for c, name in enumerate(hierarchy.fine) if c not in trained]
    if missing:
        problems.append(f"fold {k} has no training slide of {', '.join(missing)}")
    return problems


def _shared(slides: Sequence[str], others: Sequence[str], group_of: Mapping[str, str]) -> int:
    """The number of slides whose group others have too."""
    groups = {group_of[slide] for slide in others}
    return sum(group_of[slide] in groups for slide in slides)
