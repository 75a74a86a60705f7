"""Which slides train, validate and test a fold, and by which protocol that was decided."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mil_bench import seeds
from mil_bench.errors import SplitError, UnknownNameError
from mil_bench.splits.stratified import cut_groups, cut_validation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from mil_bench.hierarchy import LabelHierarchy

ROLES = ("train", "val", "test")
IMPORTED = "imported"
"""Protocol of folds that someone else has made; they promise nothing but what they are."""


@dataclass(frozen=True)
class Fold:
    """Slide ids by role, each in the order of the ids: folds of the same slides are equal, and train equally."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        for role in ROLES:
            object.__setattr__(self, role, tuple(sorted(getattr(self, role))))


@dataclass(frozen=True)
class SplitPlan:
    """The folds of a cross-validation and what they promise.

    Args:
        protocol: the protocol that made them.
        folds: the folds, in order.
        group_name: what a group is ("patient"), or "" where groups are unknown.
        leaks: for each fold the number of test slides whose group also trains or validates.
        val_leaks: for each fold the number of validation slides whose group also trains.
        source: where the folds come from, in words for a caption; "" where the protocol's name says
            it all.
        facts: what a caption must say beside it, one clause each.
    """

    protocol: str
    folds: tuple[Fold, ...]
    group_name: str
    leaks: tuple[int, ...]
    val_leaks: tuple[int, ...]
    source: str = ""
    facts: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Names the exact assignment of slides: 16 hex digits."""
        return folds_digest(self.folds)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SplitPlan:
        """The inverse of ``dataclasses.asdict``; plans stored before split files existed have no source."""
        known = PROTOCOLS.get(value["protocol"])
        source = value.get("source", known.source if known else "")
        lists = {name: tuple(value.get(name, ())) for name in ("leaks", "val_leaks", "facts")}
        folds = tuple(Fold(*(tuple(fold[role]) for role in ROLES)) for fold in value["folds"])
        return cls(value["protocol"], folds, value["group_name"], source=source, **lists)

    @property
    def leak_sentence(self) -> str:
        """What a caption must say about groups on two sides, in words."""
        if not self.group_name:
            return "groups (patients) are unknown, so slides of one patient may stand on two sides"
        tested = sum(len(fold.test) for fold in self.folds)
        if not sum(self.leaks) and sum(self.val_leaks):
            return (
                f"no test slide shares a {self.group_name} with training or validation, "
                f"{sum(self.val_leaks)} validation slides share one with training"
            )
        if not sum(self.leaks):
            return f"no {self.group_name} on two sides"
        share = f"{sum(self.leaks)} of {tested} test slides ({sum(self.leaks) / tested:.1%})"
        return f"LEAKS: {share} share a {self.group_name} with training or validation"


def folds_digest(folds: Sequence[Fold]) -> str:
    """Names an exact assignment of slides to folds, in their order, and roles, whoever made it: 16 hex digits."""
    text = json.dumps([[f.train, f.val, f.test] for f in folds], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _patient_kfold(slides: pd.DataFrame, hierarchy: LabelHierarchy, folds: int) -> list[Fold]:
    """K stratified folds with no group on two sides; validation is cut from the training part the same way."""
    _require_groups_per_class(slides, hierarchy, folds)
    # With K = 10 a ninth of the rest validates (80/10/10, as in the paper); never more than a
    # sixth.
    inner_folds = max(folds - 1, 6)
    labels, groups, ids = (slides[c].to_numpy() for c in ("label", "group", "slide"))
    made = []
    outer = cut_groups(
        np.arange(len(slides)), labels, groups, folds, seeds.derive("patient-kfold", folds)
    )
    for k, (rest, test) in enumerate(outer):
        seed = seeds.derive("patient-kfold", folds, "val", k)
        train, val = cut_validation(rest, labels, groups, inner_folds, seed)
        made.append(Fold(tuple(ids[train]), tuple(ids[val]), tuple(ids[test])))
    return made


def _require_groups_per_class(slides: pd.DataFrame, hierarchy: LabelHierarchy, folds: int) -> None:
    groups_of = (
        slides.groupby("label")["group"].nunique().reindex(range(hierarchy.n_fine), fill_value=0)
    )
    if folds < 2:
        raise SplitError(f"A cross-validation needs at least 2 folds, {folds} asked for.")
    if groups_of.min() >= folds:
        return
    short = "; ".join(f"{hierarchy.fine[c]} in {n}" for c, n in groups_of.items() if n < folds)
    most = int(groups_of.min())
    remedy = (
        f"Ask for --folds {most} at most." if most >= 2 else "Find slides of it from more groups."
    )
    raise SplitError(
        f"{folds} folds need every class in at least {folds} groups, but there is {short}. {remedy}"
    )


def _monte_carlo(slides: pd.DataFrame, hierarchy: LabelHierarchy, folds: int) -> list[Fold]:
    """HMIL's rule: repeated 80/10/10 hold-outs, stratified by slide, groups ignored."""
    made = []
    for k in range(folds):
        rng = seeds.generator("paper", k)
        parts: dict[str, list[str]] = {role: [] for role in ROLES}
        for c in range(hierarchy.n_fine):
            ids = rng.permutation(slides.loc[slides["label"] == c, "slide"].to_numpy())
            tenth = max(1, round(len(ids) / 10))
            for role, chosen in zip(
                ROLES, (ids[2 * tenth :], ids[:tenth], ids[tenth : 2 * tenth]), strict=True
            ):
                parts[role].extend(chosen)
        made.append(Fold(*(tuple(parts[role]) for role in ROLES)))
    return made


def _official(slides: pd.DataFrame, hierarchy: LabelHierarchy, folds: int) -> list[Fold]:
    """The dataset's own split."""
    if folds != 1:
        raise SplitError(
            f"The official split is one split, {folds} folds asked for. Repeat it with --seeds instead."
        )
    without = slides.loc[~slides["split"].isin(ROLES), "slide"].tolist()
    if without:
        raise SplitError(
            f"The official split needs a role for every slide; {len(without)} of {len(slides)} have none "
            f"(first: {', '.join(without[:3])}). Pack with a label sheet that has a split column."
        )
    return [Fold(*(tuple(slides.loc[slides["split"] == role, "slide"]) for role in ROLES))]


@dataclass(frozen=True)
class Protocol:
    """A way to make folds: what it does, its usual number (None: the card says), whether groups may leak.

    ``source`` is what a caption must add to the name.
    """

    summary: str
    make: Callable[[pd.DataFrame, LabelHierarchy, int], list[Fold]]
    folds: int | None
    allows_leaks: bool
    source: str = ""


PROTOCOLS: Mapping[str, Protocol] = {
    "patient-kfold": Protocol(
        "K stratified folds, no group on two sides: the honest default", _patient_kfold, None, False
    ),
    "official": Protocol("the dataset's own split, repeated over seeds", _official, 1, True),
    "paper": Protocol(
        "ten hold-outs 80/10/10 stratified by slide, drawn anew by HMIL's rule (not its lists); groups leak",
        _monte_carlo,
        10,
        True,
        "drawn anew by HMIL's rule, not its published lists",
    ),
}


def protocol_named(name: str, offered: Sequence[str], dataset: str) -> Protocol:
    """The protocol of that name, if the dataset offers it."""
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    if name not in offered:
        raise SplitError(f"{dataset} has no protocol '{name}'; it offers {', '.join(offered)}.")
    return PROTOCOLS[name]


def make_splits(
    name: str, slides: pd.DataFrame, hierarchy: LabelHierarchy, folds: int, group_name: str
) -> SplitPlan:
    """Folds by protocol.

    Args:
        name: a key of ``PROTOCOLS``.
        slides: one row a slide with columns slide, label (fine index), group, split.
        hierarchy: the classes.
        folds: how many.
        group_name: what a group is, "" where groups are unknown.

    Raises:
        SplitError: the folds cannot be made, a class would be missing in a training part, or groups
            would stand on two sides of a protocol that promises they do not.
    """
    made = PROTOCOLS[name].make(slides, hierarchy, folds)
    return bind_folds(name, made, slides, hierarchy, group_name)


def bind_folds(
    name: str,
    folds: Sequence[Fold],
    slides: pd.DataFrame,
    hierarchy: LabelHierarchy,
    group_name: str,
) -> SplitPlan:
    """Check folds against what is known of their slides, and count the groups that stand on two sides.

    Args:
        name: a key of ``PROTOCOLS``, or ``IMPORTED``.
        folds: whose slides are all in ``slides``.
        slides: as in ``make_splits``; there may be more of them.
        hierarchy: the classes.
        group_name: what a group is, "" where groups are unknown.

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
    if any((*leaks, *val_leaks)) and name != IMPORTED and not PROTOCOLS[name].allows_leaks:
        problems.append(
            f"groups stand on two sides ({sum(leaks)} test and {sum(val_leaks)} validation slides)"
        )
    if problems:
        raise SplitError(f"The protocol '{name}' cannot be followed: " + "; ".join(problems))
    source = "" if name == IMPORTED else PROTOCOLS[name].source
    return SplitPlan(name, tuple(folds), group_name, leaks, val_leaks, source)


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
    trained = {label_of[s] for s in fold.train}
    missing = [name for c, name in enumerate(hierarchy.fine) if c not in trained]
    if missing:
        problems.append(f"fold {k} has no training slide of {', '.join(missing)}")
    return problems


def _shared(slides: Sequence[str], others: Sequence[str], group_of: Mapping[str, str]) -> int:
    """How many of the slides have a group that others have too."""
    seen = {group_of[s] for s in others}
    return sum(group_of[s] in seen for s in slides)


def kind_of_test(folds: Sequence[Fold]) -> str:
    """What the test parts make together, in words: a cross-validation, or only hold-outs."""
    times = Counter(slide for fold in folds for slide in set(fold.test))
    if not times:
        return "no test part"
    if len(folds) == 1:
        return "one hold-out"
    if max(times.values()) > 1:
        return f"{len(folds)} Monte-Carlo hold-outs"
    everything = {slide for fold in folds for role in ROLES for slide in getattr(fold, role)}
    return (
        f"{len(folds)}-fold cross-validation"
        if set(times) == everything
        else f"{len(folds)} disjoint hold-outs"
    )
