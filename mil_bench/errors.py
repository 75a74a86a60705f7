"""Everything mil-bench refuses, in one tree.

    MilBenchError            base: its text is the whole message, for a person
    ├── UnknownNameError     no such method, dataset, protocol, preset, run; suggests near matches
    ├── InputError           something the user handed in is wrong; lists every problem at once
    ├── MissingFeaturesError a real dataset has no packed features here
    ├── SplitError           the asked-for split cannot be made, or breaks its protocol's promise
    ├── PluginError          an entry point is claimed twice, cannot be imported, or breaks the contract
    ├── TrainingError        a training went wrong (loss not finite); other jobs go on
    └── StorageError         the disk or a stored result is not usable; nothing stored is touched

The command line prints the text alone and exits with 2; no traceback reaches a user.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class MilBenchError(Exception):
    """Base of all refusals: says what was given, what is allowed and what to do."""


class UnknownNameError(MilBenchError):
    """A name that is not on the list; the message suggests names that look alike."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        super().__init__(f"There is no {kind} '{name}'. {hint}Known: {', '.join(known) or 'none'}.")


class InputError(MilBenchError):
    """One input with all its problems.

    Args:
        what: the input, as the user knows it ("packing FOLDER", a file name).
        problems: one line each, with the file and place in it.
        remedy: what to do, one sentence.
    """

    def __init__(self, what: str, problems: Sequence[str], remedy: str):
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{what}: {count}", *(f"  - {line}" for line in self.problems), remedy]))


class MissingFeaturesError(MilBenchError):
    """A dataset whose features have to be packed first."""


class SplitError(MilBenchError):
    """A split that cannot be made from these slides, or that breaks what its protocol promises."""


class PluginError(MilBenchError):
    """An entry point that cannot be used."""


class TrainingError(MilBenchError):
    """A training that cannot go on."""


class StorageError(MilBenchError):
    """A disk or a stored file that cannot be used."""
