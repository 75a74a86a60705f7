"""ABMIL on the classic MIL datasets MUSK1 and Tiger; test folds take no part in any choice.

    python -m mil_bench.benchmarks.classic FOLDER

FOLDER holds ``musk1.npz``, ``tiger.npz`` (features [N, D], offsets [B + 1], labels [B]) and
``folds_*.npz`` (test_mask [5 repeats, 10 folds, B]): the published repeated stratified 10-fold. The
epoch is selected on a fifth of the training part, on which the method is not trained; test bags are
predicted once. MUSK1's raw measurements are standardised on the training part; Tiger's features are
published scaled, and are used as they are. Published results on these datasets often select the
epoch on the test fold, so they are no target for this protocol.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from sklearn.model_selection import StratifiedKFold
from torch import nn

from mil_bench import registry, seeds
from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.feed import Feed
from mil_bench.bags.store import BagStore, StoreHeader, create_store
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import Method, Recipe
from mil_bench.training.stack import LoopedStack
from mil_bench.training.trainer import FoldHistory, FoldRoles, Schedule, fit, predict

# The usual recipe on this data (Adam 1e-4 to 5e-4, weight decay 5e-4 to 5e-3, 50 to 100 epochs, one
# bag per step) and network (256-128-64 with ReLU and dropout .5 before the attention).
_RECIPE = Recipe(learning_rate=5e-4, weight_decay=5e-3, epochs=50)
_WIDTHS, _DROPOUT = (256, 128, 64), 0.5
_RAW = ("musk1",)
# Accuracies of 5 x 10 folds on which two secondary sources agree; their ± is most likely a standard
# error.
_PUBLISHED = {
    ("musk1", "abmil"): (0.892, 0.040),
    ("musk1", "abmil-gated"): (0.900, 0.050),
    ("tiger", "abmil"): (0.839, 0.022),
    ("tiger", "abmil-gated"): (0.845, 0.018),
}
_CLASSES = LabelHierarchy.flat(("negative", "positive"))


@dataclass(frozen=True)
class _Fold:
    """One training: a method on a fold of a dataset."""

    folder: Path
    dataset: str
    method: str
    repeat: int
    fold: int


def main() -> None:
    """Train everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args().folder
    tasks = [
        _Fold(folder, *key, repeat, fold)
        for key in _PUBLISHED
        for repeat in range(5)
        for fold in range(10)
    ]
    with ProcessPoolExecutor() as pool:
        accuracies = list(
            track(pool.map(_accuracy, tasks), "training", len(tasks), console=Console(stderr=True))
        )
    accuracy = np.array(accuracies).reshape(len(_PUBLISHED), 5, 10).mean(2)  # [row, repeat]
    print("| data | method | ours | published | difference / published ± |\n|---|---|---|---|---|")
    for (dataset, method), repeats in zip(_PUBLISHED, accuracy, strict=True):
        mean, error = _PUBLISHED[dataset, method]
        distance = (repeats.mean() - mean) / error
        ours = f"{repeats.mean():.3f} ± {repeats.std(ddof=1):.3f}"
        print(f"| {dataset} | {method} | {ours} | {mean:.3f} ± {error:.3f} | {distance:+.1f} |")
    print(
        "\nOurs: mean accuracy over 5 x 10 folds ± standard deviation over the 5 repeats. "
        "Published: accuracy ± most likely the standard error."
    )


def _accuracy(task: _Fold) -> float:
    """Accuracy on a fold's test bags."""
    torch.set_num_threads(1)
    with (
        np.load(task.folder / f"{task.dataset}.npz") as data,
        np.load(task.folder / f"folds_{task.dataset}.npz") as f,
    ):
        features, offsets, labels = data["features"], data["offsets"], data["labels"].astype(int)
        test = f["test_mask"][task.repeat, task.fold].astype(bool)
    identity = (task.dataset, task.method, task.repeat, task.fold)
    rest = np.flatnonzero(~test)
    inner = StratifiedKFold(5, shuffle=True, random_state=seeds.derive(*identity, "val") % 2**32)
    train, val = next((rest[a], rest[b]) for a, b in inner.split(rest, labels[rest]))
    with tempfile.TemporaryDirectory() as folder:
        if task.dataset in _RAW:
            features = _standardised(features, offsets, train)
        store = _stored(Path(folder) / "bags.h5", features.astype(np.float32), offsets, labels)
        with seeds.torch_seeded(*identity, "weights"):
            method = _network(task.method, features.shape[1])
        stack, feed = LoopedStack([method], _RECIPE, [identity]), Feed(store, torch.device("cpu"))
        fit(
            stack,
            feed,
            [FoldRoles(train, val)],
            Schedule.of([train], _RECIPE, identity),
            _RECIPE,
            _silent,
        )
        out = predict(stack, feed, np.flatnonzero(test), 0)
    return (out.fine_logits.argmax(1) == out.labels).float().mean().item()


def _silent(_epoch: int, _histories: list[FoldHistory]) -> None:
    """Nothing to show after an epoch: the progress bar counts folds."""


def _network(name: str, in_dim: int) -> Method:
    """The method with the usual embedding of these datasets in place of its own."""
    method: Method = registry.methods.load(name)(
        _WIDTHS[-1], _CLASSES, embed_dim=0, attention_dim=_WIDTHS[-1]
    )
    layers: list[nn.Module] = []
    for before, after in pairwise((in_dim, *_WIDTHS)):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(_DROPOUT)]
    method.embed = nn.Sequential(*layers)
    return method


def _standardised(features: np.ndarray, offsets: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Features with mean 0 and standard deviation 1 over the training instances."""
    rows = np.concatenate([features[offsets[b] : offsets[b + 1]] for b in train])
    scale = rows.std(0)
    return (features - rows.mean(0)) / np.where(scale > 0, scale, 1)


def _stored(path: Path, features: np.ndarray, offsets: np.ndarray, labels: np.ndarray) -> BagStore:
    header = StoreHeader(
        "classic", _CLASSES, len(features), features.shape[1], "float32", "classic MIL data", ""
    )
    with create_store(path, header) as writer:
        for b, label in enumerate(labels):
            slide = Slide(f"bag-{b}", int(label), f"bag-{b}")
            writer.add(Bag(slide, features[offsets[b] : offsets[b + 1]]))
    return BagStore(path)


if __name__ == "__main__":
    main()
