"""Lines on a terminal and in a pipe, and links."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mil_bench.commands.terminal.printing import Output, complain, folded, linked, width_of

PATH = "results/reports/digits_patient-kfold_1bf5a154/report.html"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("one two three", "one two\nthree"),
        ("- one two three", "- one two\n  three"),
        ("  - one two three", "  - one\n    two\n    three"),
        ("! one two three", "! one two\n  three"),
        ("ab  one two three", "ab  one\n    two\n    three"),
        ("align_bags=false-and-more x", "align_bags=false-and-more\nx"),
        ("Run:  mil-bench run --dataset digits", "Run:\n  mil-bench run --dataset digits"),
        ("  mil-bench run --dataset digits", "  mil-bench run --dataset digits"),
        ("See: mil-bench run x", "See:\n  mil-bench run x"),
    ],
)
def test_a_wide_line_goes_on_below_itself_and_a_command_stays_whole(line: str, shown: str) -> None:
    assert folded(line, 10) == shown


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(words=st.lists(st.text("ab=腺", min_size=1), max_size=20), width=st.integers(8, 40))
def test_no_word_is_lost_or_broken_and_lines_fit_if_words_do(words: list[str], width: int) -> None:
    lines = folded(" ".join(words), width).split("\n")
    assert " ".join(lines).split() == words
    assert all(width_of(part) <= width or len(part.split()) == 1 for part in lines)


def test_a_terminal_gets_folded_lines_and_a_pipe_whole_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = f"Report: {PATH}  (tables as Markdown, CSV and LaTeX in the same folder)\n"
    for stream, lines in ((Terminal(), 3), (io.StringIO(), 1)):
        output = Output(stream)
        print(text, end="", file=output)
        output.flush()
        assert stream.getvalue().count("\n") == lines
        assert PATH in stream.getvalue()


def test_what_is_printed_in_parts_is_folded_as_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    output = Output(stream)
    print("word " * 10, end="", file=output)
    print("word " * 10, file=output)
    assert [len(line) <= 60 for line in stream.getvalue().splitlines()] == [True, True]


def test_an_error_on_a_terminal_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    complain("the request: 1 problem\n  - " + "word " * 20 + "\x1b[2J")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "mil-bench: the request: 1 problem"
    assert all(line.startswith(("  - word", "    word")) for line in lines[1:])
    assert all(len(line) <= 60 for line in lines)
    assert "\x1b" not in stream.getvalue()


TERMS = [
    ({"TERM": "xterm-256color", "VTE_VERSION": "7600"}, True),
    ({"TERM": "xterm-256color", "VTE_VERSION": "4200"}, False),
    ({"TERM": "xterm-256color"}, False),
    ({"TERM": "xterm-kitty"}, True),
    ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode"}, True),
    ({"TERM": "screen-256color", "TERM_PROGRAM": "vscode"}, False),
    ({"TERM": "dumb", "FORCE_HYPERLINK": "1"}, True),
    ({"TERM": "xterm-kitty", "FORCE_HYPERLINK": "0"}, False),
    ({"TERM": "xterm-kitty", "SSH_CONNECTION": "10.0.0.1"}, False),
]


@pytest.mark.parametrize(("environment", "links"), TERMS)
def test_a_path_is_a_link_where_the_terminal_can(
    environment: dict[str, str], links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VTE_VERSION", "TERM_PROGRAM", "FORCE_HYPERLINK", "SSH_CONNECTION", "WT_SESSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("KONSOLE_VERSION", raising=False)
    monkeypatch.delenv("KITTY_WINDOW_ID", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Terminal())
    shown = linked(Path("a b.html"))
    address = Path("a b.html").resolve().as_uri()
    assert (shown == f"\x1b]8;;{address}\x1b\\a b.html\x1b]8;;\x1b\\") == links
    assert (shown == "a b.html") != links
    assert width_of(shown) == len("a b.html")


def test_a_pipe_gets_the_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-kitty")
    monkeypatch.delenv("FORCE_HYPERLINK", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert linked(Path("a.html")) == "a.html"
