"""The bag store: bit-exact, whole or absent, and named by its content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from feature_files import some_features

from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.index import PARTLY_LABELLED, UNLABELLED, VERSION
from mil_bench.bags.layout import StoreHeader
from mil_bench.bags.store import BagStore, create_store
from mil_bench.errors import InputError, StorageError
from mil_bench.hierarchy import LabelHierarchy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TREE = LabelHierarchy.from_groups({"benign": ["N", "PB"], "malignant": ["IC"]})
REMEDY = "Move it away and pack the features again"


def some_bags(dtype: str = "float32", width: int = 6) -> list[Bag]:
    """Five bags, one of a single row; with coordinates, witnesses, patch sizes and roles."""
    rng = np.random.default_rng(1)
    bags = []
    for i, rows in enumerate((3, 1, 7, 2, 4)):
        bags.append(
            Bag(
                Slide(
                    f"00{i}",
                    label=i % 3,
                    group=f"Pätient {i // 2}",
                    split=("train", "val", "test", "", "train")[i],
                    centre=("Lyon", "", "Zürich", "Lyon", "Lyon")[i],
                ),
                features=rng.standard_normal((rows, width)).astype(dtype),
                coords=rng.integers(0, 2**31, (rows, 2)).astype(np.float64),
                patch_size=None if i == 1 else 512.0,
                instance_labels=rng.integers(-1, 3, rows).astype(np.int16),
            )
        )
    return bags


def header_of(bags: Sequence[Bag], coords: bool = True, witnesses: bool = True) -> StoreHeader:
    return StoreHeader(
        dataset="toy",
        hierarchy=TREE,
        rows=sum(len(bag.features) for bag in bags),
        width=bags[0].features.shape[1],
        dtype=bags[0].features.dtype.name,
        origin="made by a test",
        group_name="patient",
        coords_unit="level-0 pixels" if coords else "",
        has_instance_labels=witnesses,
    )


def write(path: Path, bags: Sequence[Bag], coords: bool = True, witnesses: bool = True) -> BagStore:
    return write_announced(path, header_of(bags, coords, witnesses), bags)


def write_announced(path: Path, header: StoreHeader, bags: Iterable[Bag]) -> BagStore:
    with create_store(path, header) as writer:
        for bag in bags:
            writer.add(bag)
    return BagStore(path)


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("coords", [True, False], ids=["coords", "no coords"])
@pytest.mark.parametrize("witnesses", [True, False], ids=["witnesses", "no witnesses"])
def test_what_is_written_is_read_back_bit_for_bit(
    tmp_path: Path, dtype: str, coords: bool, witnesses: bool
) -> None:
    bags = some_bags(dtype)
    store = write(tmp_path / "toy.h5", bags, coords, witnesses)
    assert len(store) == 5
    for i, bag in enumerate(bags):
        found = store.bag(i)
        assert found.slide == bag.slide
        assert found.patch_size == bag.patch_size
        assert_same_bits(found.features, bag.features)
        if coords:
            assert_same_bits(found.coords, bag.coords)
        else:
            assert found.coords is None
        if witnesses:
            assert_same_bits(found.instance_labels, bag.instance_labels)
        else:
            assert found.instance_labels is None


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_signed_zeros_and_subnormals_survive(tmp_path: Path, dtype: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    features = np.array([[0.0, -0.0, tiny, -tiny, np.finfo(dtype).max]], dtype=dtype)
    store = write(
        tmp_path / "toy.h5", [Bag(Slide("a", 0, "g"), features)], coords=False, witnesses=False
    )
    assert_same_bits(store.bag(0).features, features)


def test_a_store_knows_its_shape_and_its_origin(tmp_path: Path) -> None:
    store = write(tmp_path / "toy.h5", some_bags("float16"))
    assert (store.rows, store.width, store.dtype) == (17, 6, np.dtype("float16"))
    assert (store.dataset, store.origin, store.group_name) == ("toy", "made by a test", "patient")
    assert store.hierarchy == TREE
    assert [rows.start for (rows,) in store.ranges] == [0, 3, 4, 11, 13]
    assert store.labels.tolist() == [0, 1, 2, 0, 1]
    assert store.slides["rows"].tolist() == [3, 1, 7, 2, 4]


def test_features_of_a_store_cannot_be_written_to(tmp_path: Path) -> None:
    store = write(tmp_path / "toy.h5", some_bags())
    with pytest.raises(ValueError, match="read-only"):
        store.bag(0).features[0, 0] = 1.0


def test_slides_are_found_by_id_in_the_order_asked(tmp_path: Path) -> None:
    store = write(tmp_path / "toy.h5", some_bags())
    assert store.index_of(("003", "000", "004")).tolist() == [3, 0, 4]


def test_transposed_features_are_stored_row_by_row(tmp_path: Path) -> None:
    features = some_features(6, 4).T
    assert not features.flags["C_CONTIGUOUS"]
    store = write(
        tmp_path / "toy.h5", [Bag(Slide("a", 0, "g"), features)], coords=False, witnesses=False
    )
    assert np.array_equal(store.features, features)


def test_the_digest_does_not_depend_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    first, second = (
        write(tmp_path / "a.h5", some_bags()),
        write(tmp_path / "deep" / "b.h5", some_bags()),
    )
    assert first.digest == second.digest
    assert len(first.digest) == 16


def with_a_new_value(bag: Bag, column: str) -> Bag:
    changed = getattr(bag, column).copy()
    changed.flat[-1] += 1
    return replace(bag, **{column: changed})


def with_slide(bag: Bag, **changes: object) -> Bag:
    return replace(bag, slide=replace(bag.slide, **changes))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda bag: with_a_new_value(bag, "features"), id="one feature value"),
        pytest.param(lambda bag: with_slide(bag, label=1), id="one label"),
        pytest.param(lambda bag: with_slide(bag, group="another"), id="one group"),
        pytest.param(lambda bag: with_slide(bag, id="another"), id="one slide id"),
        pytest.param(lambda bag: with_slide(bag, split="val"), id="one role"),
        pytest.param(lambda bag: with_slide(bag, centre="Bern"), id="one centre"),
        pytest.param(lambda bag: with_a_new_value(bag, "coords"), id="one coordinate"),
        pytest.param(lambda bag: with_a_new_value(bag, "instance_labels"), id="one witness label"),
    ],
)
def test_the_digest_changes_with(tmp_path: Path, change) -> None:
    bags = some_bags()
    before = write(tmp_path / "a.h5", bags).digest
    bags[2] = change(bags[2])
    assert write(tmp_path / "b.h5", bags).digest != before


def test_the_digest_changes_when_a_row_moves_to_the_neighbouring_bag(tmp_path: Path) -> None:
    rows = some_features(5, 3)
    plain = {"coords": False, "witnesses": False}
    one = write(
        tmp_path / "a.h5",
        [Bag(Slide("a", 0, "g"), rows[:2]), Bag(Slide("b", 1, "h"), rows[2:])],
        **plain,
    )
    two = write(
        tmp_path / "b.h5",
        [Bag(Slide("a", 0, "g"), rows[:3]), Bag(Slide("b", 1, "h"), rows[3:])],
        **plain,
    )
    assert np.array_equal(one.features, two.features)
    assert one.digest != two.digest


def test_rows_that_were_announced_and_did_not_come_leave_nothing(tmp_path: Path) -> None:
    bags = some_bags()
    with pytest.raises(ValueError, match="17 rows were announced, 13 were added"):
        write_announced(tmp_path / "toy.h5", header_of(bags), bags[:-1])
    assert list(tmp_path.rglob("*")) == []


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    bags = some_bags()

    def stopping() -> Iterator[Bag]:
        yield bags[0]
        assert [path.suffix for path in tmp_path.rglob("*")] == [".partial"]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_announced(tmp_path / "toy.h5", header_of(bags), stopping())
    assert list(tmp_path.rglob("*")) == []


def test_a_second_store_under_a_taken_name_does_not_replace_the_first(tmp_path: Path) -> None:
    bags = some_bags()
    first = write(tmp_path / "toy.h5", bags)
    again = write(tmp_path / "toy.h5", [with_slide(bag, group="another") for bag in bags])
    assert again.digest == first.digest
    assert [path.name for path in tmp_path.rglob("*")] == ["toy.h5"]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file stands here")
    bags = some_bags()
    with pytest.raises(StorageError) as caught:
        write(tmp_path / "taken" / "toy.h5", bags)
    assert str(tmp_path / "taken" / "toy.h5") in str(caught.value)


def assert_refused(path: Path, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        BagStore(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)
    assert REMEDY in str(caught.value)


@pytest.mark.parametrize("kept", [0, 5, 100, 1000, -1])
def test_a_truncated_store_names_its_path(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "toy.h5"
    write(path, some_bags(width=64))
    raw = path.read_bytes()
    path.write_bytes(raw[:kept])
    assert_refused(path, "cannot be read as a bag store")


def test_a_text_file_is_not_a_store(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    path.write_text("slide,label\na,N\n")
    assert_refused(path, "cannot be read as a bag store")


def test_an_absent_store_names_its_path(tmp_path: Path) -> None:
    assert_refused(tmp_path / "absent.h5", "No such file")


def test_another_hdf5_file_is_not_a_store(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    with h5py.File(path, "w") as file:
        file["features"] = some_features()
    assert_refused(path, "is not a bag store of version 2 or 3 (it says None, version None)")


def test_a_store_of_another_version_names_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    write(path, some_bags())
    with h5py.File(path, "a") as file:
        file.attrs["version"] = PARTLY_LABELLED + 1
    assert_refused(path, f"is not a bag store of version {VERSION} or {PARTLY_LABELLED}")
    assert_refused(path, f"version {PARTLY_LABELLED + 1})")


def test_a_store_that_an_older_version_wrote_is_opened_with_the_digest_it_had() -> None:
    store = BagStore(Path(__file__).parent / "store_version_2.h5")
    assert store.digest == "3fa3a6dac16c8631"
    store.verify()
    for i, bag in enumerate(some_bags()):
        found = store.bag(i)
        assert found.slide == bag.slide
        assert found.patch_size == bag.patch_size
        assert_same_bits(found.features, bag.features)
        assert_same_bits(found.coords, bag.coords)
        assert_same_bits(found.instance_labels, bag.instance_labels)
    assert (store.encoder, store.without_features, len(store.stored)) == ("", 0, 5)


def test_a_store_of_labelled_slides_is_byte_for_byte_what_an_older_version_wrote(
    tmp_path: Path,
) -> None:
    write(tmp_path / "toy.h5", some_bags())
    older = Path(__file__).parent / "store_version_2.h5"
    assert (tmp_path / "toy.h5").read_bytes() == older.read_bytes()


def test_slides_without_a_label_are_stored_and_not_shown(tmp_path: Path) -> None:
    bags = some_bags()
    others = [
        with_slide(bag, label=UNLABELLED) if i in (0, 3) else bag for i, bag in enumerate(bags)
    ]
    store = write(tmp_path / "more.h5", others)
    alone = write(tmp_path / "alone.h5", [bags[i] for i in (1, 2, 4)])
    assert store.stored == ("000", "001", "002", "003", "004")
    assert store.slides.equals(alone.slides)
    assert store.digest == alone.digest
    assert (len(store), store.rows) == (3, 12)
    for i, bag in enumerate(bags[j] for j in (1, 2, 4)):
        assert_same_bits(store.bag(i).features, bag.features)
        assert_same_bits(store.bag(i).coords, bag.coords)
    store.verify()
    with h5py.File(tmp_path / "more.h5") as file:
        assert file.attrs["version"] == PARTLY_LABELLED


@pytest.mark.parametrize(
    "column", ["features", "offsets", "labels", "slides", "groups", "splits", "centres"]
)
def test_a_store_without_one_of_its_columns_is_refused(tmp_path: Path, column: str) -> None:
    path = tmp_path / "toy.h5"
    write(path, some_bags())
    with h5py.File(path, "a") as file:
        del file[column]
    assert_refused(path, column)


def test_a_store_of_33520_bags_opens(tmp_path: Path) -> None:
    features = np.arange(33520, dtype=np.float32).reshape(-1, 1)
    bags = [Bag(Slide(f"s{i}", i % 3, f"g{i % 10}"), features[i : i + 1]) for i in range(33520)]
    store = write(tmp_path / "many.h5", bags, coords=False, witnesses=False)
    assert len(store) == 33520
    assert np.array_equal(store.features, features)
    last = store.bag(33519)
    assert (last.slide.id, last.slide.label, last.slide.group, last.features.tolist()) == (
        "s33519",
        0,
        "g9",
        [[33519.0]],
    )
