"""Time of all intervals and verdicts, from stored predictions.

python -m mil_bench.benchmarks.speed.verdicts [--methods 10]

Every method has ten folds with 547 slides in all, seven classes and coarse heads; there are 10,000
draws.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np

from mil_bench import seeds
from mil_bench.evaluation.metrics import Measure
from mil_bench.evaluation.predictions import Predictions, TrainedFold
from mil_bench.evaluation.verdicts import Evidence, verdicts
from mil_bench.hierarchy import LabelHierarchy

_FOLDS, _SLIDES, _PATIENTS = 10, 547, 189
_HIERARCHY = LabelHierarchy.from_groups(
    {"benign": ["N", "PB", "UDH"], "atypical": ["FEA", "ADH"], "malignant": ["DCIS", "IC"]}
)


def main() -> None:
    """Print the time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", type=int, default=10, metavar="M", help="default: 10")
    methods = parser.parse_args().methods
    with tempfile.TemporaryDirectory() as folder:
        _store(Path(folder), methods)
        started = time.perf_counter()
        trained = {
            method: [
                TrainedFold(
                    0, k, method, Predictions.read((Path(folder) / f"{method}-{k}").read_bytes())
                )
                for k in range(_FOLDS)
            ]
            for method in map(str, range(methods))
        }
        evidence = Evidence(trained, _HIERARCHY, ((437, 54),) * _FOLDS, 1, "patient")
        resampled = evidence.bootstrap
        count = sum(
            not resampled.interval(values).reason
            for kind in (resampled.pooled, resampled.fold_mean)
            for of_method in kind.values.values()
            for values in of_method.values()
        )
        pairs = verdicts(evidence, Measure("fine", "macro_auc"))
        seconds = time.perf_counter() - started
    print(
        f"{count} intervals from 10,000 draws and {len(pairs)} verdicts in {seconds:.1f} s, "
        "including the time to read the predictions"
    )


def _store(folder: Path, methods: int) -> None:
    rng = seeds.generator("speed")
    labels, patients = rng.integers(0, 7, _SLIDES), rng.integers(0, _PATIENTS, _SLIDES).astype(str)
    slides = np.arange(_SLIDES).astype(str)
    for method in range(methods):
        fine, coarse = rng.dirichlet(np.ones(7), _SLIDES), rng.dirichlet(np.ones(3), _SLIDES)
        for k in range(_FOLDS):
            part = slice(k, None, _FOLDS)
            file = io.BytesIO()
            Predictions(slides[part], labels[part], fine[part], patients[part], coarse[part]).write(
                file
            )
            (folder / f"{method}-{k}").write_bytes(file.getvalue())


if __name__ == "__main__":
    main()
