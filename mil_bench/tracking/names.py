"""Names of metrics and settings with the letters that MLflow allows, still distinct."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_LETTERS = 80  # MLflow allows 250 with the section before them, a file system 255 bytes


def plain(name: str) -> str:
    """A name with only characters that MLflow allows, without slashes."""
    letters = "".join(c if c.isalnum() or c in "_-. " else "_" for c in name)
    return letters if letters.strip(".") else "_" * len(letters)  # "." and ".." mean folders


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Every name with its plain name; no two share one.

    A name that is empty, too long, or plain only like another one gets a digest of its letters.
    """
    shown = {name: plain(name) for name in names}
    users = Counter(shown.values())
    for name, letters in shown.items():
        is_alone = letters == name or users[letters] == 1
        if not letters or len(letters) > _MOST_LETTERS or not is_alone:
            digest = hashlib.sha256(name.encode()).hexdigest()[:8]
            shown[name] = f"{letters[:_MOST_LETTERS]} {digest}".lstrip()
    return shown
