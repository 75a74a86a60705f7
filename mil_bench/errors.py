"""All errors that mil-bench raises on purpose.

    MilBenchError            base; its text is the whole message
    ├── UnknownNameError     no such method, dataset, protocol, preset, run; suggests near matches
    ├── InputError           a file or value from the user is wrong; lists every problem at once
    ├── MissingFeaturesError a real dataset has no packed features here
    ├── SplitError           the split cannot be made, or breaks what its protocol guarantees
    ├── PluginError          an entry point is claimed twice, or cannot be imported
    ├── TrainingError        a training failed (loss not finite); other trainings continue
    ├── TrackingError        MLflow failed in a command that only tracks
    └── StorageError         the disk or a stored result cannot be used; nothing stored is changed

The command line prints the text and exits with code 2, without a traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.wording import gathered, near_names, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST_SHOWN = 50


class MilBenchError(Exception):
    """Base of all errors: its text says what is wrong, what is allowed and what to do."""


class UnknownNameError(MilBenchError):
    """An unknown name; the message suggests similar ones.

    Args:
        kind: what has such a name ("method").
        name: as the user wrote it.
        known: the names that there are.
        searched: where they were looked for, one sentence; "" if there is only one place.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], searched: str = "") -> None:
        known = sorted(known)
        near = near_names(name, known)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        super().__init__(
            f"There is no {kind} '{shortened(name)}'. {hint}Known: {', '.join(known) or 'none'}."
            f"{searched and ' '}{searched}"
        )


class InputError(MilBenchError):
    """An input with all its problems.

    Args:
        what: the input, as the user knows it ("packing FOLDER", a file name).
        problems: one line each, ``location: problem``. Those that differ only in their location
            are shown as one; the message shows the first 50.
        remedy: what to do, one sentence.
    """

    def __init__(self, what: str, problems: Sequence[str], remedy: str) -> None:
        self.problems, self.remedy = tuple(problems), remedy
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems):,} problems"
        shown = gathered(self.problems)
        lines = ["  - " + one_line(line) for line in shown[:_MOST_SHOWN]]
        if len(shown) > _MOST_SHOWN:
            lines.append(f"  ... and {len(shown) - _MOST_SHOWN:,} more")
        super().__init__("\n".join([f"{what}: {count}", *lines, remedy]))

    def advised(self) -> tuple[str, ...]:
        """The problems as lines of a longer list, with the remedy at the end of the last one."""
        return (*self.problems[:-1], f"{self.problems[-1].removesuffix('.')}. {self.remedy}")


def printable(text: str) -> str:
    """Text for a terminal: control and invisible characters are escaped, except line breaks."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def show(text: str) -> None:
    """Print a text that may hold names from files, in which no character commands the terminal."""
    print(printable(text))  # noqa: T201


def one_line(text: str) -> str:
    """Text without line breaks: they too are escaped, like what ``printable`` escapes."""
    return printable(text).replace("\n", "\\n")


class MissingFeaturesError(MilBenchError):
    """The features of a dataset have to be packed first."""


class SplitError(MilBenchError):
    """A split cannot be made from these slides, or breaks what its protocol guarantees."""


class PluginError(MilBenchError):
    """An entry point cannot be used."""


class TrainingError(MilBenchError):
    """A training cannot continue.

    Args:
        text: the message.
        epochs: number of epochs trained before the failure.
    """

    def __init__(self, text: str, epochs: int = 0) -> None:
        super().__init__(text)
        self.epochs = epochs


class TrackingError(MilBenchError):
    """A tracker does not answer, or refuses."""


class StorageError(MilBenchError):
    """A disk or a stored file cannot be used."""
