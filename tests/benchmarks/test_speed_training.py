"""The training benchmark: contestants compute the same loss, and it runs from start to table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import slow
from mil_bench.benchmarks.speed import training
from mil_bench.benchmarks.speed.race.cells import HIERARCHY, Spec
from mil_bench.benchmarks.speed.race.floor import products
from mil_bench.benchmarks.speed.race.loops import LOOPS, WIDTH
from mil_bench.benchmarks.speed.training import Medians
from torch.utils.flop_counter import FlopCounterMode

from mil_bench import registry, seeds
from mil_bench.bags.batch import BagBatch

if TYPE_CHECKING:
    from collections.abc import Mapping

# The loops' names of parameters, by the beginnings of ours.
NAMES: Mapping[str, Mapping[str, str]] = {
    "abmil": {
        "embed.": "embed.",
        "attention_v.0": "attention.0",
        "attention_w": "attention.2",
        "cl": "cl",
    },
    "clam-sb": {
        "attention_net.0": "net.0",
        "attention_net.3.attention_": "net.3.",
        "classifiers": "classifiers",
        "instance": "instance",
    },
    "dsmil": {"i_classifier.fc.0": "i", "b_classifier.q": "q", "b_classifier.fcc": "fcc"},
    "transmil": {
        "_fc1": "fc1",
        "cls": "cls",
        "layer1.attn": "layer1.attention",
        "layer2.attn": "layer2.attention",
        "layer1.norm": "layer1.norm",
        "layer2.norm": "layer2.norm",
        "pos_layer.proj.": "convolutions.0.",
        "pos_layer.proj1.": "convolutions.1.",
        "pos_layer.proj2.": "convolutions.2.",
        "norm": "norm",
        "_fc2": "fc2",
    },
    "hmil": {
        "feature_extractor": "extract",
        "feature_reducer.0": "reduce",
        "coarse_attention.0.attention_": "coarse.",
        "fine_attention.0.attention_": "fine.",
        "coarse_classifier": "coarse_head",
        "fine_classifier": "fine_head",
    },
}


def theirs(name: str, names: Mapping[str, str]) -> str:
    prefix = max((p for p in names if name.startswith(p)), key=len)
    return names[prefix] + name.removeprefix(prefix)


@pytest.mark.parametrize("name", slow(LOOPS, "transmil"))
def test_the_authors_loop_has_our_loss(name: str) -> None:
    with seeds.torch_seeded("loops", name):
        ours = registry.methods.load(name)(WIDTH, HIERARCHY).double().eval()
        loop = LOOPS[name].build(HIERARCHY.parent).double().eval()
        loop.load_state_dict(
            {theirs(n, NAMES[name]): v for n, v in ours.named_parameters()}, strict=name != "hmil"
        )
        sizes = (30, 50)
        bags = BagBatch.pack(
            torch.randn(80, WIDTH).double(), torch.tensor(sizes), torch.tensor([2, 4])
        )
    if name == "hmil":
        expected = loop.batch_loss(bags.features.split(sizes), bags.labels, 0.5)
    else:
        parts = zip(bags.features.split(sizes), bags.labels.split(1), strict=True)
        expected = sum(loop.loss(rows, label) for rows, label in parts) / 2
    found = ours.loss(ours(bags), bags, torch.ones(2).double(), 0.5)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("name", LOOPS)
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


def test_table_1_is_extrapolated_from_the_bags_a_fold_trains_on() -> None:
    # Eight of ten bags, so 547 slides are 54.7 such epochs: 10 folds, 200 epochs, 3.6 s and 7.2 s
    # each.
    shown = training.table_1(
        {("abmil", 3000): {"ours": Medians(3.6, 0, 0), "loop": Medians(7.2, 0, 0)}}
    )
    assert "| abmil | 109.4 | 218.8 |" in shown
    assert "| hmil | not measured | not measured |" in shown


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
    ("words", "said"), [(["--torchmil", "/nowhere"], "no such interpreter"), (["--rows"], "rows")]
)
def test_what_cannot_be_measured_is_refused_first(
    words: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="2"):
        training.main(words)
    assert said in capsys.readouterr().err
