"""``data get`` for each layout: what was published is what the store holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hub_server import get
from published import Made, camelyon_uni, musk, panda_folder, phikon

from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.store import BagStore, StoreHeader, create_store
from mil_bench.cli import main
from mil_bench.datasets.card_file import read_card
from mil_bench.datasets.labels import read_label_table
from mil_bench.public.recipe import find_recipe
from mil_bench.split_files.formats import read_split_lists

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from hub_server import HubServer


def check(store: BagStore, slides: dict[str, Made], classes: tuple[str, ...]) -> None:
    """The store holds these slides, bit for bit."""
    store.verify()
    assert set(store.slides["slide"]) == set(slides)
    for position, name in enumerate(store.slides["slide"]):
        bag, published = store.bag(position), slides[name]
        assert np.array_equal(bag.features, published.features), name
        assert bag.features.dtype == published.features.dtype
        assert store.hierarchy.fine[bag.slide.label] == classes[published.label]


def test_parquet_of_camelyon16(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, slides = phikon()
    hub.repositories["owkin/camelyon16-features"] = repository
    data = tmp_path / "data"
    assert get("camelyon16-phikon", data, "--accept-licence") == 0
    store = BagStore(data / "camelyon16-phikon.h5")
    check(store, slides, ("normal", "tumor"))
    assert [row.split for row in store.slides.itertuples()] == [
        slides[name].split for name in store.slides["slide"]
    ]
    assert store.group_name == "patient"
    assert store.slides["group"].tolist() == store.slides["slide"].tolist()
    assert store.encoder == "phikon"
    assert store.origin == "owkin/camelyon16-features at c0ffee0"
    spec = read_card(data / "camelyon16-phikon.toml")
    assert (spec.name, spec.protocols[0]) == ("camelyon16-phikon", "official")
    assert any("arXiv" in trap for trap in spec.traps)
    table = read_label_table(data / "camelyon16-phikon.csv", spec)
    assert {slide.id: slide.split for slide in table.slides.values()} == {
        name: slide.split for name, slide in slides.items()
    }
    lists = read_split_lists(data / "camelyon16-phikon-official.json")
    assert set(lists.folds[0].test) == {name for name in slides if name.startswith("test")}
    said = capsys.readouterr().out
    assert "Owkin's non-commercial licence" in said
    assert "never tried against the real hub" in said
    assert "mil-bench run" in said.splitlines()[-1]
    assert not list((tmp_path / "hf").rglob("*.parquet"))  # fetched files are removed
    assert sorted(path.name for path in data.iterdir()) == [
        "camelyon16-phikon-official.json",
        "camelyon16-phikon.csv",
        "camelyon16-phikon.h5",
        "camelyon16-phikon.source.json",
        "camelyon16-phikon.toml",
    ]


def test_the_printed_command_runs(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["owkin/camelyon16-features"] = phikon()[0]
    get("camelyon16-phikon", tmp_path / "data", "--accept-licence")
    _, command = capsys.readouterr().out.splitlines()[-1].split("mil-bench ", 1)
    results = ["--results", str(tmp_path / "results"), "--dry-run"]
    assert main([*command.split(), *results]) == 0


def test_archives_with_labels_of_patches(hub: HubServer, tmp_path: Path) -> None:
    repository, slides = camelyon_uni()
    hub.repositories["torchmil/Camelyon16_MIL"] = repository
    assert get("camelyon16-uni", tmp_path, "--accept-licence") == 0
    store = BagStore(tmp_path / "camelyon16@uni.h5")
    check(store, slides, ("normal", "tumor"))
    assert store.coords_unit == "unknown unit"
    for position, name in enumerate(store.slides["slide"]):
        bag, published = store.bag(position), slides[name]
        assert np.array_equal(bag.coords, published.coords)
        expected = np.where(published.patch_labels, published.label, -1)
        assert np.array_equal(bag.instance_labels, expected)
        assert bag.slide.split == published.split


def test_a_folder_with_a_label_table_of_the_user(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, slides = panda_folder()
    hub.repositories["Dearcat/CPathPatchFeature"] = repository
    unlabelled, *named = slides
    train = tmp_path / "train.csv"
    rows = [f"{name},karolinska,{slides[name].label},0+0" for name in named]
    train.write_text("image_id,data_provider,isup_grade,gleason_score\n" + "\n".join(rows) + "\n")
    assert get("panda-resnet50", tmp_path / "data") == 2
    assert "Kaggle" in capsys.readouterr().err
    assert get("panda-resnet50", tmp_path / "data", "--labels", str(train)) == 0
    store = BagStore(tmp_path / "data" / "panda@resnet50.h5")
    check(store, {name: slides[name] for name in named}, tuple("012345"))
    assert set(store.slides["centre"]) == {"karolinska"}
    assert unlabelled not in set(store.slides["slide"])
    assert "Left out: 1 slide; each is not in the label table." in capsys.readouterr().out


def test_a_plain_table_of_instances(hub: HubServer, tmp_path: Path) -> None:
    repository, slides = musk()
    hub.repositories["mstz/musk"] = repository
    assert get("musk1", tmp_path, "--accept-licence") == 0
    check(BagStore(tmp_path / "musk1.h5"), slides, ("non-musk", "musk"))
    assert not (tmp_path / "musk1-official.json").exists()


def test_a_store_that_grew_is_the_store_that_was_laid_out_at_once(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.repositories["torchmil/Camelyon16_MIL"] = camelyon_uni()[0]
    get("camelyon16-uni", tmp_path, "--accept-licence")
    grown = BagStore(tmp_path / "camelyon16@uni.h5")
    header = StoreHeader(
        grown.dataset,
        grown.hierarchy,
        grown.rows,
        grown.width,
        grown.dtype.name,
        grown.origin,
        grown.group_name,
        grown.coords_unit,
        has_instance_labels=True,
        encoder="uni",
    )
    at_once = tmp_path / "at-once.h5"
    with create_store(at_once, header) as writer:
        for position in range(len(grown)):
            writer.add(grown.bag(position))
    assert at_once.read_bytes() == grown.path.read_bytes()


def test_a_second_call_fetches_nothing(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["mstz/musk"] = musk()[0]
    get("musk1", tmp_path, "--accept-licence")
    hub.requests.clear()
    assert get("musk1", tmp_path, "--accept-licence") == 0
    assert not hub.requests
    assert "mil-bench run" in capsys.readouterr().out


def test_a_foreign_store_of_that_name_stays(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = find_recipe("musk1").spec()
    path = tmp_path / "musk1.h5"
    with create_store(path, StoreHeader("musk1", recipe.hierarchy, 1, 2, "float32", "x", "")) as w:
        w.add(Bag(Slide("a", 0, "slide a"), np.zeros((1, 2), np.float32)))
    before = path.read_bytes()
    assert get("musk1", tmp_path, "--accept-licence") == 2
    assert "does not come from this recipe" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_stores_of_one_dataset_are_its_encoders(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = camelyon_uni()[0]
    folder = "dataset/patches_512/features"
    repository.files[f"{folder}/features_resnet50.tar.gz"] = repository.files[
        f"{folder}/features_UNI.tar.gz"
    ]
    hub.repositories["torchmil/Camelyon16_MIL"] = repository
    for name in ("camelyon16-uni", "camelyon16-resnet50"):
        assert get(name, tmp_path, "--accept-licence") == 0
    assert "--dataset camelyon16 --data" in capsys.readouterr().out
    command = ["run", "--methods", "mean-pool", "--dataset", "camelyon16", "--data", str(tmp_path)]
    more = ["--encoder", "uni", "resnet50", "--results", str(tmp_path / "results"), "--dry-run"]
    assert main([*command, *more]) == 0
