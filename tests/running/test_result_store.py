from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from mil_bench.errors import StorageError, UnknownNameError
from mil_bench.evaluation.predictions import Predictions, TrainedFold
from mil_bench.planning.plan import Job
from mil_bench.running.result_store import ResultStore

JOB = Job("toy", "d" * 16, "abmil", 1, {"dropout": 0.0}, {"epochs": 2}, "s" * 16, 0, "abmil")


def result(fold: int, shift: float = 0.0) -> TrainedFold:
    p = np.array([[0.25 + shift, 0.75 - shift], [0.5, 0.5]])
    predictions = Predictions(np.array(["a", "b"]), np.array([1, 0]), p, np.array(["", ""]))
    return TrainedFold(
        JOB.seed,
        fold,
        JOB.key,
        predictions,
        best_epoch=1,
        curves={"val_loss": [0.5, 0.25]},
        slides={"train": 2},
        seconds=1.5,
        environment={"torch": "2"},
    )


def test_a_fold_reads_back_as_it_was_stored(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save_fold(JOB, result(3))
    found = store.load_fold(JOB, 3)
    assert (found.predictions.fine == result(3).predictions.fine).all()
    assert (found.best_epoch, found.curves, found.seconds) == (1, {"val_loss": [0.5, 0.25]}, 1.5)
    assert store.done(JOB) == {3}


def test_a_fold_is_done_only_when_its_record_is_there(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save_fold(JOB, result(0))
    record = store.folder(JOB) / "fold-00.json"
    record.rename(tmp_path / "away")
    assert (store.folder(JOB) / "fold-00.npz").exists()
    assert store.done(JOB) == set()


def test_the_first_record_wins(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save_fold(JOB, result(0))
    store.save_fold(JOB, result(0, shift=0.1))
    assert store.load_fold(JOB, 0).predictions.fine[0, 0] == 0.25


def test_predictions_that_no_record_vouches_for_are_replaced(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save_fold(JOB, result(0))
    (store.folder(JOB) / "fold-00.json").unlink()
    store.save_fold(JOB, result(0, shift=0.1))
    assert store.load_fold(JOB, 0).predictions.fine[0, 0] == 0.35


def test_a_broken_file_is_named_and_left_alone(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save_fold(JOB, result(0))
    broken = store.folder(JOB) / "fold-00.npz"
    broken.write_bytes(broken.read_bytes()[:-20])
    left = broken.read_bytes()
    with pytest.raises(
        StorageError, match=r"fold-00.npz cannot be used: its content is not what was stored"
    ):
        store.load_fold(JOB, 0)
    assert broken.read_bytes() == left
    record = store.folder(JOB) / "fold-00.json"
    record.write_text("{")
    with pytest.raises(StorageError, match=r"fold-00.json cannot be used"):
        store.load_fold(JOB, 0)


@pytest.mark.parametrize("content", ["null", "[1]", '{"a'])
def test_a_record_that_is_no_object_is_named(content: str, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save_fold(JOB, result(0))
    (store.folder(JOB) / "fold-00.json").write_text(content)
    with pytest.raises(StorageError, match=r"fold-00.json cannot be used: "):
        store.load_fold(JOB, 0)


@pytest.mark.parametrize(
    ("name", "value"), [("curves", 3), ("environment", None), ("seconds", "x")]
)
def test_a_record_with_values_of_another_kind_is_named(
    name: str, value: object, tmp_path: Path
) -> None:
    store = ResultStore(tmp_path)
    store.save_fold(JOB, result(0))
    path = store.folder(JOB) / "fold-00.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(
        StorageError, match=rf"fold-00.json cannot be used: {name}.* cannot be understood"
    ):
        store.load_fold(JOB, 0)


def test_a_version_mark_that_is_no_object_is_named(tmp_path: Path) -> None:
    (tmp_path / "format.json").write_text("[9]")
    with pytest.raises(StorageError, match=r"format.json cannot be used: it is no JSON object"):
        ResultStore(tmp_path)


def test_results_of_another_version_are_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "format.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(
        StorageError, match=r"holds results of format 99; .* name another folder with --results"
    ):
        ResultStore(tmp_path)
    assert json.loads((tmp_path / "format.json").read_text()) == {"format": 99}


def test_a_full_disk_says_so_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(tmp_path)
    store.save_fold(JOB, result(0))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"fold-01.npz: No space left on device. Free space"):
            store.save_fold(JOB, result(1))
    assert store.done(JOB) == {0}
    assert not list(tmp_path.rglob("*.partial"))
    store.save_fold(JOB, result(1))
    assert store.done(JOB) == {0, 1}


def test_a_read_only_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(
        Path, "mkdir", refused
    )  # the tests may run as root, whom no permission stops
    with pytest.raises(
        StorageError, match=r"Permission denied. Free space or choose a folder you may write to"
    ):
        ResultStore(tmp_path).save_fold(JOB, result(0))


def test_an_unknown_run_suggests_near_ones(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "toy_patient-kfold_12345678.json").write_text("{}")
    with pytest.raises(UnknownNameError, match=r"Did you mean toy_patient-kfold_12345678"):
        ResultStore(tmp_path).load_plan("toy_patient-kfold_1234567")
