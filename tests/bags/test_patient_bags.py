"""The slides of a patient as one bag: the rows of the store that somebody concatenated by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from patient_data import HIERARCHY, by_hand, made_bags, write_bags

from mil_bench.bags.feed import Feed
from mil_bench.bags.label_file import SlideLabels, write_labels
from mil_bench.bags.patients import PatientBags
from mil_bench.bags.store import BagStore
from mil_bench.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def stores(tmp_path: Path) -> tuple[PatientBags, BagStore]:
    bags = made_bags()
    write_bags(tmp_path / "slides.h5", bags)
    write_bags(tmp_path / "patients.h5", by_hand(bags))
    return PatientBags(tmp_path / "slides.h5"), BagStore(tmp_path / "patients.h5")


def test_bags_equal_those_that_were_concatenated(stores: tuple[PatientBags, BagStore]) -> None:
    view, hand = stores
    assert view.slides.equals(hand.slides)
    assert len(view) == len(hand) == 24
    for column in ("sizes", "labels", "patch_sizes"):
        assert np.array_equal(getattr(view, column), getattr(hand, column))
    for i in range(len(view)):
        one, other = view.bag(i), hand.bag(i)
        assert one.slide == other.slide
        for column in ("features", "coords", "instance_labels"):
            assert np.array_equal(getattr(one, column), getattr(other, column))


def test_batches_are_the_same_bits(stores: tuple[PatientBags, BagStore]) -> None:
    order = np.array([5, 0, 23, 11, 5])
    one, other = (Feed(store, torch.device("cpu")).batch(order) for store in stores)
    for column in ("features", "offsets", "bag_of", "labels", "coords", "instance_labels"):
        assert torch.equal(getattr(one, column), getattr(other, column))
    assert one.lengths == other.lengths


def test_slides_are_found_as_their_patients(stores: tuple[PatientBags, BagStore]) -> None:
    view, hand = stores
    slides = ("s2-08", "s0-08", "s0-03", "s1-08")
    assert view.index_of(slides).tolist() == hand.index_of(("P03", "P08")).tolist()


def test_the_digest_is_that_of_the_slides(stores: tuple[PatientBags, BagStore]) -> None:
    view, hand = stores
    assert view.digest == BagStore(view.path).digest != hand.digest


def test_damage_names_the_slide(stores: tuple[PatientBags, BagStore]) -> None:
    view, _ = stores
    bag = int(view.index_of(("s1-08",))[0])
    rows = view.ranges[bag][1]  # of the second slide of the patient
    with view.path.open("r+b") as file:
        file.seek(view._rowwise["features"].start + rows.start * 6 * 4)
        file.write(b"\xff\x00\xff")
    again = PatientBags(view.path)
    assert again.damaged(bag) == ("features",)
    assert [again.damaged(i) for i in range(len(again))].count(()) == 23
    with pytest.raises(InputError, match="the features of slide 's1-08' changed on disk"):
        again.verify()


def test_labels_beside_the_store_make_the_patients(tmp_path: Path) -> None:
    bags = made_bags()
    path = write_bags(tmp_path / "slides.h5", bags)
    kept = tuple(bag.slide for bag in bags if bag.slide.group in ("P03", "P08"))
    labels = tmp_path / "few.labels.json"
    write_labels(labels, SlideLabels("few", HIERARCHY, "patient", "slides", "few.csv", kept))
    view = PatientBags(path, labels)
    assert view.slides["slide"].tolist() == ["P03", "P08"]
    assert [len(ranges) for ranges in view.ranges] == [2, 3]
    expected = {bag.slide.id: bag for bag in by_hand(bags)}
    for i, patient in enumerate(("P03", "P08")):
        assert np.array_equal(view.bag(i).features, expected[patient].features)
        assert np.array_equal(view.bag(i).instance_labels, expected[patient].instance_labels)
