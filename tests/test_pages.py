"""The README and the pages: their links lead somewhere, and their commands exist."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest
from documented_commands import FENCED, PAGES, commands

from mil_bench import cli

if TYPE_CHECKING:
    from pathlib import Path

named = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")


def anchors(page: Path) -> set[str]:
    """What links can name on a page: its headings, as they are written in addresses."""
    text = FENCED.sub("", page.read_text())
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {_NOT_IN_ANCHORS.sub("", title.lower()).strip().replace(" ", "-") for title in titles}


@named
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    lost = []
    for link in _LINK.findall(FENCED.sub("", page.read_text())):
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
