"""Generated datasets: simulated ones are like their cards and are never taken for real ones."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from mil_bench.benchmarks.bracs import BRACS, BRACS_SIM
from mil_bench.benchmarks.ccc import CCC, CCC_SIM
from mil_bench.benchmarks.digits import DIGITS
from mil_bench.benchmarks.panda import PANDA, PANDA_SIM
from sklearn.datasets import load_digits

from mil_bench.datasets.catalogue import find_dataset, open_store, store_path
from mil_bench.datasets.simulated import BagSimulator
from mil_bench.errors import InputError, MissingFeaturesError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mil_bench.bags.bag import Bag
    from mil_bench.datasets.card import DatasetSpec

SMALL = "bracs-sim:slides=200,rows=12,width=8"


def bags_of(text: str) -> list[Bag]:
    spec = find_dataset(text)
    return list(spec.generator.generate(spec))


@pytest.fixture(scope="module")
def simulated() -> list[Bag]:
    """As many slides as the real BRACS has."""
    return bags_of("bracs-sim:rows=12,width=8")


@pytest.fixture(scope="module")
def digits() -> list[Bag]:
    return bags_of("digits")


def test_a_simulated_dataset_of_full_size_has_the_cards_class_counts(simulated: list[Bag]) -> None:
    counts = Counter(bag.slide.label for bag in simulated)
    assert tuple(counts[c] for c in range(7)) == BRACS.class_counts


def test_only_a_simulated_dataset_whose_groups_are_centres_knows_centres() -> None:
    ccc = bags_of("ccc-sim:slides=200,rows=4,width=8")
    assert [bag.slide.centre for bag in ccc] == [bag.slide.group for bag in ccc]
    assert {bag.slide.centre for bag in bags_of("bracs-sim:slides=200,rows=4,width=8")} == {""}


@pytest.mark.parametrize(
    ("card", "simulated"), [(BRACS, BRACS_SIM), (PANDA, PANDA_SIM), (CCC, CCC_SIM)]
)
def test_a_smaller_simulated_dataset_keeps_class_shares_and_ten_slides_of_every_class(
    card: DatasetSpec, simulated: DatasetSpec
) -> None:
    simulated = simulated.with_settings({"slides": 200, "rows": 4, "width": 8})
    counts = Counter(bag.slide.label for bag in simulated.generator.generate(simulated))
    assert sum(counts.values()) == 200
    expected = [max(10.0, 200 * n / sum(card.class_counts)) for n in card.class_counts]
    largest = int(np.argmax(expected))
    for c, n in enumerate(expected):
        assert c == largest or abs(counts[c] - n) <= 0.5
    assert counts[largest] == max(counts.values())


@pytest.mark.parametrize(
    ("card", "simulated"), [(BRACS, BRACS_SIM), (PANDA, PANDA_SIM), (CCC, CCC_SIM)]
)
def test_a_simulated_dataset_has_its_cards_hierarchy(
    card: DatasetSpec, simulated: DatasetSpec
) -> None:
    assert simulated.hierarchy == card.hierarchy


def test_patients_of_a_simulated_dataset_are_as_many_as_in_the_card(simulated: list[Bag]) -> None:
    assert len({bag.slide.group for bag in simulated}) == 189
    assert all(bag.slide.group.startswith("patient-") for bag in simulated)


def test_a_smaller_simulated_dataset_has_fewer_patients_and_as_many_centres() -> None:
    assert len(
        {bag.slide.group for bag in bags_of("bracs-sim:slides=273,rows=4,width=8")}
    ) == round(189 * 273 / 547)
    assert len({bag.slide.group for bag in bags_of("ccc-sim:slides=300,rows=4,width=8")}) == 10


def test_slides_of_one_patient_agree_more_often_than_by_chance(simulated: list[Bag]) -> None:
    labels, groups = (
        np.array([bag.slide.label for bag in simulated]),
        np.array([bag.slide.group for bag in simulated]),
    )
    upper = np.triu_indices(len(labels), 1)
    agree, together = (labels[:, None] == labels)[upper], (groups[:, None] == groups)[upper]
    assert agree[together].mean() > 2 * agree.mean()


def test_slide_ids_are_unique_and_tell_nothing_of_the_label(simulated: list[Bag]) -> None:
    assert [bag.slide.id for bag in simulated] == [f"bracs-sim-twin-{i:05d}" for i in range(547)]
    assert Counter(bag.slide.label for bag in simulated[:100]).keys() == set(range(7))


def test_bags_of_a_simulated_dataset_have_the_width_asked_and_at_least_four_rows(
    simulated: list[Bag],
) -> None:
    assert {bag.features.shape[1] for bag in simulated} == {8}
    assert {bag.features.dtype for bag in simulated} == {np.dtype("float32")}
    sizes = [len(bag.features) for bag in simulated]
    assert min(sizes) >= 4
    assert 10 <= np.median(sizes) <= 14
    assert all(np.isfinite(bag.features).all() for bag in simulated)


def test_witnesses_are_of_the_slides_class_or_a_milder_one(simulated: list[Bag]) -> None:
    milder = 0
    for bag in simulated:
        assert bag.instance_labels.shape == (len(bag.features),)
        shown = set(bag.instance_labels.tolist()) - {-1}
        if bag.slide.label == 0:
            assert shown == set()  # the first class is the one without findings
        else:
            assert max(shown) == bag.slide.label
            assert min(shown) >= 1
            milder += len(shown) > 1
    assert milder > 0


def centre_distances(text: str) -> np.ndarray:
    """Distances between the mean instances of background and of the six findings ``[7, 7]``."""
    bags = bags_of(text)
    features = np.concatenate([bag.features for bag in bags])
    shown = np.concatenate([bag.instance_labels for bag in bags])
    centres = np.stack([features[shown == c].mean(0) for c in (-1, 1, 2, 3, 4, 5, 6)])
    return np.linalg.norm(centres[:, None] - centres, axis=2)


def siblings_and_strangers(distance: np.ndarray) -> tuple[list[float], list[float]]:
    pairs = list(itertools.combinations(range(1, 7), 2))
    siblings = [distance[a, b] for a, b in pairs if (a - 1) // 2 == (b - 1) // 2]
    return siblings, [distance[a, b] for a, b in pairs if (a - 1) // 2 != (b - 1) // 2]


def test_witnesses_of_siblings_lie_closer_than_those_of_other_coarse_classes() -> None:
    distance = centre_distances("bracs-sim:rows=12")
    siblings, strangers = siblings_and_strangers(distance)
    assert np.mean(siblings) < np.mean(strangers)
    assert min(distance[0, 1:]) > 3  # none is hidden in the background


def test_without_hierarchy_siblings_lie_no_closer_and_all_distances_together_stay() -> None:
    with_signal, without = (
        centre_distances("bracs-sim:rows=12"),
        centre_distances("bracs-sim:rows=12,hierarchy=0"),
    )
    siblings, strangers = siblings_and_strangers(without)
    assert np.mean(siblings) > np.mean(strangers)  # every look-alike is now among the strangers
    assert without[1:, 1:].mean() == pytest.approx(with_signal[1:, 1:].mean(), rel=0.1)


def test_a_simulated_dataset_whose_findings_have_one_coarse_class_cannot_lose_its_hierarchy() -> (
    None
):
    with pytest.raises(InputError, match="all its findings belong to one coarse class"):
        bags_of("ccc-sim:hierarchy=0")


def test_difficulty_moves_witnesses_towards_the_background() -> None:
    def gap(difficulty: float) -> float:
        bags = bags_of(f"{SMALL},difficulty={difficulty}")
        rows = [
            np.concatenate([b.features[(b.instance_labels >= 0) == shown] for b in bags])
            for shown in (True, False)
        ]
        return float(np.linalg.norm(rows[0].mean(0) - rows[1].mean(0)))

    assert gap(0.5) > gap(1.0) > gap(4.0)


def assert_same(first: list[Bag], second: list[Bag]) -> None:
    for one, other in zip(first, second, strict=True):
        assert one.slide == other.slide
        assert one.features.tobytes() == other.features.tobytes()
        assert one.instance_labels.tobytes() == other.instance_labels.tobytes()


@pytest.mark.parametrize("text", [SMALL, "digits:bags=40"])
def test_the_same_settings_give_identical_bags(text: str) -> None:
    first = bags_of(text)
    np.random.default_rng().random(7)
    assert_same(first, bags_of(text))


def test_another_seed_gives_other_bags() -> None:
    first, second = bags_of(SMALL), bags_of(f"{SMALL},seed=1")
    assert [bag.slide.label for bag in first] != [bag.slide.label for bag in second]
    assert [bag.slide.group for bag in first] != [bag.slide.group for bag in second]
    assert [len(bag.features) for bag in first] != [len(bag.features) for bag in second]
    assert not any(
        a.features[:4].tobytes() == b.features[:4].tobytes()
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize(
    "text",
    [
        SMALL,
        "bracs-sim:slides=150,rows=4,spread=2,width=8",
        "ccc-sim:slides=120,rows=9,width=8",
        "digits:rows=9",
    ],
)
def test_announced_rows_equal_generated_rows(text: str) -> None:
    spec = find_dataset(text)
    bags = list(spec.generator.generate(spec))
    assert spec.generator.size(spec) == (len(bags), sum(len(bag.features) for bag in bags))


def test_a_simulated_dataset_is_called_so_wherever_it_is_named() -> None:
    assert (BRACS_SIM.name, BRACS_SIM.slug, BRACS_SIM.simulates) == (
        "bracs-sim",
        "bracs-sim-twin",
        "bracs",
    )
    assert BRACS_SIM.caption.startswith("bracs-sim, a simulated dataset, not BRACS (547 slides, ")
    assert "simulated BRACS" in BRACS_SIM.title
    assert "It is simulated: results on it are not results on BRACS" in BRACS_SIM.traps[0]


def test_a_real_dataset_is_not_called_simulated() -> None:
    assert (BRACS.slug, BRACS.caption) == ("bracs", "bracs")


def test_a_simulated_dataset_does_not_offer_the_official_split() -> None:
    assert "official" in BRACS.protocols
    assert BRACS_SIM.protocols == ("patient-kfold", "paper")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slides", 99),
        ("width", 9),
        ("rows", 9),
        ("spread", 0.1),
        ("difficulty", 3.0),
        ("hierarchy", 0),
        ("seed", 5),
    ],
)
def test_the_caption_changes_with_every_setting(name: str, value: float) -> None:
    assert BRACS_SIM.with_settings({name: value}).caption != BRACS_SIM.caption


@pytest.mark.parametrize("value", [0.064, 0.2])
def test_the_caption_changes_with_the_share_of_witnesses(value: float) -> None:
    assert BRACS_SIM.with_settings({"witnesses": value}).caption != BRACS_SIM.caption


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("slides=19", "slides=19 is outside 20..1e+06"),
        ("width=7", "width=7 is outside 8..8192"),
        ("width=8193", "width=8193 is outside 8..8192"),
        ("rows=3", "rows=3 is outside 4..1e+06"),
        ("spread=2.1", "spread=2.1 is outside 0..2"),
        ("spread=-1", "spread=-1.0 is outside 0..2"),
        ("difficulty=0", "difficulty=0.0 is outside 0.1..100"),
        ("difficulty=nan", "difficulty=nan is outside 0.1..100"),
        ("difficulty=inf", "difficulty=inf is outside 0.1..100"),
        ("witnesses=0.6", "witnesses=0.6 is outside 0.001..0.5"),
        ("hierarchy=2", "hierarchy=2 is outside 0..1"),
        ("seed=-1", "seed=-1 is outside 0.."),
    ],
)
def test_a_setting_out_of_range_names_the_range(setting: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        find_dataset(f"bracs-sim:{setting}")
    assert problem in str(caught.value)
    assert "Choose values inside these ranges." in str(caught.value)


def test_all_settings_out_of_range_come_together() -> None:
    with pytest.raises(InputError) as caught:
        BagSimulator(slides=1, width=1, rows=1)
    assert len(caught.value.problems) == 3


def test_too_few_slides_for_the_classes_say_how_many_are_enough() -> None:
    with pytest.raises(InputError) as caught:
        bags_of("bracs-sim:slides=60,rows=4,width=8")
    assert "slides=60 is too few for 7 classes" in str(caught.value)
    assert "Ask for 105 slides or more" in str(caught.value)
    assert len(bags_of("bracs-sim:slides=105,rows=4,width=8")) == 105  # the advice holds


@pytest.mark.parametrize(
    "setting",
    ["bags=0", "bags=-3", "rows=0", "rows=1", "witnesses=0", "witnesses=50", "rows=2,witnesses=3"],
)
def test_digits_that_cannot_be_made_are_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(InputError):
        open_store(find_dataset(f"digits:{setting}"), tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_settings_are_read_from_the_name() -> None:
    spec = find_dataset("bracs-sim:slides=200,difficulty=2")
    assert spec.generator == BagSimulator(slides=200, difficulty=2.0)
    assert spec == replace(BRACS_SIM, generator=BagSimulator(slides=200, difficulty=2.0))


def test_a_name_without_settings_is_the_card_itself() -> None:
    assert find_dataset("bracs-sim") is BRACS_SIM


def test_an_unknown_setting_suggests_a_near_one() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_dataset("bracs-sim:dificulty=2")
    assert "There is no setting of bracs-sim 'dificulty'. Did you mean difficulty?" in str(
        caught.value
    )


def test_an_unknown_dataset_suggests_a_near_one() -> None:
    with pytest.raises(UnknownNameError, match=r"There is no dataset 'brcas'\. Did you mean bracs"):
        find_dataset("brcas")


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("slides=many", "int"),
        ("slides=1.5", "int"),
        ("slides", "int"),
        ("difficulty=hard", "float"),
    ],
)
def test_a_value_of_the_wrong_type_names_the_type(setting: str, kind: str) -> None:
    with pytest.raises(InputError) as caught:
        find_dataset(f"bracs-sim:{setting}")
    assert f"'{setting}': {setting.partition('=')[0]} takes a value of type {kind}" in str(
        caught.value
    )
    assert "Write settings as name=value,name=value." in str(caught.value)


def test_settings_of_a_real_dataset_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        find_dataset("bracs:slides=200")
    assert "bracs is real data and has no settings" in str(caught.value)
    assert "Write bracs alone." in str(caught.value)


def test_a_stored_simulated_dataset_equals_the_generated_one(tmp_path: Path) -> None:
    spec = find_dataset(SMALL)
    store = open_store(spec, tmp_path)
    assert store.dataset == "bracs-sim-twin"
    assert store.origin == spec.generator.describe()
    assert_same([store.bag(i) for i in range(len(store))], bags_of(SMALL))


def test_a_simulated_dataset_is_made_once_and_other_settings_lie_beside_it(tmp_path: Path) -> None:
    spec, other = find_dataset(SMALL), find_dataset(f"{SMALL},seed=1")
    first = open_store(spec, tmp_path)
    written = first.path.stat().st_mtime_ns
    assert open_store(spec, tmp_path).path.stat().st_mtime_ns == written
    assert open_store(other, tmp_path).digest != first.digest
    assert sorted(tmp_path.iterdir()) == sorted(
        [store_path(spec, tmp_path), store_path(other, tmp_path)]
    )
    assert all(path.name.startswith("bracs-sim-") for path in tmp_path.iterdir())


def test_the_watcher_is_told_how_many_bags_it_will_see(tmp_path: Path) -> None:
    told, seen = [], []

    def watch(bags: Iterable[Bag], count: int) -> Iterable[Bag]:
        told.append(count)
        for bag in bags:
            seen.append(bag.slide.id)
            yield bag

    open_store(find_dataset(SMALL), tmp_path, watch)
    assert told == [len(seen)]


def test_a_real_dataset_without_features_says_how_to_pack_them(tmp_path: Path) -> None:
    with pytest.raises(MissingFeaturesError) as caught:
        open_store(BRACS, tmp_path)
    message = str(caught.value)
    assert f"there is no bracs.h5 in {tmp_path}. --data DIR" in message
    assert "mil-bench data pack FOLDER --dataset bracs --labels TABLE" in message
    assert "--dataset bracs-sim" in message


def test_a_store_with_other_classes_than_the_card_is_refused(tmp_path: Path) -> None:
    open_store(find_dataset("ccc-sim:slides=120,rows=4,width=8"), tmp_path).path.rename(
        tmp_path / "bracs.h5"
    )
    with pytest.raises(InputError, match=r"it holds ccc-sim, not bracs"):
        open_store(BRACS, tmp_path)


def test_a_simulated_store_can_never_pass_for_the_real_dataset(tmp_path: Path) -> None:
    open_store(find_dataset(SMALL), tmp_path).path.rename(tmp_path / "bracs.h5")
    with pytest.raises(InputError, match=r"it holds bracs-sim, not bracs"):
        open_store(BRACS, tmp_path)


@pytest.fixture(scope="module")
def images() -> dict[bytes, int]:
    """Each image's position in scikit-learn's file."""
    scans = (load_digits().data / 16.0).astype(np.float32)
    positions = {scan.tobytes(): i for i, scan in enumerate(scans)}
    assert len(positions) == len(scans) == 1797
    return positions


def shown_images(bag: Bag, images: dict[bytes, int]) -> list[int]:
    return [images[row.tobytes()] for row in bag.features]


def test_every_image_of_a_bag_comes_from_its_writers_own_stretch(
    digits: list[Bag], images: dict[bytes, int]
) -> None:
    used: dict[str, set[int]] = {}
    for bag in digits:
        used.setdefault(bag.slide.group, set()).update(shown_images(bag, images))
    stretches = [(min(used[writer]), max(used[writer])) for writer in sorted(used)]
    assert len(stretches) == 30
    # Ordered and disjoint: each stretch ends before the next begins, so no image occurs for two
    # writers.
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(stretches))
    assert all(end - start < 60 for start, end in stretches)


def test_no_image_occurs_for_two_writers(digits: list[Bag], images: dict[bytes, int]) -> None:
    writers: dict[int, set[str]] = {}
    for bag in digits:
        for image in shown_images(bag, images):
            writers.setdefault(image, set()).add(bag.slide.group)
    assert {len(names) for names in writers.values()} == {1}


def test_labels_of_digit_bags_follow_from_their_witnesses(
    digits: list[Bag], images: dict[bytes, int]
) -> None:
    target = load_digits().target
    class_of_digit = {1: "one", 7: "seven", 4: "four", 9: "nine", 6: "six", 8: "eight"}
    for bag in digits:
        names = [
            class_of_digit.get(int(target[image]), "none") for image in shown_images(bag, images)
        ]
        expected = [-1 if name == "none" else DIGITS.hierarchy.fine.index(name) for name in names]
        assert bag.instance_labels.tolist() == expected
        witnesses = [label for label in expected if label >= 0]
        assert set(witnesses) == ({bag.slide.label} if bag.slide.label else set())
        assert len(witnesses) <= 3


def test_digit_bags_match_their_card(digits: list[Bag]) -> None:
    counts = Counter(bag.slide.label for bag in digits)
    assert tuple(counts[c] for c in range(7)) == DIGITS.class_counts
    assert len({bag.slide.group for bag in digits}) == DIGITS.groups.count
    assert {(bag.features.shape[1], bag.features.dtype.name) for bag in digits} == {(64, "float32")}
    assert (DIGITS.slug, DIGITS.simulates) == ("digits", None)
    assert "twin" not in DIGITS.caption
