"""The README and the pages: their links lead somewhere, and their commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mil_bench import cli

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
named = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")
_INDENTED = re.compile(r"^    .*$", re.MULTILINE)
_ANYTHING = re.compile(r"\[[^\]]*\]|\.\.\.|…")  # of a pattern, not of a call


def anchors(page: Path) -> set[str]:
    """What links can name on a page: its headings, as they are written in addresses."""
    text = _FENCED.sub("", page.read_text())
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {_NOT_IN_ANCHORS.sub("", title.lower()).strip().replace(" ", "-") for title in titles}


def commands(page: Path) -> list[str]:
    """The calls of mil-bench in a page's blocks of code, each on one line, without comments."""
    text = page.read_text()
    blocks = [*_FENCED.findall(text), *_INDENTED.findall(_FENCED.sub("", text))]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    calls = [line.split("#")[0].strip().removeprefix("$ ") for line in lines]
    return [call for call in calls if call.startswith("mil-bench ") and not _ANYTHING.search(call)]


@named
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    lost = []
    for link in _LINK.findall(_FENCED.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert not lost


@named
def test_commands_are_understood(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli._parser()
    refused = []
    for command in commands(page):
        words = shlex.split(command)[1:]
        words = words[: next((i for i, word in enumerate(words) if word in "|>&;"), len(words))]
        try:
            parser.parse_args(words)
        except SystemExit as ended:
            if ended.code:
                refused.append(f"{command}: {capsys.readouterr().err.splitlines()[-1]}")
    assert not refused


def test_commands_are_found_in_pages() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 60
