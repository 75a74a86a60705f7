"""A dataset of one's own with flat labels, from a card to the tables, by the commands alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from feature_files import write_h5

from mil_bench.cli import main

WITHOUT = (
    "hmil: this dataset has no coarse classes, "
    "so its coarse branch learns the fine classes a second time"
)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 24 slides of 12 patients and 3 classes, their features, card and store."""
    monkeypatch.chdir(tmp_path)
    lines = ["slide,label,patient,centre"]
    for i in range(24):
        features = np.random.default_rng(i).standard_normal((6, 8)).astype("float32")
        write_h5(Path("features") / f"{i:03d}.h5", features, np.zeros((6, 2), np.int32))
        lines.append(f"{i:03d},{'abc'[i // 2 % 3]},p{i // 2},{'xy'[i % 2]}")
    Path("labels.csv").write_text("\n".join(lines))
    assert main(["data", "new", "my-study", "--labels", "labels.csv"]) == 0
    assert (
        main(["data", "pack", "features", "--dataset", "my-study.toml", "--labels", "labels.csv"])
        == 0
    )
    return tmp_path


RUN = [
    "run",
    "--dataset",
    "my-study.toml",
    "--methods",
    "abmil",
    "hmil",
    "--folds",
    "2",
    "--epochs",
    "1",
]


@pytest.mark.slow
def test_a_flat_dataset_runs_reports_and_resumes(
    packed: Path, capsys: pytest.CaptureFixture
) -> None:
    command = [*RUN, "--no-tracking", "--on", "inline"]
    assert main([*command, "--dry-run"]) == 0
    assert re.search(
        r"^hmil +note: this dataset has no coarse classes", capsys.readouterr().out, re.MULTILINE
    )
    assert main(command) == 0
    first = capsys.readouterr().out
    assert f"! {WITHOUT}" in first
    assert "Main metrics, 3 classes (%)" in first
    assert "Coarse level" not in first
    assert "coarse classes (%)" not in first
    assert main(command) == 0
    assert capsys.readouterr().out == first
    (run_id,) = (path.name for path in (packed / "results" / "reports").iterdir())
    (packed / "my-study.toml").unlink()  # the plan holds what a report needs
    assert main(["report", run_id]) == 0
    assert capsys.readouterr().out == first
    assert WITHOUT in (packed / "results" / "reports" / run_id / "report.md").read_text()


def test_a_blank_patient_is_counted_when_packing_and_in_every_caption(
    packed: Path, capsys: pytest.CaptureFixture
) -> None:
    sheet = Path("labels.csv")
    sheet.write_text(
        sheet.read_text().replace(",p0,", ",,", 1).replace(",p1,", ",P2,").replace(",p3,", ",NA,")
    )
    capsys.readouterr()
    place = ["--dataset", "my-study.toml", "--data", "other"]
    assert main(["data", "pack", "features", "--labels", "labels.csv", *place]) == 0
    out = capsys.readouterr().out
    blind = (
        "1 slide has no patient: each counts as a patient of its own, "
        "so leaks among them cannot be detected"
    )
    assert f"\n{blind}.\n" in out
    assert "2 slides share the patient 'NA'; leave the cell blank if the patient is unknown." in out
    assert "that look alike (case, blanks, letters of another alphabet) count as different" in out
    assert "'P2' and 'p2'." in out
    assert main(["run", "--methods", "abmil", "--folds", "2", *place, "--dry-run"]) == 0
    caption = capsys.readouterr().out
    assert f"no patient is shared between training, validation and test; {blind}." in caption


def test_a_dataset_with_a_hierarchy_says_nothing_of_its_absence(
    packed: Path, capsys: pytest.CaptureFixture
) -> None:
    text = Path("my-study.toml").read_text().splitlines()
    text = [
        'hierarchy.one = ["a"]\nhierarchy.two = ["b", "c"]' if line.startswith("labels") else line
        for line in text
    ]
    Path("other.toml").write_text("\n".join(text).replace('name = "my-study"', 'name = "other"'))
    assert (
        main(["data", "pack", "features", "--dataset", "other.toml", "--labels", "labels.csv"]) == 0
    )
    assert main(["run", "--dataset", "other.toml", *RUN[3:], "--dry-run"]) == 0
    assert "no coarse classes" not in capsys.readouterr().out


def test_a_store_of_another_hierarchy_is_refused(
    packed: Path, capsys: pytest.CaptureFixture
) -> None:
    card = Path("my-study.toml")
    card.write_text(card.read_text().replace('["a", "b", "c"]', '["c", "b", "a"]'))
    assert main([*RUN, "--dry-run"]) == 2
    assert (
        "its classes are ['a', 'b', 'c'], the card says ['c', 'b', 'a']" in capsys.readouterr().err
    )
