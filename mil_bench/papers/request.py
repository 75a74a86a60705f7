"""What a user asks to reproduce."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from mil_bench.planning.options import option, words_of


@dataclass(frozen=True)
class ReproduceRequest:
    """What a user asks for.

    Args:
        items: names of items, or ("all",), which leaves out items about simulated data unless
            ``datasets`` names such data.
        datasets: only these, simulated ones in place of the real ones; () for the items' own.
        preset: a key of ``PRESETS``.
        splits: split files, at most one per dataset, followed instead of the items' protocols.
        allow_missing: follow split files without their slides that have no features.
        published: a file of published values to show next to ours, None for those that we know.
        epochs: epochs for every method, None for those of recipe and preset.
        tune: number of trials per row, None for the rows as they are.
    """

    items: tuple[str, ...]
    datasets: tuple[str, ...] = option(
        (),
        "only these datasets; simulated data only if named here: bracs-sim, bracs-sim:slides=200",
        metavar="NAME",
        flag="dataset",
    )
    preset: str = option(
        "paper",
        "budget: paper, the authors' recipes on all folds (default); or quick, few folds and "
        "epochs, and small simulated datasets",
        metavar="NAME",
        shown=True,
    )
    splits: tuple[Path, ...] = option(
        (),
        "follow these split files, one per dataset, instead of the paper's protocol",
        parse=Path,
        metavar="FILE",
    )
    allow_missing: bool = option(
        False, "follow split files without their slides that have no features; tables say so"
    )
    published: Path | None = option(
        None,
        "a CSV file of values from the paper to show next to ours, one per line; columns: table, "
        "page, method, metric, mean, std",
        parse=Path,
        metavar="FILE",
    )
    epochs: int | None = option(
        None, "epochs for every method (default: recipe and preset)", parse=int, metavar="N"
    )
    tune: int | None = option(
        None,
        "first run a search of N trials per row; settings that a row fixes are not tuned",
        parse=int,
        metavar="N",
    )

    @property
    def command(self) -> str:
        """The command for the same request."""
        return shlex.join(["mil-bench", "reproduce", *self.items, *words_of(self)])
