"""The progress display: counts, rate and time left on a terminal, in a notebook and in a file."""

from __future__ import annotations

import io
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest
from made_runs import run_result, trained_folds
from rich.cells import cell_len
from rich.console import Console

from mil_bench.progress import display as module
from mil_bench.progress import progress_bar
from mil_bench.progress.display import Display, Pace
from mil_bench.running.display import ProgressDisplay
from mil_bench.running.task import EpochDone

if TYPE_CHECKING:
    from mil_bench.runs.result import RunResult


@pytest.mark.parametrize(
    ("pace", "now", "text"),
    [
        (Pace(12, started=0.0), 30.0, "0/12"),
        (Pace(12, 8, started=0.0), 76.0, "8/12  6.32/min  0:00:38 left"),
        (Pace(12, 0, 0.5, started=0.0), 10.0, "0/12  3/min  0:03:50 left"),
        (Pace(9000, 3000, started=0.0), 10.0, "3000/9000  300/s  0:00:20 left"),
        (Pace(4, 1, started=0.0), 7200.0, "1/4  12/day  6:00:00 left"),
        (Pace(2, 2, started=0.0), 10.0, "2/2"),
        (Pace(0, started=0.0), 10.0, "0/0"),
    ],
)
def test_counts_rate_and_time_left(pace: Pace, now: float, text: str) -> None:
    assert pace.text(now) == text


@pytest.fixture
def result() -> RunResult:
    return run_result({"a-method": trained_folds(1.0), "b": trained_folds(2.0)})


def replay(display: ProgressDisplay, result: RunResult) -> None:
    """A run: every fold in two epochs; the last one fails."""
    trainings = result.plan.trainings
    display.on_start(result.plan, trainings, 0)
    for job, fold in trainings:
        for epoch in (1, 2):
            display.on_epoch(EpochDone("t", job.label, job.seed, (fold,), epoch, 2))
        if (job, fold) == trainings[-1]:
            display.on_failure(job, (fold,), "no memory")
        else:
            display.on_fold(job, result.trained[job.label][fold])
    display.on_end()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_display_of_a_terminal_stays_within_its_width(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)
    monkeypatch.setattr(module, "Console", lambda **_: console)
    display = Display("making bracs-sim:slides=200,difficulty=1.5,width=1024,rows=3000")
    display.start(1234)
    many = "; ".join(f"transformer:layers={n} fold {n}: epoch 12/200" for n in range(16))
    display.update(567, 0.5, many)
    lines = [
        "".join(segment.text for segment in line) for line in console.render_lines(display._bar())
    ]
    display.stop()
    assert len(lines) == 2
    assert all(cell_len(line) <= width for line in lines)
    assert "567/1234" in lines[0]
    assert " left" in lines[0]


def test_a_terminal_has_one_display_and_failures_stay(
    result: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system=None, width=80)
    monkeypatch.setattr(module, "Console", lambda **_: console)
    replay(ProgressDisplay(), result)
    assert "b seed 0 fold 2 failed: no memory\n" in written.getvalue()
    assert "selected epoch" not in written.getvalue()


def test_a_file_gets_a_whole_line_per_training(
    result: RunResult, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    replay(ProgressDisplay(), result)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        *(f"{n + 1}/6 a-method seed 0 fold {n}" for n in range(3)),
        *(f"{n + 4}/6 b seed 0 fold {n}" for n in range(2)),
        "b seed 0 fold 2 failed",
    ]


def test_a_file_gets_nothing_of_a_bar(capsys: pytest.CaptureFixture) -> None:
    assert list(progress_bar(range(3), 3, "reading")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


class Output:
    """What IPython gives for a display that can change."""

    def __init__(self, shown: list[str]) -> None:
        self.shown = shown

    def update(self, page: str) -> None:
        self.shown.append(page)


def test_a_notebook_gets_one_output_that_changes(
    result: RunResult, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    outputs: list[list[str]] = []

    def shows(page: str, display_id: bool) -> Any:
        assert display_id
        outputs.append([page])
        return Output(outputs[-1])

    fake = types.ModuleType("IPython.display")
    fake.display, fake.HTML = shows, str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    console = Console(file=io.StringIO(), force_jupyter=False)
    monkeypatch.setattr(console, "is_jupyter", True)
    monkeypatch.setattr(module, "Console", lambda **_: console)
    monkeypatch.setattr(module, "_SECONDS_BETWEEN", 0)
    replay(ProgressDisplay(), result)
    [pages] = outputs
    assert '<progress value="5.000" max="6">' in pages[-2]
    assert "trainings  5/6" in pages[-2]
    assert "trainings  0/6" in pages[0]
    assert pages[-1] == ""
    assert capsys.readouterr().err == "b seed 0 fold 2 failed: no memory\n"
