"""Other tools' splits: read as they meant them, or refused with a reason."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from mil_bench.benchmarks.bracs import BRACS
from split_folders import (
    CLASSES,
    CONFIG,
    FOLDS,
    GROUP_OF,
    LABEL_OF,
    SPEC,
    WRITERS,
    table,
    write_clam,
    write_clam_bool,
    write_hmil,
    write_mil_baseline,
    write_patho_bench,
)

from mil_bench.datasets.slides import known_slides
from mil_bench.errors import InputError, SplitError
from mil_bench.split_files.exporting import FORMS, export_plan
from mil_bench.split_files.formats import read_split_lists
from mil_bench.split_files.formats.own import SplitFile, follow_file, read_split_file
from mil_bench.split_files.importing import import_lists
from mil_bench.splits.plan import Fold
from mil_bench.splits.protocols import IMPORTED, bind_folds, make_splits

if TYPE_CHECKING:
    from collections.abc import Callable


def own_file(path: Path, folds: tuple[Fold, ...] = FOLDS) -> Path:
    SplitFile("study", IMPORTED, "somewhere", folds).write(path)
    return path


def edited(path: Path, change: Callable[[dict], object]) -> Path:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("tool", WRITERS)
def test_every_tools_files_give_the_folds_that_were_written(tool: str, tmp_path: Path) -> None:
    lists = read_split_lists(WRITERS[tool](tmp_path / "published"))
    assert lists.folds == FOLDS
    assert lists.problems() == []
    assert lists.source.endswith("in published, 4-fold cross-validation")


@pytest.mark.parametrize("tool", ["hmil", "patho-bench", "mil-baseline", "transmil"])
def test_labels_in_the_files_are_kept_for_the_audit(tool: str, tmp_path: Path) -> None:
    labels = read_split_lists(WRITERS[tool](tmp_path)).labels
    named = {
        slide: CLASSES[int(text)] if text.isdigit() else text for slide, (text,) in labels.items()
    }
    assert named == LABEL_OF


def test_clams_second_spelling_has_no_index_column(tmp_path: Path) -> None:
    assert read_split_lists(write_clam(tmp_path, index=False)).folds == FOLDS


def test_clams_truth_tables_beside_its_lists_do_not_count_twice(tmp_path: Path) -> None:
    write_clam_bool(write_clam(tmp_path))
    (tmp_path / "splits_0_descriptor.csv").write_text(",train,val,test\ncalm,6,3,3\nwild,6,3,3\n")
    assert read_split_lists(tmp_path).folds == FOLDS


def test_clams_ids_of_digits_keep_their_leading_zeros(tmp_path: Path) -> None:
    (tmp_path / "splits_0.csv").write_text(",train,val,test\n0,0012,0034,0056\n1,0078,,\n")
    assert read_split_lists(tmp_path).folds == (Fold(("0012", "0078"), ("0034",), ("0056",)),)


def test_the_last_part_of_a_path_names_a_slide_of_mil_baseline(tmp_path: Path) -> None:
    head = "train_slide_path,train_label,val_slide_path,val_label,test_slide_path,test_label\n"
    row = "/a/b/x.1.h5,0,C:\\feats\\y.pt,1,z,0\n"
    (tmp_path / "Total_1-fold_study_1fold.csv").write_text(head + row)
    assert read_split_lists(tmp_path).folds == (Fold(("x.1",), ("y",), ("z",)),)


def test_folds_stand_in_numeric_order(tmp_path: Path) -> None:
    turning = tuple(FOLDS[k % 4] for k in range(11))
    lists = read_split_lists(write_mil_baseline(tmp_path, turning))
    assert lists.numbers == tuple(range(1, 12))
    assert lists.folds == turning


def test_a_single_file_is_one_fold(tmp_path: Path) -> None:
    lists = read_split_lists(write_clam(tmp_path) / "splits_2.csv")
    assert (lists.numbers, lists.folds) == ((2,), (FOLDS[2],))


def test_several_files_need_fold_numbers_and_one_needs_none(tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text("train,val,test\na,b,c\n")
    assert read_split_lists(tmp_path).numbers == (0,)
    write_clam(tmp_path, FOLDS[:2])
    (tmp_path / "more_1.csv").write_text("train,val,test\na,b,c\n")
    with pytest.raises(InputError, match="2 problems") as caught:
        read_split_lists(tmp_path)
    assert "ours.csv: no fold number in the name" in str(caught.value)
    assert "splits_1.csv: more_1.csv is fold 1 already" in str(caught.value)


def test_the_format_is_told_from_the_content_not_the_name(tmp_path: Path) -> None:
    path = write_patho_bench(tmp_path) / "k=all.tsv"
    path = path.rename(tmp_path / "mine.csv")
    assert read_split_lists(path).folds == FOLDS


def test_cases_of_patho_bench_are_groups(tmp_path: Path) -> None:
    assert read_split_lists(write_patho_bench(tmp_path)).groups == GROUP_OF


def test_an_import_becomes_a_file_that_a_run_can_follow(tmp_path: Path) -> None:
    made = import_lists(read_split_lists(write_hmil(tmp_path / "published")), SPEC, table())
    made.write(tmp_path / "mine.json")
    plan = follow_file(tmp_path / "mine.json", SPEC, table())
    assert plan.folds == FOLDS
    assert plan.protocol == "imported"
    assert plan.source == "HMIL's pickles in published, 4-fold cross-validation"
    assert plan.digest == made.digest == read_split_file(tmp_path / "mine.json").digest
    assert plan.leak_sentence == "no patient is shared between training, validation and test"
    assert plan.facts == ()


def test_slides_in_no_fold_are_a_fact_of_the_plan(tmp_path: Path) -> None:
    fewer = tuple(Fold(f.train[1:], f.val, f.test) for f in FOLDS[:1])
    assert follow_file(own_file(tmp_path / "a.json", fewer), SPEC, table()).facts == (
        "1 of 24 slides are in no fold",
    )


def test_a_missing_validation_part_is_cut_by_group_and_the_source_says_so(tmp_path: Path) -> None:
    official = tuple(Fold((*f.train, *f.val), (), f.test) for f in FOLDS)
    lists = read_split_lists(write_patho_bench(tmp_path / "grade", official))
    first, second = (import_lists(lists, SPEC, table()) for _ in range(2))
    assert first == second
    assert (
        "(without a validation part; mil-bench holds out a ninth of the training patients, "
        in first.source
    )
    for fold, given in zip(first.folds, official, strict=True):
        assert fold.test == given.test
        assert sorted((*fold.train, *fold.val)) == sorted(given.train)
        assert {GROUP_OF[s] for s in fold.train}.isdisjoint(GROUP_OF[s] for s in fold.val)
        assert {LABEL_OF[s] for s in fold.train} == set(CLASSES)
    assert (
        import_lists(lists, SPEC, None).folds == first.folds
    )  # the file's own cases are the same groups


def test_a_validation_part_cut_without_groups_is_called_one_of_slides(tmp_path: Path) -> None:
    lists = read_split_lists(
        write_clam(tmp_path, tuple(Fold((*f.train, *f.val), (), f.test) for f in FOLDS))
    )
    made = import_lists(lists, SPEC, None)
    assert "a ninth of the training slides" in made.source
    assert all(fold.val for fold in made.folds)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_exported_and_imported_again_is_the_same_split(form: str, tmp_path: Path) -> None:
    plan = bind_folds(IMPORTED, FOLDS, table().frame, SPEC.hierarchy, "patient")
    export_plan(plan, form, SPEC, table().frame, tmp_path / "out")
    again = import_lists(read_split_lists(tmp_path / "out"), SPEC, table())
    assert again.folds == plan.folds
    assert again.digest == plan.digest
    made = make_splits("patient-kfold", table().frame.iloc[::-1], SPEC.hierarchy, 3, "patient")
    export_plan(made, form, SPEC, table().frame, tmp_path / "made")
    assert import_lists(read_split_lists(tmp_path / "made"), SPEC, table()).digest == made.digest


def test_clams_export_has_its_three_tables_a_fold(tmp_path: Path) -> None:
    plan = bind_folds(IMPORTED, FOLDS[:1], table().frame, SPEC.hierarchy, "patient")
    names = export_plan(plan, "clam", SPEC, table().frame, tmp_path)
    assert names == ["splits_0.csv", "splits_0_bool.csv", "splits_0_descriptor.csv"]
    assert (tmp_path / names[0]).read_text().splitlines()[:2] == [
        ",train,val,test",
        "0,s04,s02,s00",
    ]
    assert (tmp_path / names[0]).read_text().splitlines()[-1] == "11,s23,,"
    assert (tmp_path / names[1]).read_text().splitlines()[:2] == [
        ",train,val,test",
        "s04,True,False,False",
    ]
    assert (tmp_path / names[2]).read_text() == ",train,val,test\ncalm,6,3,3\nwild,6,3,3\n"
    (tmp_path / names[0]).unlink()
    export_plan(plan, "patho-bench", SPEC, table().frame, tmp_path / "other")
    assert (
        (tmp_path / "other" / "k=all.tsv")
        .read_text()
        .startswith("case_id\tslide_id\tstudy\tfold_0\np0\ts00\t0\ttest\n")
    )


def test_an_export_overwrites_nothing(tmp_path: Path) -> None:
    plan = bind_folds(IMPORTED, FOLDS, table().frame, SPEC.hierarchy, "patient")
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"config\.yaml exists already"):
        export_plan(plan, "patho-bench", SPEC, table().frame, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "mine"


def test_a_split_file_is_never_overwritten_but_may_be_made_again(tmp_path: Path) -> None:
    path = own_file(tmp_path / "a.json")
    text = path.read_text()
    own_file(path)
    with pytest.raises(InputError, match="exists already, with another content"):
        own_file(path, FOLDS[:2])
    assert path.read_text() == text


def test_a_folder_with_an_odd_name_gives_a_file_that_can_be_read(tmp_path: Path) -> None:
    made = import_lists(read_split_lists(write_hmil(tmp_path / "two\nlines")), SPEC, table())
    made.write(tmp_path / "a.json")
    assert read_split_file(tmp_path / "a.json").source.startswith("HMIL's pickles in two?lines")


def test_an_edited_split_file_is_refused_but_can_be_imported_as_a_split_of_its_own(
    tmp_path: Path,
) -> None:
    path = own_file(tmp_path / "a.json")
    before = read_split_file(path).digest
    edited(path, lambda value: value["folds"][0]["train"].pop())
    with pytest.raises(InputError) as caught:
        read_split_file(path)
    assert f"its digest says {before}" in str(caught.value)
    assert "it was edited after it was made" in str(caught.value)
    assert f"mil-bench splits import {path} --dataset study.toml NEW.json" in str(caught.value)
    made = import_lists(read_split_lists(path), SPEC, table())
    assert made.digest != before
    assert f"edited after {before} was made" in made.source


def test_the_order_of_keys_in_a_split_file_does_not_matter(tmp_path: Path) -> None:
    path = own_file(tmp_path / "a.json")
    file = read_split_file(path)
    value = json.loads(path.read_text())
    value["folds"] = [dict(reversed(fold.items())) for fold in value["folds"]]
    path.write_text(json.dumps(dict(reversed(value.items()))))
    again = read_split_file(path)
    assert again == file
    assert again.digest == file.digest


def test_a_promise_that_the_groups_break_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    SplitFile("study", "patient-kfold", "", FOLDS).write(path)
    with pytest.raises(
        SplitError, match="24 test and 24 validation slides share a patient with slides of another"
    ):
        follow_file(path, SPEC, table(group="one"))


class _Sentinel:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def _pickled(value: object, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol=protocol)


_HUGE_MEMO = (
    b"\x80\x04]r\xff\xff\xff\x7f."  # LONG_BINPUT 2**31 - 1: room for so many objects, 17 GB
)
_TSV = "case_id\tslide_id\tgrade\tfold_0\np0\ts00\t0\ttrain\np1\ts02\t0\ttest\n"
_PAIRS = "train_slide_path,train_label,val_slide_path,val_label,test_slide_path,test_label\n"

BROKEN_FILES = {
    "a pickle that would run code": (
        "train_splits_0.pkl",
        lambda root: _pickled(_Sentinel(root / "ran")),
        "nothing was run",
    ),
    "a pickle with a class": (
        "train_splits_0.pkl",
        lambda root: _pickled([[Path("a"), "calm", ""]]),
        "STACK_GLOBAL",
    ),
    "a pickle with an old class": (
        "val_splits_0.pkl",
        lambda root: _pickled(pd.NA, 2),
        "more than lists of texts",
    ),
    "a pickle with a huge memo": (
        "train_splits_0.pkl",
        lambda root: _HUGE_MEMO,
        "numbers an object 2147483647",
    ),
    "a pickle cut short": (
        "test_splits_0.pkl",
        lambda root: _pickled([["s00", "calm", ""]])[:-6],
        "it is broken",
    ),
    "a pickle of a dict": (
        "test_splits_0.pkl",
        lambda root: _pickled({"s00": "calm"}),
        "EMPTY_DICT",
    ),
    "a pickle of pairs": (
        "test_splits_0.pkl",
        lambda root: _pickled([["s00", "calm"]]),
        "entry 0 is not [slide id, label",
    ),
    "a pickle of an empty list": ("test_splits_0.pkl", lambda root: _pickled([]), "an empty list"),
    "a pickle that holds itself": (
        "test_splits_0.pkl",
        lambda root: b"\x80\x04]\x94h\x00a.",
        "entry 0 is not",
    ),
    "a pickle of another name": (
        "splits.pkl",
        lambda root: _pickled([["s00", "calm", ""]]),
        "the name is not",
    ),
    "an empty file": ("splits_0.csv", lambda root: b"", "there is no split file in this folder"),
    "a table of something else": (
        "splits_0.csv",
        lambda root: b"a,b\n1,2\n",
        "there is no split file in this folder",
    ),
    "a header alone": (
        "splits_0.csv",
        lambda root: b",train,val,test\n",
        "no rows under its header",
    ),
    "a table that is not UTF-8": (
        "splits_0.csv",
        lambda root: b",train,val,test\n0,\xff,b,c\n",
        "is not UTF-8",
    ),
    "a table with a NUL byte": (
        "splits_0.csv",
        lambda root: b",train,val,test\n0,a\0,b,c\n",
        "NUL byte",
    ),
    "rows longer than the header": (
        "splits_0.csv",
        lambda root: b"train,val,test\na,b,c,d\n",
        "line 2 has 4 fields",
    ),
    "a tsv without folds": (
        "k=all.tsv",
        lambda root: b"case_id\tslide_id\tgrade\np0\ts00\t0\n",
        "no column fold_0",
    ),
    "a role that is none": (
        "k=all.tsv",
        lambda root: _TSV.replace("test", "tset").encode(),
        "line 3: 'tset' in fold_0 is not a role",
    ),
    "a slide twice in a tsv": (
        "k=all.tsv",
        lambda root: _TSV.replace("s02", "s00").encode(),
        "line 3: slide s00 is in a row above",
    ),
    "a tsv without its label": (
        "k=all.tsv",
        lambda root: _TSV.replace("grade", "stage").encode(),
        "no column 'grade', which config.yaml",
    ),
    "an empty case": (
        "k=all.tsv",
        lambda root: _TSV.replace("p1", "").encode(),
        "line 3: case_id or slide_id is empty",
    ),
    "a path without a label": (
        "a_1fold.csv",
        lambda root: f"{_PAIRS}/a/x.pt,,/a/y.pt,1,/a/z.pt,0\n".encode(),
        "'/a/x.pt' has no label",
    ),
    "a label without a path": (
        "a_1fold.csv",
        lambda root: f"{_PAIRS},0,/a/y.pt,1,/a/z.pt,0\n".encode(),
        "the label '0' has no slide",
    ),
    "pairs without a column": (
        "a_1fold.csv",
        lambda root: b"train_slide_path,train_label\n/a/x.pt,0\n",
        "no column val_slide_path",
    ),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_file_gets_one_message_with_place_and_remedy(case: str, tmp_path: Path) -> None:
    name, content, message = BROKEN_FILES[case]
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / name).write_bytes(content(tmp_path))
    if name.endswith(".tsv"):
        (folder / "config.yaml").write_text(CONFIG)
    with pytest.raises(InputError) as caught:
        read_split_lists(folder)
    assert message in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not str(caught.value).splitlines()[-1].startswith("  - ")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config.yaml: cannot be read: No such file"),
        ("task_col: !!python/object/apply:os.system ['touch ran']\n", "is not plain YAML"),
        ("[" * 5000, "is not plain YAML"),
        ("- a\n- b\n", "has no settings"),
        (
            CONFIG.replace("task_col: grade", "task_col: 3"),
            "config.yaml: task_col: 3 is not a text in quotation marks",
        ),
        (
            CONFIG.replace("slide_id", "patient"),
            "config.yaml: sample_col: 'patient' is not 'case_id' or 'slide_id'",
        ),
        (CONFIG.replace("task_col: grade", "task_col: stage"), "no column 'stage'"),
        (
            CONFIG.replace("0: calm", "0: [calm]"),
            "config.yaml: label_dict: ['calm'] is neither a text nor a number; put yes, no and",
        ),
        (
            CONFIG.replace("1: wild", "1: yes"),
            "label_dict: True is neither a text nor a number; put yes, no and dates in quotes",
        ),
        (
            CONFIG.replace("1: wild", "true: wild"),
            "label_dict: True is neither a text nor a number",
        ),
        (
            "label_dict: [a]\ntask_col: grade\nsample_col: slide_id\n",
            "label_dict: ['a'] is not a table of keys and values",
        ),
    ],
)
def test_a_faulty_config_of_patho_bench_is_named(
    config: str | None, message: str, tmp_path: Path
) -> None:
    write_patho_bench(tmp_path)
    if config is None:
        (tmp_path / "config.yaml").unlink()
    else:
        (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(InputError, match="1 problem") as caught:
        read_split_lists(tmp_path)
    assert message in str(caught.value)


def test_a_case_in_two_roles_contradicts_a_split_of_cases(tmp_path: Path) -> None:
    torn = (Fold(FOLDS[0].train[1:], (*FOLDS[0].val, FOLDS[0].train[0]), FOLDS[0].test),)
    write_patho_bench(tmp_path, torn)  # fine for a split of slides
    assert read_split_lists(tmp_path).folds[0].train == FOLDS[0].train[1:]
    (tmp_path / "config.yaml").write_text(CONFIG.replace("slide_id", "case_id"))
    with pytest.raises(InputError, match=r"case_id p2 has several values in fold_0"):
        read_split_lists(tmp_path)


def test_files_of_several_tools_in_one_folder_are_not_guessed_about(tmp_path: Path) -> None:
    write_hmil(write_clam(tmp_path))
    with pytest.raises(InputError, match="Name one file, or a folder with the files of one split"):
        read_split_lists(tmp_path)


def test_a_folder_above_the_split_names_the_folders_in_it(tmp_path: Path) -> None:
    write_hmil(tmp_path / "BRACS")
    write_hmil(tmp_path / "PANDA")
    with pytest.raises(InputError, match="it has the folders BRACS, PANDA: name one of them"):
        read_split_lists(tmp_path)


def test_paths_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    for path in (tmp_path / "absent", loop, tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_split_lists(path)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ((Fold(FOLDS[0].train, FOLDS[0].val, ()),), "fold 0 lists no test slides"),
        (
            (Fold(FOLDS[0].train, FOLDS[0].val, FOLDS[0].val),),
            "fold 0 lists 6 of its slides in more than one role: s02, s03",
        ),
        (
            (Fold((*FOLDS[0].train, "s04"), FOLDS[0].val, FOLDS[0].test),),
            "fold 0 lists 1 of its train slides more than once: s04",
        ),
        ((FOLDS[0], Fold(FOLDS[1].train, (), FOLDS[1].test)), "fold 1 lists no val slides"),
        (
            (Fold((*FOLDS[0].train, "x1", "x2"), FOLDS[0].val, FOLDS[0].test),),
            "2 of 26 slides are not in the label table",
        ),
    ],
)
def test_lists_that_contradict_themselves_are_not_imported(
    folds: tuple[Fold, ...], message: str, tmp_path: Path
) -> None:
    lists = read_split_lists(write_clam(tmp_path, folds))
    with pytest.raises(InputError) as caught:
        import_lists(lists, SPEC, table())
    assert message in str(caught.value)


def test_a_missing_file_of_a_role_or_a_fold_is_noticed(tmp_path: Path) -> None:
    write_hmil(tmp_path)
    (tmp_path / "train_splits_1.pkl").unlink()
    for role in ("train", "val", "test"):
        (tmp_path / f"{role}_splits_2.pkl").unlink()
    with pytest.raises(InputError, match="2 problems") as caught:
        import_lists(read_split_lists(tmp_path), SPEC, table())
    assert "fold 2 is missing; the files have 0, 1, 3" in str(caught.value)
    assert "fold 1 lists no train slides" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format="other"), "does not say that its format is 'mil-bench split'"),
        (lambda v: v.update(version=3), "it has version 3, this mil-bench reads versions 1 and 2"),
        (lambda v: v.update(repeats=0), "repeats: 0 is less than 1"),
        (
            lambda v: v.update(protocol="../../../escape"),
            "protocol: there is none called '../../../escape'; known: patient-kfold, official,",
        ),
        (lambda v: v.update(source="a\nb"), "source: 'a\\nb' is not one printable line"),
        (lambda v: v.pop("digest"), "digest: it is missing"),
        (lambda v: v.update(folds=[]), "folds: a split file has at least one fold"),
        (
            lambda v: v["folds"][0].pop("val"),
            "folds[0].val: it is missing",
        ),
        (
            lambda v: v["folds"][1].update(tset=[]),
            "unknown key 'folds[1].tset'; did you mean test?",
        ),
        (
            lambda v: v["folds"][0].update(train="s00"),
            "folds[0].train: 's00' is not a list",
        ),
        (
            lambda v: v["folds"][0].update(train=[1, 2]),
            'folds[0].train: 1 is not text; write it in quotation marks: "1"',
        ),
        (
            lambda v: v["folds"][0].update(train=v["folds"][0]["test"]),
            "fold 0 lists 6 of its slides in more than one role",
        ),
        (lambda v: v["folds"][0]["train"].append("s00"), "its digest says"),
    ],
)
def test_a_split_file_that_was_meddled_with_is_refused(
    change: Callable[[dict], object], message: str, tmp_path: Path
) -> None:
    path = edited(own_file(tmp_path / "a.json"), change)
    with pytest.raises(InputError) as caught:
        follow_file(path, SPEC, table())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\x80\x04.", b"train,val,test\na,b,c\n", b"\xff\xfe{}"]
)
def test_what_is_no_split_file_is_to_be_imported_first(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(
        InputError, match="Import the splits of other tools first: mil-bench splits import"
    ):
        read_split_file(path)


def test_a_split_of_another_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a split of study, not of bracs") as caught:
        follow_file(own_file(tmp_path / "a.json"), BRACS, table())
    assert (
        "Name its dataset (--dataset study.toml), or make a split for this one: "
        "mil-bench splits make --dataset bracs" in str(caught.value)
    )
    theirs = tmp_path / "b.json"
    SplitFile("bracs-sim-twin", IMPORTED, "", FOLDS).write(theirs)
    with pytest.raises(
        InputError, match=r"\(--dataset bracs-sim\), .* splits make --dataset study\.toml"
    ):
        follow_file(theirs, SPEC, table())


def test_a_split_file_of_an_older_version_is_followed_with_its_own_validation_parts(
    tmp_path: Path,
) -> None:
    # Written before validation parts of all folds were cut together; patient-kfold gives others.
    old = """{
  "format": "mil-bench split",
  "version": 1,
  "dataset": "study",
  "protocol": "patient-kfold",
  "source": "made from the label table labels.csv",
  "digest": "a8fd317ac3f499e4",
  "folds": [
    {
      "train": ["s02", "s03", "s04", "s05", "s06", "s07"],
      "val": ["s08", "s09"],
      "test": ["s00", "s01", "s10", "s11", "s12", "s13", "s14", "s15"]
    },
    {
      "train": ["s00", "s01", "s10", "s11", "s12", "s13"],
      "val": ["s14", "s15"],
      "test": ["s02", "s03", "s04", "s05", "s06", "s07", "s08", "s09"]
    }
  ]
}
"""
    (tmp_path / "old.json").write_text(old)
    plan = follow_file(tmp_path / "old.json", SPEC, table())
    assert plan.digest == "a8fd317ac3f499e4"
    assert [fold.val for fold in plan.folds] == [("s08", "s09"), ("s14", "s15")]
    assert plan.leak_sentence == "no patient is shared between training, validation and test"


def test_slides_that_are_not_packed_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    known = table()
    few = type(known)(known.frame.iloc[8:], "patient", "packed store study.h5")
    with pytest.raises(InputError) as caught:
        follow_file(own_file(tmp_path / "a.json"), SPEC, few)
    message = (
        "8 of its 24 slides are not in the packed store study.h5: s00, s01, s02, s03, s04 and 3"
    )
    assert message in str(caught.value)


def test_hmils_published_bracs_splits_are_imported_as_they_are(
    shared: Path, tmp_path: Path
) -> None:
    official = shared / "data" / "official"
    lists = read_split_lists(official / "hmil_splits" / "BRACS")
    known = known_slides(BRACS, official / "BRACS.xlsx", tmp_path)
    assert known is not None
    made = import_lists(lists, BRACS, known)
    assert made.source == "HMIL's pickles in BRACS, 10 Monte-Carlo hold-outs"
    assert [(len(f.train), len(f.val), len(f.test)) for f in made.folds] == [(437, 54, 54)] * 10
    with (official / "hmil_splits" / "BRACS" / "test_splits_3.pkl").open("rb") as file:
        assert sorted(row[0] for row in pickle.load(file)) == list(made.folds[3].test)
    made.write(tmp_path / "bracs.json")
    plan = follow_file(tmp_path / "bracs.json", BRACS, known)
    assert plan.leak_sentence.startswith(
        "LEAKS: 449 of 540 test slides (83.1%) share a patient with training or val"
    )
    assert plan.facts == ("2 of 547 slides are in no fold",)


def test_hmils_ccc_splits_lack_their_training_lists(shared: Path) -> None:
    lists = read_split_lists(shared / "data" / "official" / "hmil_splits" / "CCC")
    assert all(slide.endswith("_feat") for slide in lists.slides)
    with pytest.raises(InputError, match="fold 0 lists no train slides"):
        import_lists(lists, SPEC, None)
