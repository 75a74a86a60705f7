"""Print what the simulations found, as Markdown.

python -m mil_bench.benchmarks.statistics [--repeats 2000]     # false alarms and coverage
python -m mil_bench.benchmarks.statistics --speed              # time of 10,000 draws
"""

from __future__ import annotations

import argparse
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from mil_bench.benchmarks.statistics import coverage, false_alarms, rare
from mil_bench.benchmarks.statistics.speed import measure_speed
from rich.console import Console
from rich.progress import track

from mil_bench.evaluation.statistics import SIGNIFICANCE

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Run the simulations, or time the bootstrap."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=2000, metavar="N", help="simulated benchmarks a line"
    )
    parser.add_argument("--speed", action="store_true", help="time the bootstrap instead")
    asked = parser.parse_args()
    if asked.speed:
        print(measure_speed())
        return
    with ProcessPoolExecutor() as pool:
        _print_false_alarms(pool, asked.repeats)
        _print_coverage(pool, asked.repeats)
        _print_rare(pool, asked.repeats)


def _print_false_alarms(pool: Executor, repeats: int) -> None:
    print("## False alarms\n")
    print(
        "Two equal methods are called different at the 5 % level, % of simulated benchmarks that can be compared\n"
    )
    print(f"| folds | figure | {' | '.join(false_alarms.TESTS)} | not comparable |")
    print("|---|---|" + "---|" * (len(false_alarms.TESTS) + 1))
    for scenario in false_alarms.SCENARIOS:
        p = np.array(_all(pool, partial(false_alarms.p_values, scenario), repeats, scenario.name))
        for f, figure in enumerate(false_alarms.TESTED):
            made = [each[~np.isnan(each)] for each in p[:, f].T]
            alarms = [_share(each < SIGNIFICANCE) if len(each) else "" for each in made]
            refused = _share(np.isnan(p[:, f, -1]))
            print(
                f"| {scenario.name} | {figure.words} | {' | '.join(alarms)} | {refused} |",
                flush=True,
            )


def _print_coverage(pool: Executor, repeats: int) -> None:
    found = np.array(
        _all(pool, coverage.intervals, repeats, "coverage")
    )  # [repeats, units, kinds, figures, 3]
    truths = coverage.truths(found)
    print("\n## Coverage\n\n95 % intervals that hold the truth, % of those that can be given\n")
    print(
        "| figure | kind | truth | " + " | ".join(f"{unit} drawn" for unit in coverage.UNITS) + " |"
    )
    print("|---|---|---|" + "---|" * len(coverage.UNITS))
    for f, figure in enumerate(coverage.COVERED):
        for k, kind in enumerate(coverage.KINDS):
            shares = []
            for u in range(len(coverage.UNITS)):
                _, low, high = found[~np.isnan(found[:, u, k, f, 1]), u, k, f].T
                shares.append(_share((low <= truths[k, f]) & (truths[k, f] <= high)))
            print(f"| {figure.words} | {kind} | {truths[k, f]:.3f} | {' | '.join(shares)} |")


def _print_rare(pool: Executor, repeats: int) -> None:
    found = np.array(_all(pool, rare.intervals, repeats, "rare classes"))  # [repeats, bearers, 2]
    print(
        f"\n## Rare classes\n\n95 % intervals that hold the truth, an AUC of {rare.TRUTH:.3f}, % of those given"
    )
    print("before the report's own limit; below it, a report gives none\n")
    print("| patients with the class | intervals that hold the truth |\n|---|---|")
    for b, bearers in enumerate(rare.BEARERS):
        low, high = found[~np.isnan(found[:, b, 0]), b].T
        held = (low <= rare.TRUTH) & (high >= rare.TRUTH)
        print(
            f"| {bearers} | {_share(held) if len(held) else 'none given: too many draws lack it'} |"
        )


def _share(is_so: np.ndarray) -> str:
    """Percentage with its standard error."""
    share = is_so.mean()
    return f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / len(is_so)):.1f}"


def _all(pool: Executor, simulate: Callable[[int], Any], repeats: int, title: str) -> list[Any]:
    done = pool.map(simulate, range(repeats), chunksize=10)
    return list(track(done, title, repeats, console=Console(stderr=True)))


if __name__ == "__main__":
    main()
