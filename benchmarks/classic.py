"""ABMIL on the classic MIL datasets; the epoch is chosen honestly, or fixed.

    python -m mil_bench.benchmarks.classic FOLDER

FOLDER holds datasets as ``NAME.npz`` (features [N, D], offsets [B + 1], labels [B] of 0 and 1) with
``folds_NAME.npz`` (test_mask [repeats, folds, B]), such as the published repeated stratified
10-fold of MUSK1, MUSK2, Fox, Tiger and Elephant. All of them are trained. Every fold is kept in
``--results`` when it is done, so a repeated call trains only what is missing.

Two protocols stand side by side, and test bags take no part in either:

- ``held-back``: a fifth of the training part chooses the epoch, and does not train.
- ``fixed``: the whole training part trains for a fixed number of epochs; the last weights count.

Published results on these datasets often select the epoch on the test fold, so they are no target.
MUSK's raw measurements are standardised on the bags that train; the features of the other datasets
are published scaled, and are used as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from sklearn.model_selection import StratifiedKFold
from torch import nn

from mil_bench import durable, registry, seeds
from mil_bench.bags.bag import Bag, Slide
from mil_bench.bags.feed import Feed
from mil_bench.bags.layout import StoreHeader
from mil_bench.bags.store import BagStore, create_store
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods import Method, Recipe
from mil_bench.training.stack import LoopedStack
from mil_bench.training.trainer import FoldHistory, FoldRoles, Schedule, fit, predict

if TYPE_CHECKING:
    from collections.abc import Sequence

# The usual recipe on this data (Adam 1e-4 to 5e-4, weight decay 5e-4 to 5e-3, 50 to 100 epochs, one
# bag per step) and network (256-128-64 with ReLU and dropout .5 before the attention).
_RECIPE = Recipe(learning_rate=5e-4, weight_decay=5e-3, epochs=50)
_WIDTHS, _DROPOUT = (256, 128, 64), 0.5
_RAW = "musk"
_METHODS = ("abmil", "abmil-gated")
_PROTOCOLS = ("held-back", "fixed")
# Mean accuracy and its ±, most likely a standard error; None where we know the mean only.
_PUBLISHED: dict[tuple[str, str], tuple[float, float | None]] = {
    ("musk1", "abmil"): (0.892, 0.040),
    ("musk1", "abmil-gated"): (0.900, 0.050),
    ("tiger", "abmil"): (0.839, 0.022),
    ("tiger", "abmil-gated"): (0.845, 0.018),
    ("elephant", "abmil"): (0.868, None),
    ("elephant", "abmil-gated"): (0.857, None),
}
_SOURCES = """\
Published: accuracies of ABMIL (M. Ilse, J. Tomczak, M. Welling, "Attention-based Deep Multiple
Instance Learning", ICML 2018) over five repeats of 10-fold cross-validation, as secondary sources
quote them; we did not read the paper's own table. The ± is most likely a standard error. Where no
figure stands, we know none. Recipe and network: the usual ones of that family of methods."""
_CLASSES = LabelHierarchy.flat(("negative", "positive"))


@dataclass(frozen=True)
class Classic:
    """A dataset of the folder.

    Args:
        folder: where it is.
        name: name of its file.
    """

    folder: Path
    name: str

    @cached_property
    def bags(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features ``[N, D]``, offsets ``[B + 1]`` and labels ``[B]``."""
        with np.load(self.folder / f"{self.name}.npz") as file:
            return file["features"], file["offsets"], file["labels"].astype(int)

    @cached_property
    def test_mask(self) -> np.ndarray:
        """``[repeats, folds, B]``."""
        with np.load(self.folder / f"folds_{self.name}.npz") as file:
            return np.asarray(file["test_mask"].astype(bool))

    @cached_property
    def digest(self) -> str:
        """Names data, folds, recipe and network: 8 hex digits. Other ones have other results."""
        digest = hashlib.sha256(repr((_RECIPE, _WIDTHS, _DROPOUT, _RAW)).encode())
        for array in (*self.bags, self.test_mask):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:8]


@dataclass(frozen=True)
class _Training:
    """A method on one fold of a dataset, by one protocol."""

    data: Classic
    method: str
    protocol: str
    repeat: int
    fold: int

    def path(self, results: Path) -> Path:
        """Where its accuracy is kept."""
        name = f"{self.method}-{self.protocol}-repeat-{self.repeat}-fold-{self.fold}.json"
        return results / f"{self.data.name}-{self.data.digest}" / name

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """Seeds it; both protocols begin with the same weights."""
        return self.data.name, self.method, self.repeat, self.fold


def main(words: Sequence[str] | None = None) -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--dataset", nargs="+", metavar="NAME", help="default: all in the folder")
    parser.add_argument("--repeats", type=int, metavar="N", help="the first N (default: all)")
    parser.add_argument("--workers", type=int, metavar="N", help="default: one per core")
    parser.add_argument("--results", type=Path, default=Path("results/classic"), metavar="DIR")
    arguments = parser.parse_args(words)
    found = datasets(arguments.folder)
    if arguments.dataset:
        found = [data for data in found if data.name in arguments.dataset]
    if not found:
        parser.error(f"{arguments.folder} has no NAME.npz with folds_NAME.npz")
    trainings = [
        _Training(data, method, protocol, repeat, fold)
        for data in found
        for repeat in range(len(data.test_mask[: arguments.repeats]))
        for fold in range(data.test_mask.shape[1])
        for method in _METHODS
        for protocol in _PROTOCOLS
    ]
    _train(trainings, arguments.results, arguments.workers)
    print(table(trainings, arguments.results))


def datasets(folder: Path) -> list[Classic]:
    """Every dataset of the folder that has folds."""
    return [
        Classic(folder, path.stem)
        for path in sorted(folder.glob("*.npz"))
        if (folder / f"folds_{path.stem}.npz").is_file()
    ]


def _train(trainings: Sequence[_Training], results: Path, workers: int | None) -> None:
    """Train what has no result yet; every result is written as soon as it is there."""
    missing = [training for training in trainings if not training.path(results).exists()]
    with ProcessPoolExecutor(workers) as pool:
        running = {pool.submit(_accuracy, training): training for training in missing}
        console = Console(stderr=True)
        for done in track(as_completed(running), "training", len(running), console=console):
            content = json.dumps({"accuracy": done.result()}).encode()
            durable.write_once(running[done].path(results), methodcaller("write", content))


def table(trainings: Sequence[_Training], results: Path) -> str:
    """Mean accuracies by both protocols beside the published ones, as Markdown."""
    rows: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for training in trainings:
        repeats = rows.setdefault((training.data.name, training.method, training.protocol), {})
        accuracy = json.loads(training.path(results).read_text())["accuracy"]
        repeats.setdefault(training.repeat, []).append(accuracy)
    means = {key: [float(np.mean(folds)) for folds in row.values()] for key, row in rows.items()}
    lines = [
        "| data | method | repeats | held-back | fixed | fixed - held-back | published |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, method in dict.fromkeys(key[:2] for key in means):
        honest, fixed = (means[name, method, protocol] for protocol in _PROTOCOLS)
        gain = np.mean(fixed) - np.mean(honest)
        cells = [name, method, str(len(fixed)), _shown(honest), _shown(fixed), f"{gain:+.3f}"]
        lines.append(f"| {' | '.join([*cells, _published(name, method)])} |")
    return "\n".join(
        [
            *lines,
            "",
            "Ours: mean accuracy over all folds ± standard deviation over the repeats. held-back:",
            "a fifth of each training part chooses the epoch and does not train. fixed: the whole",
            f"training part trains for {_RECIPE.epochs} epochs, and the last weights count.",
            "",
            _SOURCES,
        ]
    )


def _shown(repeats: Sequence[float]) -> str:
    spread = f" ± {np.std(repeats, ddof=1):.3f}" if len(repeats) > 1 else ""
    return f"{np.mean(repeats):.3f}{spread}"


def _published(name: str, method: str) -> str:
    mean, error = _PUBLISHED.get((name, method), (None, None))
    if mean is None:
        return "not available"
    return f"{mean:.3f}" + (f" ± {error:.3f}" if error is not None else "")


def _accuracy(training: _Training) -> float:
    """Accuracy on a fold's test bags."""
    torch.set_num_threads(1)
    identity, (features, offsets, labels) = training.identity, training.data.bags
    test = training.data.test_mask[training.repeat, training.fold]
    rest = np.flatnonzero(~test)
    train, val = _roles(training, rest, labels)
    if training.data.name.startswith(_RAW):
        features = _standardised(features, offsets, train)
    with tempfile.TemporaryDirectory() as folder:
        store = _stored(Path(folder) / "bags.h5", features.astype(np.float32), offsets, labels)
        with seeds.torch_seeded(*identity, "weights"):
            method = _network(training.method, features.shape[1])
        stack, feed = LoopedStack([method], _RECIPE, [identity]), Feed(store, torch.device("cpu"))

        def keep_the_last(epoch: int, _histories: list[FoldHistory]) -> None:
            if training.protocol == "fixed" and epoch == _RECIPE.epochs - 1:
                stack.keep(0)

        fit(
            stack,
            feed,
            [FoldRoles(train, val)],
            Schedule.of([train], _RECIPE, identity),
            _RECIPE,
            keep_the_last,
        )
        out = predict(stack, feed, np.flatnonzero(test), 0)
    return (out.fine_logits.argmax(1) == out.labels).float().mean().item()


def _roles(
    training: _Training, rest: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the bags that train and that validate.

    With a fixed number of epochs validation decides nothing; training bags take its place.
    """
    if training.protocol == "fixed":
        return rest, rest[:1]
    seed = seeds.derive(*training.identity, "val") % 2**32
    inner = StratifiedKFold(5, shuffle=True, random_state=seed)
    a, b = next(iter(inner.split(rest, labels[rest])))
    return rest[a], rest[b]


def _network(name: str, in_dim: int) -> Method:
    """The method with the usual embedding of these datasets in place of its own."""
    method: Method = registry.methods.load(name)(
        _WIDTHS[-1], _CLASSES, embed_dim=0, attention_dim=_WIDTHS[-1], dropout=_DROPOUT
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
