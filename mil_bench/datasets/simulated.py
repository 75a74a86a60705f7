"""Simulated datasets: labels, hierarchy, balance and groups of a real one, generated features.

A simulated dataset shows that a pipeline works and how methods behave on bags built this way. Its
results say nothing about the real dataset, and every place that shows them says so.

How a slide is made. Features vary mostly in a few directions, as those of trained encoders do: an
instance is a point in 16 dimensions, mapped to the feature width, plus a little noise in every
feature. Most instances are background tissue: a slide has its own mixture of eight tissue types,
and all instances of a group are shifted in the same way, as by stain and scanner. A few instances,
the witnesses, show the finding that gives the slide its label. The prototype of a fine class is the
sum of a direction it shares with all fine classes of its coarse class and a shorter one of its own,
so siblings are close to each other. The first fine class of a card is the one without any finding.
A slide may show milder findings (of classes before its own) in addition to the one that counts.

With ``hierarchy=0`` the shared directions are assigned to the fine classes across the coarse ones:
the directions and the distances are the same, but siblings in the hierarchy do not look alike, and
the hierarchy carries no signal.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mil_bench import seeds
from mil_bench.bags.bag import Bag, Slide
from mil_bench.datasets.card import DatasetSpec, check_limits
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seeds keep the word "twin", which simulated datasets were called at first: another would give
# other bags.
_LATENT = 16
_TISSUES = 8
_GROUP_SHIFT = 0.3  # of a group, in each of the directions
_FEATURE_NOISE = 0.3  # of each feature, in addition to the 1 that the mapping brings
_FEWEST_OF_A_CLASS = 10
_MILDER_FINDINGS = 0.3  # share of slides that also show a finding of a milder class


@dataclass(frozen=True)
class BagSimulator:
    """Settings of a simulated dataset, on the command line ``bracs-sim:slides=200,difficulty=2``.

    Args:
        slides: number of slides; classes keep their shares, every class keeps at least ten.
        width: feature width D.
        rows: median bag size. The real datasets have hundreds to thousands; 100 trains on a laptop.
        spread: standard deviation of the logarithm of the bag size.
        difficulty: divides the distances of witnesses from background and from each other.
        witnesses: mean share of witnesses among a bag's instances.
        hierarchy: 1: siblings look alike; 0: which classes look alike is independent of the
            hierarchy.
        seed: another seed gives other bags.
        shift: other than 0: slides of another hospital. Slides and patients are others, findings
            look the same, and all instances are moved in one direction by so many units, where an
            instance scatters by 1.
    """

    version: ClassVar[int] = 1
    slides: int
    width: int = 64
    rows: int = 100
    spread: float = 0.6
    difficulty: float = 1.0
    witnesses: float = 0.06
    hierarchy: int = 1
    seed: int = 0
    shift: float = 0.0

    def __repr__(self) -> str:
        """Names the store of these settings; without a shift of 0, which older stores lack."""
        names = [f.name for f in fields(self) if f.name != "shift" or self.shift]
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({values})"

    def __post_init__(self) -> None:
        limits = {
            "slides": (20, 10**6),
            "width": (8, 8192),
            "rows": (4, 10**6),
            "spread": (0, 2),
            "difficulty": (0.1, 100),
            "witnesses": (0.001, 0.5),
            "hierarchy": (0, 1),
            "seed": (0, 2**31),
            "shift": (0, 20),
        }
        check_limits("the simulated dataset", self, limits)

    def describe(self) -> str:
        """The settings in words."""
        without = "" if self.hierarchy else ", a hierarchy without signal"
        shifted = f", of another hospital, shifted by {self.shift:g}" if self.shift else ""
        return (
            f"{self.slides} slides, {self.width} features, median {self.rows} instances "
            f"(spread {self.spread:g}), {100 * self.witnesses:g}% witnesses, "
            f"difficulty {self.difficulty:g}{without}, seed {self.seed}{shifted}"
        )

    def size(self, spec: DatasetSpec) -> tuple[int, int]:  # noqa: ARG002  # the protocol has it
        """Number of slides, and of their instances together."""
        return self.slides, int(self._sizes(self.slides).sum())

    def generate(self, spec: DatasetSpec) -> Iterator[Bag]:
        """All slides, in id order."""
        world = _World.draw(self, spec)
        labels = self._labels(spec)
        groups = _deal_groups(labels, spec, self.seed)
        for i, (label, group, size) in enumerate(
            zip(labels, groups, self._sizes(len(labels)), strict=True)
        ):
            rng = seeds.generator("twin", spec.name, self.seed, *self._elsewhere, "slide", i)
            features, instance_labels = world.slide(rng, int(label), int(group), int(size))
            name = "-".join([spec.groups.name, *self._elsewhere, f"{group:04d}"])
            centre = name if spec.groups.name == "centre" else ""
            slide_id = "-".join([spec.slug, *self._elsewhere, f"{i:05d}"])
            slide = Slide(slide_id, int(label), name, centre=centre)
            yield Bag(slide, features, instance_labels=instance_labels)

    @property
    def _elsewhere(self) -> list[str]:
        """What distinguishes slides, patients and random numbers of another hospital."""
        return ["shifted"] if self.shift else []

    def _labels(self, spec: DatasetSpec) -> np.ndarray:
        """Fine labels with the card's shares, shuffled."""
        shares = np.asarray(spec.class_counts) / sum(spec.class_counts)
        counts = np.maximum(np.round(shares * self.slides).astype(int), _FEWEST_OF_A_CLASS)
        counts[counts.argmax()] += self.slides - counts.sum()
        if counts.min() < _FEWEST_OF_A_CLASS:
            needed = _FEWEST_OF_A_CLASS * len(counts)
            problem = f"slides={self.slides} is too few for {len(counts)} classes"
            raise InputError(
                f"settings of {spec.name}",
                [problem],
                f"Ask for {needed + needed // 2} slides or more.",
            )
        labels = np.repeat(np.arange(len(counts)), counts)
        return seeds.generator("twin", spec.name, self.seed, "labels").permutation(labels)

    def _sizes(self, slides: int) -> np.ndarray:
        draws = seeds.generator("twin", "sizes", self.seed).normal(
            np.log(self.rows), self.spread, slides
        )
        return np.maximum(np.round(np.exp(draws)).astype(int), 4)


@dataclass(frozen=True)
class _World:
    """What all slides of a simulated dataset share."""

    settings: BagSimulator
    name: str
    tissues: np.ndarray  # [_TISSUES, _LATENT]
    findings: np.ndarray  # [C, _LATENT]
    mapping: np.ndarray  # [_LATENT, D]

    @classmethod
    def draw(cls, settings: BagSimulator, spec: DatasetSpec) -> _World:
        rng = seeds.generator("twin", spec.name, settings.seed, "world")
        h = spec.hierarchy

        def directions(count: int, length: float) -> np.ndarray:
            raw = rng.standard_normal((count, _LATENT))
            return length * raw / np.linalg.norm(raw, axis=1, keepdims=True)

        # Lengths in units of the scatter of instances, which is 1 in every direction.
        tissues = directions(_TISSUES, 3.0)
        # At difficulty 1 the attention methods are well above chance and well below the ceiling.
        coarse = directions(h.n_coarse, 3.2 / settings.difficulty)
        fine = directions(h.n_fine, 2.4 / settings.difficulty)
        mapping = rng.standard_normal((_LATENT, settings.width)) / np.sqrt(_LATENT)
        return cls(settings, spec.name, tissues, coarse[_families(settings, spec)] + fine, mapping)

    def slide(
        self, rng: np.random.Generator, label: int, group: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features ``[size, D]`` and witness labels ``[size]`` of one slide."""
        settings = self.settings
        elsewhere = settings._elsewhere
        group_rng = seeds.generator("twin", self.name, settings.seed, *elsewhere, "group", group)
        shift = _GROUP_SHIFT * group_rng.standard_normal(_LATENT)
        if settings.shift:
            moved = seeds.generator("twin", self.name, settings.seed, "shift").standard_normal(
                _LATENT
            )
            shift += settings.shift * moved / np.linalg.norm(moved)
        tissue = rng.choice(_TISSUES, size, p=rng.dirichlet(np.ones(_TISSUES)))
        shown = np.full(size, -1, dtype=np.int16)
        if label > 0:
            share = rng.beta(2.0, 2.0 / settings.witnesses - 2.0)
            own = max(1, round(share * size))
            if label > 1 and rng.random() < _MILDER_FINDINGS:
                shown[own : own + max(1, own // 2)] = rng.integers(1, label)
            shown[:own] = label
            rng.shuffle(shown)
        centres = np.where((shown >= 0)[:, None], self.findings[shown], self.tissues[tissue])
        points = centres + shift + rng.standard_normal((size, _LATENT))
        features = points @ self.mapping + _FEATURE_NOISE * rng.standard_normal(
            (size, settings.width)
        )
        return features.astype(np.float32), shown


def _families(settings: BagSimulator, spec: DatasetSpec) -> list[int]:
    """For each fine class the coarse class whose direction its finding shares.

    Raises:
        InputError: the hierarchy is to carry no signal, but all findings have one coarse class.
    """
    parents = list(spec.hierarchy.parent)
    if settings.hierarchy:
        return parents
    if len(set(parents[1:])) < 2:
        problem = (
            "all its findings belong to one coarse class, so none can look like those of another"
        )
        raise InputError(
            f"hierarchy=0 for {spec.name}",
            [problem],
            "Choose a simulated dataset with findings in several.",
        )
    # Every family of the findings (all classes but the first) in turn, until each is used up.
    left = {g: parents[1:].count(g) for g in dict.fromkeys(parents[1:])}
    dealt: list[int] = []
    while len(dealt) < len(parents) - 1:
        dealt += [g for g in left if left[g] > 0]
        left = {g: n - 1 for g, n in left.items()}
    return [parents[0], *dealt]


def _deal_groups(labels: np.ndarray, spec: DatasetSpec, seed: int) -> np.ndarray:
    """A group for each slide: groups of uneven size, their labels as mixed as the card says."""
    profile = spec.groups
    share = len(labels) / sum(spec.class_counts) if profile.grows else 1.0
    count = max(2, round(profile.count * share))
    rng = seeds.generator("twin", spec.name, seed, "groups")
    order = np.lexsort((rng.random(len(labels)), labels))
    loose = rng.random(len(labels)) >= profile.purity
    order[loose] = rng.permutation(order[loose])
    cuts = np.sort(rng.choice(np.arange(1, len(labels)), count - 1, replace=False))
    groups = np.empty(len(labels), dtype=int)
    groups[order] = np.searchsorted(cuts, np.arange(len(labels)), side="right")
    return groups


def simulated(spec: DatasetSpec, slides: int) -> DatasetSpec:
    """The card of a simulated dataset that is like a real one, named ``<name>-sim``."""
    # Generated slides have no official roles, and a centre only where it is the group.
    absent = {"official"} if spec.groups.name == "centre" else {"official", "leave-one-centre-out"}
    return replace(
        spec,
        name=f"{spec.name}-sim",
        title=f"simulated {spec.name.upper()}: its labels and class balance, generated features",
        simulates=spec.name,
        generator=BagSimulator(slides),
        protocols=tuple(p for p in spec.protocols if p not in absent),
        source="generated on this machine, nothing to download",
        licence="none needed",
        traps=(
            f"It is simulated: results on it are not results on {spec.name.upper()} "
            "and cannot replace them.",
        ),
    )
