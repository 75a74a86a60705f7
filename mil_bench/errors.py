"""Everything mil-bench refuses, in one tree.

    MilBenchError            base: its text is the whole message, for a person
    ├── UnknownNameError     no such method, dataset, protocol, preset, run; suggests near matches
    ├── InputError           something the user handed in is wrong; lists every problem at once
    ├── MissingFeaturesError a real dataset has no packed features here
    ├── SplitError           the asked-for split cannot be made, or breaks its protocol's promise
    ├── PluginError          an entry point is claimed twice, cannot be imported, or breaks the
    contract ├── TrainingError        a training went wrong (loss not finite); other jobs go on
    ├── TrackingError        MLflow failed where it was asked for by itself
    └── StorageError         the disk or a stored result is not usable; nothing stored is touched

The command line prints the text alone and exits with 2; no traceback reaches a user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.wording import near_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST_SHOWN = 50


class MilBenchError(Exception):
    """Base of all refusals: says what was given, what is allowed and what to do."""


class UnknownNameError(MilBenchError):
    """A name that is not on the list; the message suggests names that look alike."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = near_names(name, known)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        super().__init__(f"There is no {kind} '{name}'. {hint}Known: {', '.join(known) or 'none'}.")


class InputError(MilBenchError):
    """One input with all its problems.

    Args:
        what: the input, as the user knows it ("packing FOLDER", a file name).
        problems: one line each, with the file and place in it. All are kept, the message shows the
            first 50.
        remedy: what to do, one sentence.
    """

    def __init__(self, what: str, problems: Sequence[str], remedy: str) -> None:
        self.problems, self.remedy = tuple(problems), remedy
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems):,} problems"
        lines = [
            "  - " + printable(line).replace("\n", "\\n") for line in self.problems[:_MOST_SHOWN]
        ]
        if len(self.problems) > _MOST_SHOWN:
            lines.append(f"  ... and {len(self.problems) - _MOST_SHOWN:,} more")
        super().__init__("\n".join([f"{what}: {count}", *lines, remedy]))

    def advised(self) -> tuple[str, ...]:
        """The problems as lines of a longer list: the remedy stands behind the last of them."""
        return (*self.problems[:-1], f"{self.problems[-1].removesuffix('.')}. {self.remedy}")


def printable(text: str) -> str:
    """Text for a terminal: what it would obey or not show (ESC, zero-width space) is escaped; line breaks stay."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


class MissingFeaturesError(MilBenchError):
    """A dataset whose features have to be packed first."""


class SplitError(MilBenchError):
    """A split that cannot be made from these slides, or that breaks what its protocol promises."""


class PluginError(MilBenchError):
    """An entry point that cannot be used."""


class TrainingError(MilBenchError):
    """A training that cannot go on.

    Args:
        text: the message.
        epochs: that were trained until then.
    """

    def __init__(self, text: str, epochs: int = 0) -> None:
        super().__init__(text)
        self.epochs = epochs


class TrackingError(MilBenchError):
    """A tracker that does not answer, or refuses."""


class StorageError(MilBenchError):
    """A disk or a stored file that cannot be used."""
