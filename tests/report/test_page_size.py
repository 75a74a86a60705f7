from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

import pytest
from made_runs import run_result, trained_folds

from mil_bench.report.render import page as pages
from mil_bench.report.render.page_size import LIMIT, Part, too_large

if TYPE_CHECKING:
    from pathlib import Path


def parts(**sizes: int) -> list[Part]:
    return [Part(f"figure-{name}", name, f"{name}.svg", size) for name, size in sizes.items()]


def test_a_page_leaves_out_its_largest_parts_and_no_more_than_it_has_to() -> None:
    all_parts = parts(small=2_000, largest=90_000, large=50_000, middle=20_000)
    assert list(too_large(all_parts, 1)) == ["figure-largest"]
    assert list(too_large(all_parts, 89_000)) == ["figure-largest"]
    assert list(too_large(all_parts, 90_000)) == ["figure-largest", "figure-large"]
    assert too_large(all_parts, 0) == {}


def test_a_part_that_is_smaller_than_the_note_in_its_place_stays() -> None:
    assert list(too_large(parts(tiny=900, large=5_000), 10**6)) == ["figure-large"]


@pytest.mark.slow  # pages hold all figures
def test_a_page_stays_below_its_limit_and_says_which_files_have_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_result({"<good>": trained_folds(3.0), "bad": trained_folds(0.5)})
    whole = result.write(tmp_path).read_text()
    assert len(whole.encode()) < LIMIT
    assert "left-out" not in whole
    limit = len(whole.encode()) // 2
    monkeypatch.setattr(pages, "LIMIT", limit)
    text = pages.page(result._report)
    assert len(text.encode()) <= limit
    said = re.search(r'<p class="left-out">(.*?)</p>', text, re.DOTALL)[1]
    assert said.startswith(f"So that this page stays below {limit / 1e6:g} MB, ")
    named = re.findall(r'<a href="#(.*?)">(.*?)</a> \((.*?)\)', said)
    assert "figure-roc" in {identity for identity, _, _ in named}
    for identity, title, file in named:
        element = re.search(rf'id="{identity}">.*?</(?:figure|section)>', text, re.DOTALL)[0]
        assert unescape(title) in unescape(element)
        assert f'<a href="{file}">' in element
        assert not re.search("<svg|<table|<template", element)
        assert (tmp_path / file).stat().st_size > 0
    shown = set(re.findall(r'<(?:figure|section class="table") id="([\w-]+)"', whole))
    left_out = {identity for identity, _, _ in named}
    assert left_out < shown
    for identity in shown - left_out:
        element = rf'id="{identity}">.*?</(?:figure|section)>'
        assert re.search(element, text, re.DOTALL)[0] == re.search(element, whole, re.DOTALL)[0]
