"""The speed benchmarks as commands: what they refuse, and how they summarise costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from mil_bench.benchmarks.speed import data, scale, tracking
from mil_bench.benchmarks.speed.tracking import Cost

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.mark.parametrize("command", [data, tracking])
def test_a_folder_that_does_not_exist_is_refused(
    command: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr("sys.argv", [command.__name__, "--folder", str(tmp_path / "missing")])
    with pytest.raises(SystemExit) as left:
        command.main()
    assert left.value.code == 2
    assert f"--folder {tmp_path / 'missing'}: there is no such folder" in capsys.readouterr().err


def test_the_cost_of_tracking_is_a_ratio_of_medians() -> None:
    costs = {
        "untracked": [Cost(100, 200), Cost(10, 20), Cost(110, 300)],
        "tracked": [Cost(104, 206, 6), Cost(103, 204, 4), Cost(900, 900, 100)],
    }
    row = tracking.shown(costs).splitlines()[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["tracked", "104.0", "+4.0%", "206.0", "+3.0%", "6.0", "3.0%", "< 5%"]


def test_tracked_and_untracked_runs_take_turns_in_fresh_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run(place: Path, results: Path, words: list[str]) -> Cost:
        seen.append((results.name, "--no-tracking" in words, (results / "mlflow.db").exists()))
        results.mkdir(exist_ok=True)
        (results / "mlflow.db").touch()
        return Cost(1, 1)

    monkeypatch.setattr(tracking, "_run", run)
    costs = tracking.measure(tmp_path, ["run"], repeats=2)
    turn = [("results", True, False), ("results", False, True), ("results", False, False)]
    assert seen == [("made", False, False), *turn, *turn]
    assert {kind: len(own) for kind, own in costs.items()} == dict.fromkeys(costs, 2)


def test_a_prediction_takes_the_memory_of_its_embedding_and_a_method_without_map_none() -> None:
    embedding = 40_000 * 500 * 4 / 1e6  # MB
    memory, *_, of_map, _, _ = scale.use("abmil:embed_dim=500", 40_000, 8)
    assert embedding < memory < 3 * embedding
    assert embedding < of_map < 3 * embedding
    fitted = scale.use("knn-probe", 1000, 8)
    assert all(map(math.isnan, fitted[3:]))
    assert fitted[0] < embedding
