"""What the doctor has found, in words that may be shown to strangers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\")]+", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w.~/\\])(?:[A-Za-z]:)?(?:~|\.{1,2})?(?:[/\\][^\s/\\:,;'\"()]+)+[/\\]?")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: what it is, in a few words: "folder of results, locks".
        seen: what was seen, one line.
        problem: what would go wrong, one sentence; "" if nothing.
        remedy: what to do about it, one sentence; "" if there is no problem.
    """

    subject: str
    seen: str
    problem: str = ""
    remedy: str = ""

    def shareable(self) -> Finding:
        """The same without what names a person or a machine: paths and addresses."""
        return replace(self, seen=_shareable(self.seen), problem=_shareable(self.problem))


def _shareable(text: str) -> str:
    """A text without its paths and addresses."""
    return _PATH.sub("[path]", _ADDRESS.sub("[address]", text))
