"""The audit counts as a reader would by hand, and finds the known leaks of HMIL's splits."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from mil_bench.benchmarks.bracs import BRACS
from mil_bench.benchmarks.ccc import CCC
from mil_bench.benchmarks.panda import PANDA
from split_folders import CLASSES, FOLDS, GROUP_OF, LABEL_OF, SLIDES, table

from mil_bench.datasets.slides import known_slides
from mil_bench.report.audit_sentences import sentences
from mil_bench.report.audit_tables import audit_tables
from mil_bench.report.tables import text_of
from mil_bench.split_files.audit import SplitAudit, audit
from mil_bench.split_files.formats import read_split_lists
from mil_bench.split_files.overlaps import NearDuplicates
from mil_bench.splits.lists import SplitLists
from mil_bench.splits.plan import Fold, kind_of_test

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.split_files.overlaps import Overlap

CLEAN = SplitLists(
    "some files", FOLDS, (0, 1, 2, 3), {s: frozenset([label]) for s, label in LABEL_OF.items()}
)


def overlap(result: SplitAudit, role: str, *others: str) -> Overlap:
    return next(pair for pair in result.overlaps if (pair.role, pair.others) == (role, others))


def words(result: SplitAudit) -> str:
    return "\n".join(sentences(result))


def one_fold(train: str, val: str, test: str) -> SplitLists:
    return replace(
        CLEAN, folds=(Fold(*(tuple(part.split()) for part in (train, val, test))),), numbers=(0,)
    )


def test_an_honest_cross_validation_is_called_one() -> None:
    result = audit(CLEAN, table(), CLASSES, None)
    assert result.leaks == []
    assert result.kind == "4-fold cross-validation"
    assert result.tested == {1: 24}
    assert "4-fold cross-validation: each of the 24 slides is tested exactly once." in words(result)
    assert "No test slide shares a patient with training slides." in words(result)
    assert (
        "The files have labels of 24 slides; none contradicts the metadata (0 conflicts)."
        in words(result)
    )
    assert "The class-wise AUC of every class is defined in every test part." in words(result)
    assert "LEAKS" not in words(result)
    assert "underestimates" not in words(result)


def test_leaks_are_counted_as_by_hand_with_and_without_the_same_label() -> None:
    # s00 and s01 are patient p0, calm and wild; s02 and s03 are p1; s04 and s05 are p2.
    result = audit(
        one_fold("s00 s02 s06", "s04", "s01 s03 s05 s08"),
        table(group=groups(s02="p0")),
        CLASSES,
        None,
    )
    train = overlap(result, "test", "train")
    assert (train.of, train.slides, train.groups, train.same_label) == ((4,), (0,), (1,), (0,))
    assert overlap(result, "test", "val").groups == (1,)
    assert overlap(result, "test", "train", "val").groups == (2,)
    assert result.leaks == ["patient"]
    same = audit(one_fold("s00 s02 s06", "s04", "s01 s03"), table(group="one"), CLASSES, None)
    assert overlap(same, "test", "train").groups == (2,)
    assert overlap(same, "test", "train").same_label == (0,)
    both = audit(one_fold("s00 s01", "s04", "s02 s03"), table(group="one"), CLASSES, None)
    assert overlap(both, "test", "train").same_label == (2,)


def groups(**changed: str) -> list[str]:
    return [changed.get(slide, GROUP_OF[slide]) for slide in SLIDES]


def test_slides_in_two_roles_are_leaks_that_no_group_name_allows() -> None:
    result = audit(one_fold("s00 s01", "s02", "s01 s04"), None, CLASSES, None)
    assert result.leaks == ["slide"]
    assert "LEAKS: 1 of 2 test slides (50.0 %) are also training slides." in words(result)
    assert "FAULT: fold 0 lists 1 of its slides in more than one role: s01." in words(result)


def test_an_overlap_of_validation_and_training_is_reported_but_is_not_a_leak() -> None:
    result = audit(one_fold("s00 s06 s07", "s01", "s04 s05"), table(), CLASSES, None)
    assert overlap(result, "val", "train").groups == (1,)
    assert result.leaks == []
    assert "1 of 1 validation slides (100.0 %) share a patient with training slides" in words(
        result
    )


def test_unknown_groups_are_never_called_free_of_leaks() -> None:
    for known in (None, replace(table(), group_name="")):
        result = audit(CLEAN, known, CLASSES, None)
        assert overlap(result, "test", "train").groups is None
        assert "patients are unknown, so their leaks cannot be counted" in words(result)
        assert "shares a" not in words(result)


def test_cases_in_the_files_are_groups_where_the_metadata_have_none() -> None:
    result = audit(replace(CLEAN, groups=dict.fromkeys(SLIDES, "one")), None, (), None)
    assert result.leaks == ["patient"]
    assert overlap(result, "test", "train").groups == (6, 6, 6, 6)
    assert result.classes == ("calm", "wild")


@pytest.mark.parametrize(
    ("tests", "kind"),
    [
        (["a", "b"], "2-fold cross-validation"),
        (["a", "a b"], "2 Monte-Carlo hold-outs"),
        (["a"], "one hold-out"),
        (["", ""], "no test part"),
    ],
)
def test_the_kind_of_a_split_is_told_from_who_is_tested(tests: list[str], kind: str) -> None:
    folds = [Fold(tuple({"a", "b"} - set(t.split())), (), tuple(t.split())) for t in tests]
    assert kind_of_test(folds) == kind


def test_disjoint_hold_outs_that_leave_slides_out_are_no_cross_validation() -> None:
    folds = [Fold(("b", "c"), (), ("a",)), Fold(("a", "c"), (), ("b",))]
    assert kind_of_test(folds) == "2 disjoint hold-outs"


def test_repeated_hold_outs_are_called_monte_carlo_with_the_factor_of_nadeau_and_bengio() -> None:
    turned = replace(CLEAN, folds=(FOLDS[0], FOLDS[0]), numbers=(0, 1))
    result = audit(turned, table(), CLASSES, None)
    assert result.tested == {0: 18, 2: 6}
    text = (
        "2 Monte-Carlo hold-outs, not a cross-validation: 6 of 24 slides are tested, 6 of them "
        "more than once (up to 2 times), and 18 are never tested."
    )
    assert text in words(result)
    # sqrt((1/2 + 6/12) / (1/2)) = 1.414
    assert "by a factor of about 1.4 (Nadeau-Bengio: 1/2 + 6/12 instead of 1/2)" in words(result)


def test_folds_that_cannot_support_a_class_wise_auc_are_named() -> None:
    result = audit(one_fold("s00 s02", "s05", "s07 s09"), table(), CLASSES, None)
    assert result.class_counts == ({"train": (2, 0), "val": (0, 1), "test": (0, 2)},)
    assert result.without_auc == (("calm", "wild"),)
    assert "no slide of the class or no slide of another class: fold 0 (calm, wild)." in words(
        result
    )
    assert "FAULT: fold 0 has no training slide of wild." in words(result)


def test_labels_that_contradict_the_metadata_or_each_other_are_named() -> None:
    labels = {
        **CLEAN.labels,
        "s00": frozenset(["wild"]),
        "s01": frozenset(["calm", "wild"]),
        "s02": frozenset(["x"]),
    }
    result = audit(replace(CLEAN, labels=labels), table(), CLASSES, None)
    assert [(c.slide, c.in_files, c.in_metadata) for c in result.conflicts] == [
        ("s00", ("wild",), "calm"),
        ("s01", ("calm", "wild"), "wild"),
        ("s02", ("x",), "calm"),
    ]
    assert sentences(result)[1].startswith(
        "CONFLICTS: in the files, 3 of 24 labelled slides (12.5 %)"
    )
    assert "s01 (calm and wild; metadata: wild)" in words(result)


def test_numbers_in_the_files_are_read_in_the_order_of_the_classes() -> None:
    numbers = {slide: frozenset([str(CLASSES.index(label))]) for slide, label in LABEL_OF.items()}
    result = audit(replace(CLEAN, labels=numbers), table(), CLASSES, None)
    assert result.labels_are_numbers
    assert result.conflicts == ()
    assert "These labels are numbers, read as positions in the order of the classes." in words(
        result
    )
    swapped = audit(replace(CLEAN, labels=numbers), table(), CLASSES[::-1], None)
    assert swapped.conflicts == ()  # the metadata turn with the classes


def test_slides_the_metadata_do_not_know_and_slides_in_no_fold_are_named() -> None:
    lists = replace(
        CLEAN, folds=(Fold(("zz", *FOLDS[0].train), FOLDS[0].val, FOLDS[0].test[1:]),), numbers=(0,)
    )
    result = audit(lists, table(), CLASSES, None)
    assert (result.unknown, result.unlisted) == (("zz",), ("s00",))
    assert (
        "No known test slide shares a patient with known training slides (slides without a known "
        "patient: 1)." in words(result)
    )
    fault = "FAULT: 1 of 24 slides are not in the label table study.csv: "
    assert f"{fault}zz; --allow-missing leaves out slides that are not there." in words(result)
    near = audit(one_fold("S00", "s01", "s02"), table(), CLASSES, None)
    hint = "S00; for 'S00' the label table study.csv has 's00', in other upper and lower case"
    assert f"FAULT: 1 of 3 slides are not in the label table study.csv: {hint}" in words(near)
    assert "1 slide of the label table study.csv is in no fold: s00." in words(result)


def test_the_balance_of_centres_is_that_of_single_folds() -> None:
    # Over all folds of a cross-validation every balance is perfect; within a fold it is not.
    centres = ["north" if (i // 2) % 4 == 0 else "south" for i in range(len(SLIDES))]
    result = audit(CLEAN, table(centre=centres), CLASSES, None)
    assert result.centres[0]["test"] == {"north": 1.0, "south": 0.0}
    assert result.centres[1]["train"] == {"north": 0.5, "south": 0.5}
    assert "the largest difference between training and test is 100.0 percentage points" in words(
        result
    )
    (shares,) = (table for table in audit_tables(result) if table.name == "centres")
    assert {name: text_of(row["test"]) for name, row in shares.cells.items()} == {
        "north": "0.0 to 100.0",
        "south": "0.0 to 100.0",
    }


def test_near_duplicate_bags_are_counted_on_both_sides() -> None:
    pairs = pd.DataFrame(
        {"slide_a": ["s00", "s01"], "slide_b": ["s04", "s01"], "share": [1.0, 1.0]}
    )
    searched = NearDuplicates.of(pairs, SLIDES)
    result = audit(one_fold("s04 s05", "s02", "s00 s01"), table(), CLASSES, searched)
    assert overlap(result, "test", "train").near_duplicates == (1,)
    assert overlap(result, "test", "val").near_duplicates == (0,)
    assert "1 of 2 test slides (50.0 %) have a near-duplicate bag among training slides." in words(
        result
    )
    assert "not searched for" in words(audit(CLEAN, table(), CLASSES, None))


def test_lists_without_some_roles_are_audited_as_far_as_they_go() -> None:
    lists = one_fold("", "s00 s02", "s01 s03")
    result = audit(lists, table(), CLASSES, None)
    assert [(pair.role, pair.others) for pair in result.overlaps] == [("test", ("val",))]
    assert result.leaks == ["patient"]
    assert "FAULT: fold 0 lists no train slides." in words(result)


def test_nothing_is_claimed_of_a_fold_whose_training_slides_are_not_listed() -> None:
    folds = (FOLDS[0], replace(FOLDS[1], train=()), *FOLDS[2:])
    result = audit(replace(CLEAN, folds=folds), table(), CLASSES, None)
    assert overlap(result, "test", "train").of == (6, 0, 6, 6)
    assert result.faults == ("fold 1 lists no train slides",)
    text = words(result)
    assert (
        "Fold 1 lists no training slides, so its test slides cannot be compared with training "
        "slides." in text
    )
    assert "No test slide of the other folds shares a patient with training slides." in text
    assert "No test slide shares a patient with validation slides." in text
    never = (Fold((), (), ("s00",)), Fold(("s02",), (), ()))
    result = audit(replace(CLEAN, folds=never, numbers=(0, 1)), table(), CLASSES, None)
    assert result.overlaps == ()


def test_leaking_slides_and_their_groups_are_listed_by_fold() -> None:
    folds = (FOLDS[0], Fold(("s00", "s02", "s04"), ("s06",), ("s01", "s02", "s07", "s09")))
    result = audit(replace(CLEAN, folds=folds, numbers=(0, 1)), table(), CLASSES, None)
    whole = overlap(result, "test", "train", "val")
    assert whole.shared_slides == ((), ("s02",))
    assert whole.grouped_slides == ((), ("s01", "s02", "s07"))
    assert whole.shared_groups == ((), ("p0", "p1", "p3"))
    assert overlap(result, "test", "train").grouped_slides == ((), ("s01", "s02"))
    assert result.to_json()["overlaps"][2]["shared_groups"] == ((), ("p0", "p1", "p3"))
    both = "in both test and training or validation"
    assert f"Patients {both}: 3 (p0, p1, p3; --json lists them per fold)." in words(result)
    assert f"Slides {both}: 1 (s02; --json" in words(result)
    unknown = audit(replace(CLEAN, folds=folds, numbers=(0, 1)), None, CLASSES, None)
    assert overlap(unknown, "test", "train").grouped_slides is None


def test_one_slide_without_a_patient_does_not_hide_the_leaks_of_the_others() -> None:
    known = table(group=groups(s02="slide s02", s03="slide s03"))
    result = audit(one_fold("s00 s02", "s04", "s01 s03"), known, CLASSES, None)
    assert result.leaks == ["patient"]
    assert overlap(result, "test", "train").groups == (1,)
    assert result.without_group == ("s02", "s03")
    note = "2 slides have no patient: each counts as a patient of its own, so leaks among them "
    assert note in words(result)
    clean = audit(one_fold("s00 s02", "s04", "s03"), known, CLASSES, None)
    assert (
        "No test slide shares a patient with training slides (slides without a known patient: 2)."
        in words(clean)
    )


def test_control_characters_in_ids_are_shown_and_not_obeyed() -> None:
    result = audit(one_fold("s00 a\x1b[31m", "s04", "s06"), table(), CLASSES, None)
    assert "a\\x1b[31m" in words(result)
    assert "\x1b" not in words(result)


def test_names_in_an_audit_are_text_whatever_a_terminal_or_a_library_makes_of_them() -> None:
    names = ("tumour [/nos]", "adeno|carcinoma\n[red]\u202e")
    centres = ["[b]north"] * 12 + ["so\x1b[31muth"] * 12
    result = audit(
        replace(one_fold("s00 s02", "s05", "s07 s09"), labels={}),
        table(centre=centres),
        names,
        None,
    )
    text = words(result)
    assert "tumour [/nos]" in text
    assert "adeno|carcinoma\\n[red]\\u202e" in text
    assert len(text.splitlines()) == len(sentences(result))
    assert all(line.isprintable() for line in text.splitlines())
    (classes,) = (shown for shown in audit_tables(result) if shown.name == "classes")
    assert list(classes.columns) == list(names)  # renderers make them text


def test_folds_with_equal_class_counts_share_a_row() -> None:
    result = audit(CLEAN, table(), CLASSES, None)
    (counts,) = (table for table in audit_tables(result) if table.title == "Slides per class")
    assert {name: list(map(text_of, row.values())) for name, row in counts.cells.items()} == {
        "train, every fold": ["6", "6"],
        "val, every fold": ["3", "3"],
        "test, every fold": ["3", "3"],
    }


def test_an_audit_is_a_plain_value_of_json() -> None:
    value = json.loads(json.dumps(audit(CLEAN, table(), CLASSES, None).to_json()))
    assert value["kind"] == "4-fold cross-validation"
    assert value["leaks"] == []
    assert value["overlaps"][0]["groups"] == [0, 0, 0, 0]


def test_the_known_leaks_of_hmils_bracs_splits_are_counted(shared: Path, tmp_path: Path) -> None:
    official = shared / "data" / "official"
    known = known_slides(BRACS, official / "BRACS.xlsx", tmp_path)
    result = audit(
        read_split_lists(official / "hmil_splits" / "BRACS"), known, BRACS.hierarchy.fine, None
    )
    train = overlap(result, "test", "train")
    assert train.groups == (43, 46, 43, 47, 46, 44, 42, 47, 39, 45)
    assert (sum(train.groups), sum(train.of), sum(train.same_label or ())) == (442, 540, 320)
    assert sum(n for times, n in result.tested.items() if times) == 362
    assert result.leaks == ["patient"]
    text = words(result)
    assert (
        "LEAKS: 442 of 540 test slides (81.9 %) share a patient with training slides, 320 (59.3 %) "
        "share patient and label; per fold: 43, 46, 43, 47, 46, 44, 42, 47, 39, 45 of 54." in text
    )
    assert (
        "10 Monte-Carlo hold-outs, not a cross-validation: 362 of 545 slides are tested, 140 of "
        "them more than once (up to 5 times), and 183 are never tested." in text
    )
    assert "by a factor of about 1.5 (Nadeau-Bengio: 1/10 + 54/437 instead of 1/10)" in text
    assert "BRACS.xlsx are in no fold: BRACS_1003660, BRACS_1003717." in text
    assert result.conflicts == ()


def test_hmils_first_panda_split_has_no_conflicts_and_balanced_providers(
    shared: Path, tmp_path: Path
) -> None:
    official = shared / "data" / "official"
    known = known_slides(PANDA, official / "panda_meta.csv", tmp_path)
    result = audit(
        read_split_lists(official / "hmil_splits" / "PANDA"), known, PANDA.hierarchy.fine, None
    )
    assert result.labelled == 10_202
    assert result.conflicts == ()
    assert "0 conflicts" in words(result)
    assert result.group_name == "near-duplicate group"
    assert overlap(result, "test", "train").groups == (195,)
    shares = {
        role: round(100 * share["karolinska"], 1) for role, share in result.centres[0].items()
    }
    assert shares == {"train": 52.9, "val": 54.9, "test": 49.9}
    assert "is 3.1 percentage points (karolinska in fold 0: 52.9 %" in words(result)


def test_hmils_ccc_lists_without_training_are_audited(shared: Path) -> None:
    result = audit(
        read_split_lists(shared / "data/official/hmil_splits/CCC"), None, CCC.hierarchy.fine, None
    )
    assert result.classes == ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
    assert result.class_counts[0]["test"] == (2410, 452, 301, 61, 107, 21)
    assert overlap(result, "test", "val").slides == (0,)
    assert "FAULT: fold 0 lists no train slides." in words(result)
