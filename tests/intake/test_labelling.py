"""One store of features and many label tables: what is packed, and which labels count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from feature_files import some_features, write_h5, write_npy

from mil_bench.bags.store import BagStore
from mil_bench.cli import main
from mil_bench.errors import TrainingError
from mil_bench.planning.prepare import prepare
from mil_bench.planning.request import RunRequest
from mil_bench.running.task import TaskMaker
from mil_bench.running.worker import train

UUID = "B34C267B-CAFE-4B5F-8B1A-0123456789AB"
SLIDES = [f"s{i}" for i in range(12)]


class Lab:
    """A folder with the features of twelve slides, two cards and their label tables."""

    def __init__(self, capsys: pytest.CaptureFixture) -> None:
        self._capsys = capsys
        for i, slide in enumerate(SLIDES):
            write_h5(Path("features") / f"{slide}.h5", some_features(i + 2, 4, seed=i))
        for name, labels in (("type", '["a", "b"]'), ("grade", '["low", "mid", "high"]')):
            Path(f"{name}.toml").write_text(f'name = "{name}"\nlabels = {labels}\nfolds = 2\n')

    def table(self, name: str, classes: str, slides: list[str], **more: str) -> None:
        """Slide i of each class in turn, patient of two slides."""
        names = classes.split()
        lines = [
            f"{slide},{names[i % len(names)]},P{i // 2},{more.get(slide, '')}"
            for i, slide in enumerate(slides)
        ]
        Path(name).write_text("\n".join(["slide,label,patient,split", *lines]))

    def call(self, *words: str) -> tuple[int, str, str]:
        code = main(list(words))
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def pack(self, *words: str, name: str = "type") -> tuple[int, str, str]:
        tables = ("--dataset", f"{name}.toml", "--labels", f"{name}.csv", "--workers", "1")
        return self.call("data", "pack", "features", *tables, *words)

    def label(self, *words: str, name: str = "grade") -> tuple[int, str, str]:
        tables = ("--dataset", f"{name}.toml", "--labels", f"{name}.csv")
        return self.call("data", "label", *tables, *words)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Lab:
    monkeypatch.chdir(tmp_path)
    return Lab(capsys)


def opened(name: str, features: str = "type") -> BagStore:
    labels = Path(f"data/{name}.labels.json")
    return BagStore(Path(f"data/{features}.h5"), labels if labels.exists() else None)


def files(folder: str = "data") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_folder_larger_than_the_table_is_packed_whole(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES[:8])
    code, output, errors = lab.pack()
    assert code == 0, errors
    assert "data/type.h5: 8 slides, 44 instances, 4 features" in output
    assert (
        "4 slides have no label in this table; packed for other tables (mil-bench data label; "
        "--only leaves them out): s10, s11, s8, s9\n" in output
    )
    store = opened("type")
    assert store.slides["slide"].tolist() == SLIDES[:8]
    assert len(store.stored) == 12
    assert lab.call("data", "info", "type.toml")[1].count(
        "slides:      8; the file has features of 4 slides more"
    )
    store.verify()


def test_only_leaves_out_what_the_table_does_not_name(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES[:8])
    Path("features/s11.h5").write_text("not a feature file")  # is not even opened
    code, output, errors = lab.pack("--only")
    assert code == 0, errors
    assert "4 files are not packed: no label in this table.\n" in output
    assert opened("type").stored == tuple(SLIDES[:8])


def test_slides_beside_the_table_change_neither_digest_nor_bags(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES[2:9])
    assert lab.pack()[0] == 0
    assert lab.pack("--only", "--data", "alone")[0] == 0
    whole, alone = opened("type"), BagStore(Path("alone/type.h5"))
    assert whole.digest == alone.digest
    assert whole.slides.equals(alone.slides)
    for i in range(7):
        assert whole.bag(i).features.tobytes() == alone.bag(i).features.tobytes()


def test_a_table_larger_than_the_folder_is_refused_unless_allowed(lab: Lab) -> None:
    lab.table("type.csv", "a b", [*SLIDES, "S99", "lost"])
    Path("features/s10.h5").rename("features/S10.h5")
    code, _, errors = lab.pack()
    assert code == 2
    case = "the folder has 'S10', in other upper and lower case"
    assert f"slide 's10': no feature file; {case}" in errors
    assert "slide 'lost': no feature file; --allow-missing leaves such slides out" in errors
    assert not Path("data").exists()
    code, output, errors = lab.pack("--allow-missing")
    assert code == 0, errors
    assert "3 labelled slides have no feature file: s10, S99, lost" in output
    run = ("run", "--dataset", "type.toml", "--methods", "mean-pool", "--dry-run")
    code, output, errors = lab.call(*run)
    assert code == 0, errors
    assert "4 features; 3 labelled slides have no features, left out)" in output


def test_a_table_without_any_slide_of_the_folder_packs_nothing(lab: Lab) -> None:
    lab.table("type.csv", "a b", ["x", "y"])
    for words in ((), ("--allow-missing",), ("--allow-missing", "--only")):
        assert lab.pack(*words)[0] == 2
    assert "no slide with a feature file has a label" in lab.pack("--allow-missing")[2]
    assert not Path("data").exists()


def test_three_tables_share_one_copy_of_the_features(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    lab.table("grade.csv", "low mid high", SLIDES[1:10], s1="train", s2="test")
    assert lab.pack()[0] == 0
    size = Path("data/type.h5").stat().st_size
    code, output, errors = lab.label("--features", "type")
    assert code == 0, errors
    assert "data/grade.labels.json: 9 slides of the 12 slides in data/type.h5, digest " in output
    assert "  mid: 3 slides (33.3%)" in output
    assert files() == ["grade.labels.json", "type.h5"]
    assert Path("data/type.h5").stat().st_size == size
    store = opened("grade")
    assert store.slides["slide"].tolist() == sorted(SLIDES[1:10])
    assert store.hierarchy.fine == ("low", "mid", "high")
    assert (store.dataset, store.group_name) == ("grade", "patient")
    frame = store.slides.set_index("slide")
    assert frame.loc["s2", ["label", "group", "split"]].tolist() == [1, "P0", "test"]
    for i, slide in enumerate(store.slides["slide"]):
        number = SLIDES.index(slide)
        assert np.array_equal(store.bag(i).features, some_features(number + 2, 4, seed=number))
    # Another dataset can name the first or one that has its features from there.
    Path("grade2.toml").write_text(Path("grade.toml").read_text().replace('"grade"', '"grade2"'))
    lab.table("grade2.csv", "low mid high", SLIDES)
    assert lab.label("--features", "grade.toml", name="grade2")[0] == 0
    assert json.loads(Path("data/grade2.labels.json").read_text())["features"] == "type"


def test_a_view_is_the_store_that_would_have_been_packed(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    lab.table("grade.csv", "low mid high", SLIDES[3:])
    assert lab.pack()[0] == 0
    assert lab.label("--features", "type")[0] == 0
    assert lab.pack("--only", "--data", "own", name="grade")[0] == 0
    assert opened("grade").digest == BagStore(Path("own/grade.h5")).digest


def test_witnesses_take_the_class_that_their_slide_has_in_the_table(lab: Lab) -> None:
    slides = SLIDES[:6]
    for i, slide in enumerate(slides):
        write_npy(Path("bags/features") / f"{slide}.npy", some_features(6, 4, seed=i))
        witnesses = np.random.default_rng(i).integers(0, 2, 6)
        write_npy(Path("bags/patch_labels") / f"{slide}.npy", witnesses)
    lab.table("type.csv", "a b", slides[:-1])
    lab.table("grade.csv", "low mid high", slides)
    words = ("--workers", "1")
    first = ("data", "pack", "bags", "--dataset", "type.toml", "--labels", "type.csv", *words)
    assert lab.call(*first)[0] == 0
    assert lab.label("--features", "type")[0] == 0
    own = ("data", "pack", "bags", "--dataset", "grade.toml", "--labels", "grade.csv", *words)
    assert lab.call(*own, "--data", "own")[0] == 0
    view, packed = opened("grade"), BagStore(Path("own/grade.h5"))
    assert view.instance_labels is not None
    for i in range(len(slides)):
        assert np.array_equal(view.bag(i).instance_labels, packed.bag(i).instance_labels)
    assert view.digest == packed.digest
    view.verify()


def test_other_labels_give_another_digest_and_are_said(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    assert lab.pack()[0] == 0
    before = opened("type").digest
    lab.table("type.csv", "b a", SLIDES)
    code, output, errors = lab.label(name="type")
    assert code == 0, errors
    assert f"Its labels were others before (digest {before}): results of those stay" in output
    changed = opened("type")
    assert changed.digest != before
    assert changed.labels.tolist() == (1 - BagStore(Path("data/type.h5")).labels).tolist()
    lab.table("type.csv", "a b", SLIDES)
    assert lab.label(name="type")[0] == 0
    assert opened("type").digest == before
    assert "Its labels were others" not in lab.label(name="type")[1]


def test_labels_without_features_are_refused_unless_allowed(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    lab.table("grade.csv", "low mid high", [*SLIDES[:5], "S7", "lost"])
    assert lab.pack()[0] == 0
    code, _, errors = lab.label("--features", "type")
    assert code == 2
    assert "slide 'S7' has no features in the store of type; the store has 's7', in other" in errors
    assert "slide 'lost' has no features in the store of type\n" in errors
    assert files() == ["type.h5"]
    code, output, _ = lab.label("--features", "type", "--allow-missing")
    assert code == 0
    assert "2 labelled slides have no features and captions say so: S7, lost" in output
    assert "2 labelled slides have no features" in lab.call("data", "info", "grade.toml")[1]
    assert lab.label("--features", "tpye")[0] == 2


def test_a_dataset_that_is_not_packed_is_named_with_a_near_one(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    lab.table("grade.csv", "low mid high", SLIDES)
    assert lab.pack()[0] == 0
    code, _, errors = lab.label("--features", "types")
    assert code == 2
    assert f"no features of types are packed in {Path.cwd()}/data; did you mean type?" in errors
    assert f"no features of grade are packed in {Path.cwd()}/data" in lab.label()[2]
    generated = ("data", "label", "--dataset", "digits", "--labels", "grade.csv")
    assert "generated with its labels" in lab.call(*generated)[2]


@pytest.mark.parametrize("long_in", ["files", "table"])
def test_tcgas_uuid_is_no_difference(lab: Lab, long_in: str) -> None:
    short = [f"TCGA-A1-{slide}-01Z-00-DX1" for slide in SLIDES]
    long = [f"{name}.{UUID[:-2]}{i:02d}" for i, name in enumerate(short)]
    in_files, in_table = (long, short) if long_in == "files" else (short, long)
    for slide, name in zip(SLIDES, in_files, strict=True):
        Path(f"features/{slide}.h5").rename(f"features/{name}.h5")
    lab.table("type.csv", "a b", [f"{name}.svs" for name in in_table])
    lab.table("grade.csv", "low mid high", in_files)
    code, _, errors = lab.pack()
    assert code == 0, errors
    assert sorted(opened("type").slides["slide"]) == sorted(in_table)
    code, _, errors = lab.label("--features", "type")
    assert code == 0, errors
    assert sorted(opened("grade").slides["slide"]) == sorted(in_files)


def test_two_slides_that_a_short_id_could_mean_are_shown(lab: Lab) -> None:
    for i in (0, 1):
        Path(f"features/s{i}.h5").rename(f"features/case.{UUID[:-1]}{i}.h5")
    lab.table("type.csv", "a b", ["case", *SLIDES[2:]])
    code, _, errors = lab.pack()
    assert code == 2
    assert f"slide 'case': no feature file; the folder has 'case.{UUID[:-1]}0'" in errors


def test_a_row_per_patient_lists_its_slides(lab: Lab) -> None:
    lines = ["patient,label,slides"]
    for i in range(0, 12, 2):
        listed = ("s{}.svs; s{}.svs", "\"['s{}', 's{}']\"", "s{}|s{}")[i // 2 % 3]
        lines.append(f"P{i},{'ab'[i // 2 % 2]},{listed.format(i, i + 1)}")
    Path("type.csv").write_text("\n".join(lines))
    code, _, errors = lab.pack()
    assert code == 0, errors
    frame = opened("type").slides
    assert frame.groupby("group")["slide"].apply(set).tolist() == [
        {f"s{i}", f"s{i + 1}"} for i in (0, 10, 2, 4, 6, 8)
    ]
    assert lab.call("data", "new", "again", "--labels", "type.csv")[0] == 0
    assert 'columns.slides = "slides"' in Path("again.toml").read_text()
    Path("type.csv").write_text("\n".join([*lines, "P99,a,s11", "P98,a,"]))
    code, _, errors = lab.pack("--data", "other")
    assert "line 8, slide 's11': already in line 7" in errors
    assert "line 9: empty slide id" in errors


def test_a_label_file_that_was_changed_is_refused(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    lab.table("grade.csv", "low mid high", SLIDES)
    assert lab.pack()[0] == 0
    assert lab.label("--features", "type")[0] == 0
    path = Path("data/grade.labels.json")
    whole = path.read_text()
    for changed, said in (
        (whole.replace('"label": 2', '"label": 1', 1), "was changed after it was written"),
        (whole.replace('"version": 1', '"version": 9', 1), "is not a label file of version 1"),
        (whole[:-40], "Expecting"),
        ("[1]", "it is no JSON object"),
        ('{"format": "mil-bench labels", "version": 1, "digest": 3}', "dataset"),
    ):
        path.write_text(changed)
        for command in (
            ("data", "info", "grade.toml"),
            ("run", "--dataset", "grade.toml", "--methods", "mean-pool", "--dry-run"),
        ):
            code, _, errors = lab.call(*command)
            assert code == 2
            assert "mil-bench: label file data/grade.labels.json: 1 problem\n" in errors
            assert said in errors
            assert "Write it again from the label table: mil-bench data label." in errors
    path.write_text(whole)
    Path("data/type.h5").unlink()
    code, _, errors = lab.call("data", "info", "grade.toml")
    assert code == 2
    assert "grade has the features of type, which are not packed: there is no type.h5 in " in errors


def test_a_card_of_other_classes_wants_new_labels(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    assert lab.pack()[0] == 0
    assert lab.label(name="type")[0] == 0
    Path("type.toml").write_text(Path("type.toml").read_text().replace('"b"', '"c"'))
    code, _, errors = lab.call("data", "info", "type.toml")
    assert code == 2
    assert "its classes are ['a', 'b'], the card says ['a', 'c']" in errors
    assert "mil-bench data label --dataset type.toml --labels TABLE" in errors


def test_packing_what_has_features_of_another_dataset_is_refused(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    lab.table("grade.csv", "low mid high", SLIDES)
    assert lab.pack()[0] == 0
    assert lab.label("--features", "type")[0] == 0
    code, _, errors = lab.pack(name="grade")
    assert code == 2
    assert "according to data/grade.labels.json, its features are those of type" in errors


def test_encoders_lie_side_by_side(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    assert lab.pack("--encoder", "uni")[0] == 0
    for i, slide in enumerate(SLIDES):
        coords = np.zeros((i + 2, 2), np.int64)
        features = some_features(i + 2, 6, seed=i + 50)
        write_h5(Path("features") / f"{slide}.h5", features, coords, "conch_v15", 256)
    code, _, errors = lab.pack("--encoder", "conch")
    assert code == 2
    assert "the files name the encoder conch_v15, not conch; give --encoder conch_v15" in errors
    assert lab.pack("--encoder", "conch_v15")[0] == 0
    assert "'../x' is not a name of letters" in lab.pack("--encoder", "../x")[2]
    assert files() == ["type@conch_v15.h5", "type@uni.h5"]
    code, _, errors = lab.call("data", "info", "type.toml")
    assert code == 2
    assert "type is packed with several encoders: conch_v15, uni" in errors
    code, output, _ = lab.call("data", "info", "data/type@uni.h5")
    assert code == 0
    assert "encoder:     uni" in output
    code, output, errors = lab.label(name="type")
    assert code == 0, errors
    assert output.count("12 slides of the 12 slides in") == 2


RUN = ("run", "--methods", "mean-pool", "linear-probe", "--folds", "2", "--no-tracking")


def test_a_run_has_the_same_name_with_a_view_and_with_a_store_of_its_own(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    lab.table("grade.csv", "low high", SLIDES[2:])
    Path("grade.toml").write_text('name = "grade"\nlabels = ["low", "high"]\nfolds = 2\n')
    assert lab.pack()[0] == 0
    assert lab.label("--features", "type")[0] == 0
    assert lab.pack("--only", "--data", "own", name="grade")[0] == 0
    names = []
    for data in ("data", "own"):
        words = ("--dataset", "grade.toml", "--data", data, "--dry-run")
        code, output, errors = lab.call(*RUN, *words)
        assert code == 0, errors
        names.append(output.splitlines()[0])
    assert names[0] == names[1]
    assert names[0].startswith("run grade_patient-kfold_")


def test_a_view_is_trained_like_a_store_of_its_own(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    lab.table("grade.csv", "low high", SLIDES[2:])
    Path("grade.toml").write_text('name = "grade"\nlabels = ["low", "high"]\nfolds = 2\n')
    assert lab.pack()[0] == 0
    assert lab.label("--features", "type")[0] == 0
    assert lab.pack("--only", "--data", "own", name="grade")[0] == 0
    tables = []
    for data in ("data", "own"):
        words = ("--dataset", "grade.toml", "--data", data, "--results", f"results-{data}")
        code, _, errors = lab.call(*RUN, *words, "--epochs", "1", "--on", "inline")
        assert code == 0, errors
        (table,) = Path(f"results-{data}").glob("reports/*/fine.csv")
        tables.append(table.read_text())
    assert tables[0] == tables[1]


def test_labels_that_are_replaced_while_a_run_trains_are_not_trained_on(lab: Lab) -> None:
    lab.table("type.csv", "a b", SLIDES)
    assert lab.pack()[0] == 0
    assert lab.label(name="type")[0] == 0
    request = RunRequest("type.toml", ("mean-pool",), folds=2, epochs=1)
    prepared = prepare(request, Path("data"))
    task = TaskMaker(prepared.plan.splits, prepared.bags, "cpu").task(prepared.plan.jobs[0], [0])
    assert len(train(task)) == 1
    lab.table("type.csv", "b a", SLIDES)
    assert lab.label(name="type")[0] == 0
    with pytest.raises(TrainingError, match=r"type\.labels\.json was replaced while the run"):
        train(task)
