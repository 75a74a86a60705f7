"""Maps of slides: values, ranks, polygons in level-0 pixels, pictures that line up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from feature_files import some_features, write_h5, write_stamp
from trained_digits import TrainedDigits, trained_digits, write_slides

from mil_bench import registry
from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.batch import BagBatch
from mil_bench.bags.segments import segment_mean
from mil_bench.cli import main
from mil_bench.errors import InputError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.inference.models import FoldModel
from mil_bench.inference.slides import slides_of
from mil_bench.inference.trained_on import TrainedOn
from mil_bench.intake.readers import open_features
from mil_bench.maps.geojson import geojson
from mil_bench.maps.patches import patches_of
from mil_bench.maps.slide_image import open_slide
from mil_bench.maps.values import MethodMap, method_map, ranks_of
from mil_bench.methods import InstanceMap
from mil_bench.methods.checkpoints import build_method
from mil_bench.runs.mapping import SlideRequest, map_slides
from mil_bench.runs.predicting import ModelChoice

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = LabelHierarchy.from_groups({"left": ["l0", "l1"], "right": ["r0", "r1"]})
WITHOUT = {
    "knn-probe": "compares means of slides with each other, so no instance has a value",
    "mean-mlp": "averages the features before its first layer, so no instance has a value",
    "wikg": "averages its rows, which all have the same weight",
}
PER_CLASS = {"clam-mb", "detector", "dsmil", "hmil", "linear-probe", "max-pool", "mean-pool"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedDigits:
    return trained_digits(tmp_path_factory.getbasetemp())


def slide_of(trained: TrainedDigits) -> str:
    """A test slide of fold 0 that has witnesses."""
    labels = dict(zip(trained.store.slides["slide"], trained.store.labels, strict=True))
    return next(s for s in trained.result.plan.splits.folds[0].test if labels[s] == 1)


def untrained(name: str, width: int = 6, **settings: Any) -> FoldModel:
    torch.manual_seed(0)
    method = build_method(name, width, CLASSES, **settings).eval()
    return FoldModel(name, 0, 0, frozenset(), method)


def some_bag(rows: int = 9, width: int = 6) -> Bag:
    return Bag(Slide("s", -1, "slide s"), some_features(rows, width))


def some_map(values: np.ndarray, classes: tuple[str, ...] = ("",)) -> MethodMap:
    return MethodMap("toy", "made up", classes, values, np.eye(4)[2], 1, 0)


def test_every_built_in_method_has_a_map_or_says_why_not(trained: TrainedDigits) -> None:
    (made,) = map_slides(
        trained.result,
        SlideRequest(slide_of(trained)),
        ModelChoice("all", data=trained.folder / "data"),
    )
    assert made.without == WITHOUT
    assert {m.label for m in made.methods} == set(registry.methods.built_in()) - set(WITHOUT)
    for method in made.methods:
        assert (len(method.classes) == 7) == (method.label in PER_CLASS), method.label
        assert method.models == 1  # of two, one was trained on the slide
        assert method.meaning
        assert method.ranks.min() >= 0
        assert method.ranks.max() <= 1


def test_the_auc_is_that_of_the_report(trained: TrainedDigits) -> None:
    slide, data = slide_of(trained), trained.folder / "data"
    (made,) = map_slides(trained.result, SlideRequest(slide), ModelChoice("all", data=data))
    compared = 0
    for method in made.methods:
        stored = trained.result.trained[method.label][0].predictions
        if stored.attention_auc is None:
            continue
        place = stored.slides.tolist().index(slide)
        assert abs(method.auc(made.witnesses) - stored.attention_auc[place]) < 1e-9, method.label
        assert np.allclose(method.probabilities, stored.fine[place], atol=1e-6)
        compared += 1
    assert compared == 11


@pytest.mark.parametrize("name", ["mean-pool", "max-pool", "linear-probe"])
def test_instance_scores_add_up_to_the_slide(trained: TrainedDigits, name: str) -> None:
    method = trained.result.model(name)
    features = torch.from_numpy(np.array(trained.store.bag(3).features))
    bags = BagBatch.pack(features, torch.tensor([len(features)]), torch.tensor([0]))
    with torch.no_grad():
        found, out = method.instance_map(bags), method(bags).fine.softmax(1)
    assert found is not None
    pooled = found.values.max(0).values if name == "max-pool" else found.values.mean(0)
    assert torch.allclose(pooled.softmax(0), out[0], atol=1e-5)


def test_transformers_attention_sums_to_one_with_its_class_token() -> None:
    model, bag = untrained("transformer", dim=16, feed_forward=16, heads=4), some_bag()
    found = method_map([model], bag, CLASSES, -1)
    assert isinstance(found, MethodMap)
    assert found.values.shape == (9, 1)
    assert 0 < found.values.sum() < 1  # the rest is that of the token to itself


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("max-pool", {"level": "embedding"}, "takes each unit of the embedding from another"),
        ("wikg", {"pooling": "max"}, "takes each unit of the embedding from another instance"),
        ("transformer", {"alibi": True}, "subtracts distances from its attention"),
    ],
)
def test_settings_may_leave_no_map(name: str, settings: dict[str, Any], reason: str) -> None:
    assert reason in str(method_map([untrained(name, **settings)], some_bag(), CLASSES, -1))


def test_dsmil_without_an_output_for_the_first_class_names_the_others() -> None:
    found = method_map([untrained("dsmil", none_class=True)], some_bag(), CLASSES, 3)
    assert isinstance(found, MethodMap)
    assert found.classes == ("l1", "r0", "r1")
    assert found.name_of(found.shown) == "dsmil: r1"


def test_a_plugin_without_attention_has_no_map_and_one_with_faults_is_refused() -> None:
    kind = registry.methods.load("mean-mlp")

    class Silent(kind):  # type: ignore[misc,valid-type]
        without_map = ""

    class Short(Silent):
        def instance_map(self, bags: BagBatch) -> InstanceMap:
            return InstanceMap(segment_mean(bags.features, bags), (0, 9))

    def model(method: type) -> FoldModel:
        return FoldModel("mine", 0, 0, frozenset(), method(6, CLASSES).eval())

    assert "declares no values of instances" in str(
        method_map([model(Silent)], some_bag(), CLASSES, -1)
    )
    with pytest.raises(InputError, match=r"(?s)it returned \(1, 6\); values have to be \(9, 2\).*"):
        method_map([model(Short)], some_bag(), CLASSES, -1)


def test_ranks_run_from_0_to_1_and_ties_share_theirs() -> None:
    assert ranks_of(np.array([5.0, -1.0, 2.0])).tolist() == [1.0, 0.0, 0.5]
    assert ranks_of(np.array([1.0, 1.0, 1.0])).tolist() == [0.5, 0.5, 0.5]
    assert ranks_of(np.array([7.0])).tolist() == [1.0]


def corners_of(text: str) -> np.ndarray:
    """Top left corner and side of every polygon ``[n, 3]``, checked by the geojson library."""
    import geojson as library

    collection = library.loads(text)
    assert isinstance(collection, library.FeatureCollection)
    assert collection.is_valid, collection.errors()
    rings = np.array([feature["geometry"]["coordinates"][0] for feature in collection["features"]])
    low, high = rings.min(1), rings.max(1)
    assert np.allclose((high - low)[:, 0], (high - low)[:, 1])
    return np.column_stack([low, (high - low)[:, 0]])


@pytest.mark.parametrize("tool", ["clam", "trident", "stamp"])
def test_polygons_lie_where_each_tool_says(tool: str, tmp_path: Path) -> None:
    expected, features = np.array([[0, 512], [512, 512], [1024, 0]]), some_features(3, 6)
    path, mpp = tmp_path / "h5_files" / "s.h5", 0.25
    if tool == "clam":
        import h5py

        write_h5(path, features, expected.astype("int32"))
        write_h5(tmp_path / "patches" / "s.h5", features, expected)
        with h5py.File(tmp_path / "patches" / "s.h5", "r+") as file:
            file["coords"].attrs.update(patch_size=256, downsample=(2.0, 2.0))
    elif tool == "trident":
        write_h5(path, features, expected, "uni", 512)
    else:
        write_stamp(
            path, features, (expected * mpp).astype("float32"), unit="um", tile_size_um=512 * mpp
        )
    slides = slides_of(path, TrainedOn(6))
    patches = patches_of(slides.read(0), slides.coords_unit, mpp)
    assert patches.are_pixels
    found = corners_of(geojson(patches, some_map(np.arange(3.0)[:, None]), CLASSES.fine))
    assert np.allclose(found[:, :2], expected)
    assert np.allclose(found[:, 2], 512)


@pytest.mark.parametrize(
    "name",
    ["clam/h5_files", "trident/features_resnet50", "stamp/resnet50_random_init-49b04e14"],
)
def test_polygons_of_the_real_tools_files(shared: Path, name: str) -> None:
    path = shared / "data" / "fixtures" / name / "ucsb_benign_mosaic.h5"
    if not path.exists():
        pytest.skip("the fixtures are not there")
    file = open_features(path)
    raw = file.read()
    bag = Bag(Slide("s", -1, ""), raw.features, raw.coords, raw.patch_size)
    mpp = 0.5
    patches = patches_of(bag, raw.coords_unit, mpp)
    assert patches.are_pixels
    found = corners_of(
        geojson(patches, some_map(np.arange(len(raw.features), dtype=float)[:, None]), CLASSES.fine)
    )
    scale = mpp if name.startswith("stamp") else 1.0
    assert np.allclose(found[:, :2], raw.coords / scale, atol=1e-3)
    assert raw.patch_size is not None
    assert np.allclose(found[:, 2], raw.patch_size / scale, atol=2e-3)


def test_micrometres_without_the_size_of_a_pixel_give_no_pixels() -> None:
    bag = Bag(Slide("s", -1, ""), some_features(2, 6), np.array([[0.0, 0.0], [64.0, 0.0]]), 64.0)
    patches = patches_of(bag, "micrometres", None)
    assert not patches.are_pixels
    assert "no GeoJSON is written" in patches.notes[0]
    no_side = patches_of(Bag(bag.slide, bag.features, bag.coords), "level-0 pixels", None)
    assert no_side.side == 64
    assert "smallest distance" in no_side.notes[0]


def test_a_patch_has_the_class_in_which_it_ranks_highest() -> None:
    bag = Bag(Slide("s", -1, ""), some_features(2, 6), np.array([[0.0, 0.0], [9.0, 0.0]]), 9.0)
    patches = patches_of(bag, "level-0 pixels", None)
    values = np.array([[0.9, 0.1], [0.1, 0.9]])
    several = json.loads(geojson(patches, some_map(values, ("l0", "r1")), CLASSES.fine))
    named = [f["properties"]["classification"]["name"] for f in several["features"]]
    assert named == ["l0", "r1"]
    measured = several["features"][0]["properties"]["measurements"]
    expected = {"toy l0 value": 0.9, "toy l0 rank": 1.0, "toy r1 value": 0.1, "toy r1 rank": 0.0}
    assert measured == expected
    single = json.loads(geojson(patches, some_map(values[:, :1]), CLASSES.fine))
    named = [f["properties"]["classification"]["name"] for f in single["features"]]
    assert named == ["r0", "r0"]  # what the slide is predicted to be


def write_pyramid(
    path: Path, side: int, squares: dict[tuple[int, int], tuple[int, int, int]]
) -> None:
    """A tiled pyramid of two levels, white with squares of 256 pixels in colours."""
    tifffile = pytest.importorskip("tifffile")
    image = np.full((side, side, 3), 255, np.uint8)
    for (x, y), colour in squares.items():
        image[y : y + 256, x : x + 256] = colour
    options = {"tile": (256, 256), "photometric": "rgb", "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as file:
        file.write(image, subifds=0, resolution=(20_000, 20_000), **options)
        file.write(image[::4, ::4], subfiletype=1, resolution=(5_000, 5_000), **options)


def test_a_map_lines_up_with_the_image(
    trained: TrainedDigits, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("openslide")
    from PIL import Image

    slide = slide_of(trained)
    bag = trained.store.bag(int(trained.store.index_of((slide,))[0]))
    corners = [(256 * (i % 4) + 512, 256 * (i // 4) + 256) for i in range(len(bag.features))]
    features = tmp_path / "features"
    write_stamp(
        features / f"{slide}.h5",
        np.array(bag.features),
        np.array(corners, np.float32) / 2,
        unit="um",
        tile_size_um=128.0,
    )
    colours = {c: (255 - 20 * i, 0, 20 * i) for i, c in enumerate(corners)}
    write_pyramid(tmp_path / "slide.tif", 2048, colours)
    image = open_slide(tmp_path / "slide.tif")
    assert image.size == (2048, 2048)
    assert image.micrometres_per_pixel == pytest.approx(0.5)
    words = ["maps", trained.result.run_id, slide, "--method", "hmil", *trained.words]
    words += ["--features", str(features), "--image", str(tmp_path / "slide.tif")]
    assert main([*words, "--out", str(tmp_path / "map")]) == 0
    written = {path.name for path in (tmp_path / "map").iterdir()}
    assert written == {"map.png", "hmil.geojson", "hmil.top.png", "patches.csv", "map.html"}
    found = corners_of((tmp_path / "map" / "hmil.geojson").read_text())
    assert np.allclose(found[:, :2], corners)
    assert np.allclose(found[:, 2], 256)
    frame = pd.read_csv(tmp_path / "map" / "patches.csv")
    assert frame["x"].tolist() == [x for x, _ in corners]
    predicted = trained.result.model("hmil").hierarchy.fine
    column = next(c for c in frame.columns if c.endswith("rank"))
    assert column.split(": ")[1].removesuffix(" rank") in predicted
    sheet = np.asarray(Image.open(tmp_path / "map" / "hmil.top.png"))
    shown = capsys.readouterr().out
    assert "Highest instances, hmil: " in shown
    heading = shown.split("Highest instances, ")[1].split("\n")[0].strip()
    best = int(frame[f"{heading} value"].argmax())
    assert np.abs(sheet[80, 80].astype(int) - colours[corners[best]]).max() < 30


def test_maps_of_digits_show_witnesses_and_write_no_geojson(
    trained: TrainedDigits, capsys: pytest.CaptureFixture
) -> None:
    slide = slide_of(trained)
    words = ["maps", trained.result.run_id, slide, "--method", "abmil", *trained.words]
    assert main(words) == 0
    folder = trained.folder / "results" / "maps" / trained.result.run_id / slide
    assert {path.name for path in folder.iterdir()} == {"map.png", "patches.csv", "map.html"}
    page = (folder / "map.html").read_text()
    assert "Attention AUC (%)" in page
    assert "no coordinates" in page
    shown = " ".join(capsys.readouterr().out.split())
    assert "took part in the training of 1 of 2 models" in shown
    frame = pd.read_csv(folder / "patches.csv")
    assert frame["witness"].sum() == frame.loc[frame["witness"] == 1].shape[0] > 0
    assert "x" not in frame


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nowhere", "--method", "abmil"], "there is no slide 'nowhere' in"),
        (["SLIDE", "--method", "knn-probe"], "knn-probe has no map: it compares means of slides"),
        (["SLIDE", "--method", "abmil", "--mpp", "0"], "0 is no width of a pixel"),
        (["SLIDE", "--method", "abmil", "--image", "none.svs"], "there is no such file"),
        (["SLIDE", "--method", "abmil", "--data", "none"], "name features with --features"),
    ],
)
def test_a_map_that_cannot_be_made_is_one_message(
    trained: TrainedDigits,
    words: list[str],
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    pytest.importorskip("openslide")
    words = [slide_of(trained) if word == "SLIDE" else word for word in words]
    out = tmp_path / "map"
    given = ["maps", trained.result.run_id, *trained.words, *words, "--out", str(out)]
    assert main(given) == 2
    message = capsys.readouterr().err
    assert text.lower() in message.lower()
    assert not out.exists()


def test_only_the_file_of_the_slide_is_opened(trained: TrainedDigits, tmp_path: Path) -> None:
    slide = slide_of(trained)
    folder = write_slides(trained, tmp_path / "features", [slide])
    (folder / "torn.h5").write_bytes(b"\x89HDF\r\n\x1a\n torn")
    found = slides_of(folder, TrainedOn(64), only=f"{slide}.svs")
    assert found.slides == (slide,)


def test_an_image_without_openslide_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openslide", None)
    with pytest.raises(InputError, match=r"pip install 'mil-bench\[slides\]'"):
        open_slide(tmp_path / "slide.svs")


def test_a_file_that_is_no_slide_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    (tmp_path / "slide.svs").write_text("no slide")
    with pytest.raises(InputError, match="it cannot be read"):
        open_slide(tmp_path / "slide.svs")
