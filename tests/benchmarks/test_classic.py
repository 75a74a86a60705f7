"""The classic data: every dataset in the folder, both protocols, and folds that are kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from mil_bench.benchmarks import classic

if TYPE_CHECKING:
    from pathlib import Path


def write_dataset(folder: Path, name: str, folds: bool = True) -> None:
    """24 bags of 3 instances; the label is the sign of the first feature."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(len(name))
    labels = np.arange(24) % 2
    features = rng.normal(size=(72, 5)).astype(np.float32)
    features[:, 0] += np.repeat(3.0 * (2 * labels - 1), 3)
    bags = {"features": features, "offsets": np.arange(0, 73, 3), "labels": labels}
    np.savez(folder / f"{name}.npz", **bags)
    if folds:
        mask = np.zeros((2, 2, 24), dtype=bool)
        mask[0, 0, :12] = mask[0, 1, 12:] = mask[1, 0, 6:18] = True
        mask[1, 1] = ~mask[1, 0]
        np.savez(folder / f"folds_{name}.npz", test_mask=mask)


def accuracies(results: Path) -> dict[str, float]:
    return {
        f"{path.parent.name} {path.stem}": json.loads(path.read_text())["accuracy"]
        for path in results.rglob("*.json")
    }


@pytest.mark.slow
def test_every_dataset_with_folds_is_trained_and_a_killed_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("fox", "elephant"):
        write_dataset(tmp_path / "data", name)
    write_dataset(tmp_path / "data", "LEAKY", folds=False)
    words = [str(tmp_path / "data"), "--results", str(tmp_path / "kept"), "--workers", "2"]
    classic.main([*words, "--repeats", "1"])
    first = accuracies(tmp_path / "kept")
    assert len(first) == 2 * 2 * 2 * 2  # datasets, folds, methods, protocols
    assert {name.split("-")[0] for name in first} == {"fox", "elephant"}
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[1:]] == ["| elephant"] * 2 + ["| fox"] * 2
    assert "not available" in rows[-1]
    assert "0.868" in rows[1]

    kept = sorted((tmp_path / "kept").rglob("*.json"))
    times = {path: path.stat().st_mtime_ns for path in kept[1:]}
    kept[0].unlink()  # as if the run had been killed before it
    classic.main([*words, "--repeats", "1"])
    assert accuracies(tmp_path / "kept") == first
    assert {path: path.stat().st_mtime_ns for path in kept[1:]} == times


@pytest.mark.slow
def test_a_fixed_number_of_epochs_trains_on_all_bags_and_keeps_the_last_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path, "fox")
    (data,) = classic.datasets(tmp_path)

    def equal(one, other):
        return all(torch.equal(one[name], other[name]) for name in one)

    seen: dict[str, tuple[int, int]] = {}
    last: dict[str, bool] = {}
    fit = classic.fit

    def watched(stack, feed, roles, schedule, recipe, on_epoch):
        weights = []

        def watch(epoch, histories):
            on_epoch(epoch, histories)
            weights.append({n: w.clone() for n, w in stack.state(0).items()})

        histories = fit(stack, feed, roles, schedule, recipe, watch)
        seen[protocol] = (len(roles[0].train), len(roles[0].val))
        now, best = stack.state(0), histories[0].best_epoch
        last[protocol] = equal(now, weights[-1])
        assert protocol == "fixed" or equal(now, weights[best])
        return histories

    monkeypatch.setattr(classic, "fit", watched)
    for protocol in ("held-back", "fixed"):
        classic._accuracy(classic._Training(data, "abmil", protocol, 0, 0))
    assert seen == {"held-back": (9, 3), "fixed": (12, 1)}
    assert last["fixed"]


def test_other_data_folds_or_recipes_have_results_of_their_own(tmp_path: Path) -> None:
    write_dataset(tmp_path, "fox")
    (before,) = classic.datasets(tmp_path)
    first = before.digest
    with np.load(tmp_path / "folds_fox.npz") as file:
        np.savez(tmp_path / "folds_fox.npz", test_mask=~file["test_mask"])
    (after,) = classic.datasets(tmp_path)
    assert after.digest != first


def test_a_folder_without_such_data_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as caught:
        classic.main([str(tmp_path)])
    assert caught.value.code == 2
    assert "has no NAME.npz with folds_NAME.npz" in capsys.readouterr().err
