"""The audit counts what a reader would count by hand, and finds what is known of the published splits."""

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

from mil_bench.commands.audit_report import print_audit, sentences, tables
from mil_bench.datasets.slides import known_slides
from mil_bench.split_files.audit import Overlap, SplitAudit, audit
from mil_bench.split_files.formats import read_split_lists
from mil_bench.splits.lists import SplitLists
from mil_bench.splits.plan import Fold, kind_of_test

if TYPE_CHECKING:
    from pathlib import Path

CLEAN = SplitLists(
    "some files", FOLDS, (0, 1, 2, 3), {s: frozenset([label]) for s, label in LABEL_OF.items()}
)


def overlap(done: SplitAudit, role: str, *others: str) -> Overlap:
    return next(each for each in done.overlaps if (each.role, each.others) == (role, others))


def words(done: SplitAudit) -> str:
    return "\n".join(sentences(done))


def one_fold(train: str, val: str, test: str) -> SplitLists:
    return replace(
        CLEAN, folds=(Fold(*(tuple(part.split()) for part in (train, val, test))),), numbers=(0,)
    )


def test_an_honest_cross_validation_is_called_one() -> None:
    done = audit(CLEAN, table(), CLASSES, None)
    assert done.leaks == []
    assert done.kind == "4-fold cross-validation"
    assert done.tested == {1: 24}
    assert "4-fold cross-validation: every one of its 24 slides is tested exactly once." in words(
        done
    )
    assert "No test slide shares a patient with training slides." in words(done)
    assert "never contradict the metadata: 0 conflicts" in words(done)
    assert "Every test part can support a class-wise AUC of every class." in words(done)
    assert "LEAKS" not in words(done)
    assert "times too small" not in words(done)


def test_leaks_are_counted_as_by_hand_with_and_without_the_same_label() -> None:
    # s00 and s01 are patient p0, calm and wild; s02 and s03 are p1; s04 and s05 are p2.
    done = audit(
        one_fold("s00 s02 s06", "s04", "s01 s03 s05 s08"),
        table(group=groups(s02="p0")),
        CLASSES,
        None,
    )
    train = overlap(done, "test", "train")
    assert (train.of, train.slides, train.groups, train.same_label) == ((4,), (0,), (1,), (0,))
    assert overlap(done, "test", "val").groups == (1,)
    assert overlap(done, "test", "train", "val").groups == (2,)
    assert done.leaks == ["patient"]
    same = audit(one_fold("s00 s02 s06", "s04", "s01 s03"), table(group="one"), CLASSES, None)
    assert overlap(same, "test", "train").groups == (2,)
    assert overlap(same, "test", "train").same_label == (0,)
    both = audit(one_fold("s00 s01", "s04", "s02 s03"), table(group="one"), CLASSES, None)
    assert overlap(both, "test", "train").same_label == (2,)


def groups(**changed: str) -> list[str]:
    return [changed.get(slide, GROUP_OF[slide]) for slide in SLIDES]


def test_slides_on_two_sides_are_leaks_that_no_group_name_allows() -> None:
    done = audit(one_fold("s00 s01", "s02", "s01 s04"), None, CLASSES, None)
    assert done.leaks == ["slide"]
    assert "LEAKS: 1 of 2 (50.0 %) test slides are training slides too." in words(done)
    assert "FAULT: fold 0 has 1 slides in two roles: s01." in words(done)


def test_overlap_of_validation_and_training_is_told_but_is_no_leak() -> None:
    done = audit(one_fold("s00 s06 s07", "s01", "s04 s05"), table(), CLASSES, None)
    assert overlap(done, "val", "train").groups == (1,)
    assert done.leaks == []
    assert "1 of 1 (100.0 %) validation slides share a patient with training slides" in words(done)


def test_unknown_groups_are_never_called_free_of_leaks() -> None:
    for known in (None, replace(table(), group_name="")):
        done = audit(CLEAN, known, CLASSES, None)
        assert overlap(done, "test", "train").groups is None
        assert "groups (patients) are unknown, so leaks between them cannot be counted" in words(
            done
        )
        assert "shares a" not in words(done)


def test_cases_in_the_files_are_groups_where_the_metadata_have_none() -> None:
    done = audit(replace(CLEAN, groups=dict.fromkeys(SLIDES, "one")), None, (), None)
    assert done.leaks == ["case"]
    assert overlap(done, "test", "train").groups == (6, 6, 6, 6)
    assert done.classes == ("calm", "wild")


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
    done = audit(turned, table(), CLASSES, None)
    assert done.tested == {0: 18, 2: 6}
    text = "2 Monte-Carlo hold-outs, not a cross-validation: of 24 slides 6 are tested, 18 never, 6 more than once"
    assert text in words(done)
    # sqrt((1/2 + 6/12) / (1/2)) = 1.414
    assert (
        "about 1.4 times too small for a standard error (Nadeau-Bengio: 1/2 + 6/12 in place of 1/2)"
        in words(done)
    )


def test_folds_that_cannot_support_a_class_wise_auc_are_named() -> None:
    done = audit(one_fold("s00 s02", "s05", "s07 s09"), table(), CLASSES, None)
    assert done.class_counts == ({"train": (2, 0), "val": (0, 1), "test": (0, 2)},)
    assert done.without_auc == (("calm", "wild"),)
    assert (
        "A class-wise AUC is undefined for want of test slides in fold 0 of calm, wild."
        in words(done)
    )
    assert "Fold 0 has no training slide of wild." in words(done)


def test_labels_that_contradict_the_metadata_or_each_other_are_named() -> None:
    labels = {
        **CLEAN.labels,
        "s00": frozenset(["wild"]),
        "s01": frozenset(["calm", "wild"]),
        "s02": frozenset(["x"]),
    }
    done = audit(replace(CLEAN, labels=labels), table(), CLASSES, None)
    assert [(c.slide, c.in_files, c.in_metadata) for c in done.conflicts] == [
        ("s00", ("wild",), "calm"),
        ("s01", ("calm", "wild"), "wild"),
        ("s02", ("x",), "calm"),
    ]
    assert sentences(done)[1].startswith("CONFLICTS: 3 of 24 (12.5 %)")
    assert "s01 (calm and wild, metadata wild)" in words(done)


def test_numbers_in_the_files_are_read_in_the_order_of_the_classes() -> None:
    numbers = {slide: frozenset([str(CLASSES.index(label))]) for slide, label in LABEL_OF.items()}
    done = audit(replace(CLEAN, labels=numbers), table(), CLASSES, None)
    assert done.labels_are_numbers
    assert done.conflicts == ()
    assert "they are numbers, read as positions in the order of the classes" in words(done)
    swapped = audit(replace(CLEAN, labels=numbers), table(), CLASSES[::-1], None)
    assert swapped.conflicts == ()  # the metadata turn with the classes


def test_slides_the_metadata_do_not_know_and_slides_in_no_fold_are_named() -> None:
    lists = replace(
        CLEAN, folds=(Fold(("zz", *FOLDS[0].train), FOLDS[0].val, FOLDS[0].test[1:]),), numbers=(0,)
    )
    done = audit(lists, table(), CLASSES, None)
    assert (done.unknown, done.unlisted) == (("zz",), ("s00",))
    assert (
        "No test slide shares a patient with training slides, as far as they are known (1 are not)."
        in words(done)
    )
    assert "1 of these slides is not in the label table study.csv: zz." in words(done)
    near = audit(one_fold("S00", "s01", "s02"), table(), CLASSES, None)
    hint = "S00; for 'S00' the label table study.csv has 's00', in other upper and lower case"
    assert f"1 of these slides is not in the label table study.csv: {hint}" in words(near)
    assert "1 of the slides in the label table study.csv is in no fold: s00." in words(done)


def test_the_balance_of_centres_is_that_of_single_folds() -> None:
    # Over all folds of a cross-validation every balance is perfect; within a fold it is not.
    centres = ["north" if (i // 2) % 4 == 0 else "south" for i in range(len(SLIDES))]
    done = audit(CLEAN, table(centre=centres), CLASSES, None)
    assert done.centres[0]["test"] == {"north": 1.0, "south": 0.0}
    assert done.centres[1]["train"] == {"north": 0.5, "south": 0.5}
    assert "the largest difference is 100.0 points" in words(done)
    titles = [title for title, _, _ in tables(done)]
    assert "Share of the centres (%)" in titles


def test_near_duplicate_bags_are_counted_on_both_sides() -> None:
    pairs = pd.DataFrame(
        {"slide_a": ["s00", "s01"], "slide_b": ["s04", "s01"], "share": [1.0, 1.0]}
    )
    done = audit(one_fold("s04 s05", "s02", "s00 s01"), table(), CLASSES, pairs)
    assert overlap(done, "test", "train").near_duplicates == (1,)
    assert overlap(done, "test", "val").near_duplicates == (0,)
    assert (
        "1 of 2 (50.0 %) test slides have an equal or almost equal bag among training slides."
        in words(done)
    )
    assert "not looked for" in words(audit(CLEAN, table(), CLASSES, None))


def test_lists_without_some_roles_are_audited_as_far_as_they_go() -> None:
    lists = one_fold("", "s00 s02", "s01 s03")
    done = audit(lists, table(), CLASSES, None)
    assert [(each.role, each.others) for each in done.overlaps] == [("test", ("val",))]
    assert done.leaks == ["patient"]
    assert "FAULT: fold 0 lists no train slides." in words(done)


def test_nothing_is_claimed_of_a_fold_whose_training_slides_are_not_listed() -> None:
    folds = (FOLDS[0], replace(FOLDS[1], train=()), *FOLDS[2:])
    done = audit(replace(CLEAN, folds=folds), table(), CLASSES, None)
    assert overlap(done, "test", "train").of == (6, 0, 6, 6)
    assert done.faults == ("fold 1 lists no train slides",)
    text = words(done)
    assert (
        "Of fold 1 it cannot be said whether test slides meet training slides: none are listed there."
        in text
    )
    assert "No test slide shares a patient with training slides in the other folds." in text
    assert "No test slide shares a patient with validation slides." in text
    never = (Fold((), (), ("s00",)), Fold(("s02",), (), ()))
    done = audit(replace(CLEAN, folds=never, numbers=(0, 1)), table(), CLASSES, None)
    assert done.overlaps == ()


def test_leaking_slides_and_their_groups_are_listed_by_fold() -> None:
    folds = (FOLDS[0], Fold(("s00", "s02", "s04"), ("s06",), ("s01", "s02", "s07", "s09")))
    done = audit(replace(CLEAN, folds=folds, numbers=(0, 1)), table(), CLASSES, None)
    whole = overlap(done, "test", "train", "val")
    assert whole.shared_slides == ((), ("s02",))
    assert whole.grouped_slides == ((), ("s01", "s02", "s07"))
    assert whole.shared_groups == ((), ("p0", "p1", "p3"))
    assert overlap(done, "test", "train").grouped_slides == ((), ("s01", "s02"))
    assert done.to_json()["overlaps"][2]["shared_groups"] == ((), ("p0", "p1", "p3"))
    assert "The patients on both sides are 3: p0, p1, p3 (--json lists them by fold)." in words(
        done
    )
    assert "The slides on both sides are 1: s02 (--json" in words(done)
    unknown = audit(replace(CLEAN, folds=folds, numbers=(0, 1)), None, CLASSES, None)
    assert overlap(unknown, "test", "train").grouped_slides is None


def test_one_slide_without_a_patient_does_not_hide_the_leaks_of_the_others() -> None:
    known = table(group=groups(s02="slide s02", s03="slide s03"))
    done = audit(one_fold("s00 s02", "s04", "s01 s03"), known, CLASSES, None)
    assert done.leaks == ["patient"]
    assert overlap(done, "test", "train").groups == (1,)
    assert done.without_group == ("s02", "s03")
    note = "2 slides have no patient: each counts as a patient of its own, so leaks among them cannot be detected."
    assert note in words(done)
    clean = audit(one_fold("s00 s02", "s04", "s03"), known, CLASSES, None)
    assert (
        "No test slide shares a patient with training slides, as far as they are known (2 are not)."
        in words(clean)
    )


def test_control_characters_in_ids_are_shown_and_not_obeyed() -> None:
    done = audit(one_fold("s00 a\x1b[31m", "s04", "s06"), table(), CLASSES, None)
    assert "a\\x1b[31m" in words(done)
    assert "\x1b" not in words(done)


def test_equal_class_counts_of_all_folds_stand_once(capsys: pytest.CaptureFixture) -> None:
    done = audit(CLEAN, table(), CLASSES, None)
    (rows,) = (rows for title, _, rows in tables(done) if title == "Slides a class")
    assert rows == [
        ["train, every fold", "6", "6"],
        ["val, every fold", "3", "3"],
        ["test, every fold", "3", "3"],
    ]
    print_audit(done)
    shown = capsys.readouterr().out
    assert shown.index("cross-validation") < shown.index("Slides a class")
    assert all(line in shown for line in sentences(done))


def test_an_audit_is_a_plain_value_of_json() -> None:
    value = json.loads(json.dumps(audit(CLEAN, table(), CLASSES, None).to_json()))
    assert value["kind"] == "4-fold cross-validation"
    assert value["leaks"] == []
    assert value["overlaps"][0]["groups"] == [0, 0, 0, 0]


def test_hmils_bracs_splits_leak_as_it_is_known(shared: Path, tmp_path: Path) -> None:
    official = shared / "data" / "official"
    known = known_slides(BRACS, official / "BRACS.xlsx", tmp_path)
    done = audit(
        read_split_lists(official / "hmil_splits" / "BRACS"), known, BRACS.hierarchy.fine, None
    )
    train = overlap(done, "test", "train")
    assert train.groups == (43, 46, 43, 47, 46, 44, 42, 47, 39, 45)
    assert (sum(train.groups), sum(train.of), sum(train.same_label or ())) == (442, 540, 320)
    assert sum(n for times, n in done.tested.items() if times) == 362
    assert done.leaks == ["patient"]
    text = words(done)
    assert (
        "LEAKS: 442 of 540 (81.9 %) test slides share a patient with training slides, 320 of 540"
        in text
    )
    assert "by fold 43, 46, 43, 47, 46, 44, 42, 47, 39, 45 of 54." in text
    assert (
        "10 Monte-Carlo hold-outs, not a cross-validation: of 545 slides 362 are tested, 183 never"
        in text
    )
    assert "up to 5 times" in text
    assert (
        "about 1.5 times too small for a standard error (Nadeau-Bengio: 1/10 + 54/437 in place of 1/10)"
        in text
    )
    assert (
        "2 of the slides in the label table BRACS.xlsx are in no fold: BRACS_1003660, BRACS_1003717."
        in text
    )
    assert done.conflicts == ()


def test_hmils_first_panda_split_has_no_conflicts_and_balanced_providers(
    shared: Path, tmp_path: Path
) -> None:
    official = shared / "data" / "official"
    known = known_slides(PANDA, official / "panda_meta.csv", tmp_path)
    done = audit(
        read_split_lists(official / "hmil_splits" / "PANDA"), known, PANDA.hierarchy.fine, None
    )
    assert done.labelled == 10_202
    assert done.conflicts == ()
    assert "0 conflicts" in words(done)
    assert done.group_name == "near-duplicate group"
    assert overlap(done, "test", "train").groups == (195,)
    shares = {role: round(100 * share["karolinska"], 1) for role, share in done.centres[0].items()}
    assert shares == {"train": 52.9, "val": 54.9, "test": 49.9}
    assert "the largest difference is 3.1 points, karolinska in fold 0" in words(done)


def test_hmils_ccc_lists_without_training_are_audited(shared: Path) -> None:
    done = audit(
        read_split_lists(shared / "data/official/hmil_splits/CCC"), None, CCC.hierarchy.fine, None
    )
    assert done.classes == ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
    assert done.class_counts[0]["test"] == (2410, 452, 301, 61, 107, 21)
    assert overlap(done, "test", "val").slides == (0,)
    assert "FAULT: fold 0 lists no train slides." in words(done)
