"""What commands print: on a terminal, lines are broken between words; elsewhere they stay whole.

A program that reads a pipe gets one sentence per line. On a terminal, no word, path or command is
broken: a line that is too wide continues below, under the text that it belongs to. What is a
command to be pasted is never broken, since a break would be pasted with it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, TextIO

from mil_bench.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_ESCAPES = re.compile(r"\x1b\]8;;.*?\x1b\\|\x1b\[[0-9;]*m")
_PROGRAM = r"(?:mil-bench|mlflow|optuna-dashboard|pip)"
_COMMAND = re.compile(rf"(?:^|(?<=: )|(?<=:  ))\s*{_PROGRAM} [a-z-].*")
_HANGING = re.compile(r"\s*(?:[-!] )?")
_GAP = re.compile(r"\S {2,}(?=\S)")
_LINKING_PROGRAMS = ("ghostty", "Hyper", "iTerm.app", "vscode", "WezTerm")
_LINKING_TERMS = ("alacritty", "foot", "xterm-ghostty", "xterm-kitty")
_FIRST_VTE = 5000  # the version of the terminals of GNOME that has links


def width_of(text: str) -> int:
    """Columns that a text takes on a terminal; sequences that steer it take none."""
    from rich.cells import cell_len

    return cell_len(_ESCAPES.sub("", text))


def folded(line: str, width: int) -> str:
    """A line in as many lines as it needs, broken between words.

    Args:
        line: without a line break. What follows a gap of two blanks in its first half, a bullet or
            an indentation continues below itself.
        width: columns of the terminal.
    """
    if width_of(line) <= width:
        return line
    command = _COMMAND.search(line)
    start, last = (line, "") if command is None else (line[: command.start()], command[0].strip())
    if not start.strip():
        return line
    found = _HANGING.match(start)
    indent = found.end() if found else 0
    gaps = [gap.end() for gap in _GAP.finditer(start) if gap.end() <= width // 2]
    indent = gaps[-1] if gaps else indent
    lines, first = [start[:indent]], True
    for word in [*start[indent:].split(), *([last] if last else [])]:
        blank = "" if first else " "
        if not first and width_of(f"{lines[-1]} {word}") > width:
            lines.append(" " * (2 if word is last else indent))
            blank = ""
        lines[-1] += blank + word
        first = False
    return "\n".join(lines)


def linked(path: Path) -> str:
    """A path for a sentence: a link that opens it if standard output can show one."""
    text = printable(str(path))
    if not _links(sys.stdout, os.environ) or "SSH_CONNECTION" in os.environ:
        return text  # over SSH, a link would open a file of the wrong machine
    return f"\x1b]8;;{path.resolve().as_uri()}\x1b\\{text}\x1b]8;;\x1b\\"


def _links(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether a stream is a terminal that shows links (OSC 8) and not the sequence of letters."""
    if forced := environment.get("FORCE_HYPERLINK"):
        return forced != "0"
    if not stream.isatty() or environment.get("TERM", "dumb").startswith(("dumb", "screen")):
        return False
    version = environment.get("VTE_VERSION", "")
    return (
        environment.get("TERM_PROGRAM") in _LINKING_PROGRAMS
        or environment.get("TERM") in _LINKING_TERMS
        or bool({"WT_SESSION", "KONSOLE_VERSION", "KITTY_WINDOW_ID"} & environment.keys())
        or (version.isdecimal() and int(version) >= _FIRST_VTE)
    )


def complain(text: str) -> None:
    """Print an error or a warning to standard error, with the name of the program before it."""
    lines = printable(f"mil-bench: {text}").split("\n")
    if sys.stderr.isatty():
        lines = [folded(line, shutil.get_terminal_size().columns) for line in lines]
    print("\n".join(lines), file=sys.stderr)


class Output(io.TextIOBase):
    """Standard output of a command; if its reader has ended (``| head``), the rest is dropped.

    Args:
        stream: the real standard output.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""  # of a line whose end is still to come

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        if self.isatty():
            *lines, self._begun = f"{self._begun}{text}".split("\n")
            width = shutil.get_terminal_size().columns
            self._pass_on("".join(f"{folded(line, width)}\n" for line in lines))
        else:
            self._pass_on(text)
        return len(text)

    def _pass_on(self, text: str) -> None:
        with self._without_reader():
            self._stream.write(text)

    def flush(self) -> None:
        """Pass on what is buffered, or drop it."""
        self._pass_on(self._begun)
        self._begun = ""
        with self._without_reader():
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Descriptor of the real stream."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only is enough
        """Encoding of the real stream."""
        return self._stream.encoding

    @contextlib.contextmanager
    def _without_reader(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
