"""The training benchmark: contestants compute the same loss, and it runs from start to table."""

from __future__ import annotations

import argparse
import re

import pytest
import torch
from mil_bench.benchmarks.speed import training
from mil_bench.benchmarks.speed.race import streaming
from mil_bench.benchmarks.speed.race.cells import HIERARCHY, Spec
from mil_bench.benchmarks.speed.race.core_models import WIDTH
from mil_bench.benchmarks.speed.race.floor import SHAPES, products
from mil_bench.benchmarks.speed.race.loops import LOOPS
from mil_bench.benchmarks.speed.race.turns import Medians
from torch.utils.flop_counter import FlopCounterMode

from mil_bench import registry
from mil_bench.bags.batch import BagBatch


@pytest.mark.parametrize("name", SHAPES)
def test_the_floor_is_nearly_all_of_our_products_and_never_more(name: str) -> None:
    rows = 500
    bags = BagBatch.pack(torch.ones(rows, WIDTH), torch.tensor([rows]), torch.tensor([2]))
    method = registry.methods.load(name)(WIDTH, HIERARCHY).train()
    with FlopCounterMode(display=False) as ours:
        method.backward(bags, torch.ones(1), 0.5)
    run = products(name, [bags.features])
    with FlopCounterMode(display=False) as floor:
        run()
    # Ours inverts TransMIL's landmarks of padding, too, which are all alike.
    least = 0.6 if name == "transmil" else 0.95
    assert least < floor.get_total_flops() / ours.get_total_flops() <= 1


def test_a_fold_trains_on_eight_tenths_and_bags_are_the_same_for_all() -> None:
    spec = Spec("ours", "abmil", 120, 40, (0, 1), 1)
    assert len(spec.trains(9)) == 32
    assert 60 < spec.sizes().mean() < 300
    assert spec.sizes().tolist() == Spec("loop", "dsmil", 120, 40, (3,), 2).sizes().tolist()


def test_a_line_says_what_was_not_measured() -> None:
    spec = Spec("", "abmil", 500, 20, (0,), 2)
    line = training._line(
        spec, {"ours": Medians(1.0, 2.0, 300.0), "loop": Medians(1.5, 5.0, 400.0)}
    )
    assert line[2:7] == ["1.000", "1.500", "1.50", "1.3", "2.50"]
    assert set(line[7:11]) == {"not measured"}


def test_a_cell_has_a_batch_of_every_method() -> None:
    for name, loop in LOOPS.items():
        bags = training._bags(name, 3000)
        assert len(Spec("", name, 3000, bags, (), 1).trains(0)) >= loop.batch
    assert [training._bags(name, 120) for name in ("ilra", "simple-mil", "hmil")] == [40, 40, 80]


@pytest.mark.parametrize(
    ("method", "device", "expected"),
    [
        ("abmil", "cpu", {"loop", "ours", "wrapped", "floor", "torchmil", "stacked"}),
        ("ilra", "cpu", {"loop", "ours", "stacked"}),
        ("rrt", "cpu", {"loop", "ours"}),
        ("ilra", "cuda", {"loop", "stacked"}),
        ("rrt", "cuda", {"loop", "ours"}),
    ],
)
def test_contestants_are_those_that_a_method_has(
    method: str, device: str, expected: set[str]
) -> None:
    given = argparse.Namespace(device=device, cores=2, stacked=True, torchmil="python")
    assert set(training._kinds(given, method)) == expected


def test_table_1_is_extrapolated_from_the_bags_a_fold_trains_on() -> None:
    # Eight of ten bags, so 547 slides are 54.7 such epochs: 10 folds, 200 epochs, 3.6 s and 7.2 s
    # each.
    shown = training.table_1(
        {("abmil", 3000): {"ours": Medians(3.6, 0, 0), "loop": Medians(7.2, 0, 0)}}
    )
    assert "| abmil | 109.4 | 218.8 |" in shown
    assert "| hmil | not measured | not measured |" in shown


def test_a_line_of_a_method_without_a_target_shows_none() -> None:
    medians = {"ours": Medians(1.0, 2.0, 300.0), "loop": Medians(1.5, 5.0, 400.0)}
    assert training._line(Spec("", "ilra", 500, 20, (0,), 2), medians)[5] == ""


def test_times_of_less_than_an_hour_are_minutes() -> None:
    assert [training._time(hours) for hours in (1.25, 0.15, None)] == [
        "1.2",
        "9.0 min",
        "not measured",
    ]


@pytest.mark.parametrize(
    ("device", "rows", "starts"), [("cpu", [120, 500, 3000], 3), ("cuda", [500, 3000], 1)]
)
def test_on_a_gpu_less_is_measured_if_nothing_is_said(
    device: str, rows: list[int], starts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.devices, "gpu_names", lambda: ["cuda:0"])
    given = training._arguments(["--device", device])
    assert (given.rows, given.starts) == (rows, starts)
    asked = training._arguments(["--device", device, "--rows", "16", "--starts", "2"])
    assert (asked.rows, asked.starts) == ([16], 2)


@pytest.mark.slow
def test_streamed_and_resident_features_are_compared_in_one_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "FOLDS", 1)
    shown = streaming.streamed("cpu", None, slides=10, rows=16)
    assert re.search(r"\| 10 \| \d+\.\d+ \| \d+\.\d+ \| \d+% \| 80% \|", shown)


@pytest.mark.slow
def test_a_race_runs_from_start_to_table(capsys: pytest.CaptureFixture) -> None:
    training.main(
        [
            "--methods",
            "abmil",
            "--rows",
            "16",
            "--folds",
            "1",
            "--starts",
            "1",
            "--turns",
            "1",
            "--cores",
            "1",
        ]
    )
    shown = capsys.readouterr().out
    assert re.search(r"\| abmil \| 16 \| \d+\.\d+ \|", shown)
    assert "with reading" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--torchmil", "/nowhere"], "no such interpreter"),
        (["--folder", "/nowhere"], "no such folder"),
        (["--device", "cuda"], "this machine has no GPU"),
        (["--rows"], "rows"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(
    words: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="2"):
        training.main(words)
    assert said in capsys.readouterr().err
