"""Requests as options: parsed from words, and given again as words."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from pathlib import Path

import pytest

import mil_bench
from mil_bench.planning.asked import Asked
from mil_bench.planning.options import add_options, from_arguments, option, words_of
from mil_bench.planning.request import RunRequest
from mil_bench.running.setup import Setup


@dataclasses.dataclass(frozen=True)
class Request:
    """A request of every kind of field."""

    name: str
    number: int | None = option(None, "a number", parse=int, metavar="N")
    paths: tuple[Path, ...] = option((), "files", parse=Path, flag="path")
    quiet: bool = option(False, "say nothing")
    color: bool = option(True, "no colours")
    kind: str = option("a", "a or b", choices=("a", "b"), shown=True)


NAMES = ("number", "paths", "quiet", "color", "kind")
CASES = [
    ([], Request("x"), ["--kind", "a"]),
    (["--number", "3"], Request("x", number=3), ["--number", "3", "--kind", "a"]),
    (
        ["--path", "p", "q", "--no-color"],
        Request("x", paths=(Path("p"), Path("q")), color=False),
        ["--path", "p", "q", "--no-color", "--kind", "a"],
    ),
    (["--quiet", "--kind", "b"], Request("x", quiet=True, kind="b"), ["--quiet", "--kind", "b"]),
]


def parsed(words: list[str]) -> Request:
    parser = argparse.ArgumentParser()
    add_options(parser, Request, *NAMES)
    return from_arguments(Request, parser.parse_args(words), name="x")


@pytest.mark.parametrize(("words", "request_", "shown"), CASES)
def test_words_become_a_request_and_words_again(
    words: list[str], request_: Request, shown: list[str]
) -> None:
    assert parsed(words) == request_
    assert list(words_of(request_)) == shown
    assert parsed(shown) == request_


def test_a_required_option_is_asked_for(capsys: pytest.CaptureFixture) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Request, "number", required=("number",))
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "--number" in capsys.readouterr().err


def test_python_offers_every_field_of_a_request_as_a_keyword_with_its_default() -> None:
    keywords = inspect.signature(mil_bench.run).parameters
    fields = {f.name: f for kind in (RunRequest, Asked, Setup) for f in dataclasses.fields(kind)}
    called = {"encoders": "encoder"}  # one name or several, as of the option
    assert {called.get(name, name) for name in fields} == keywords.keys() - {"unknown"}
    for name in ("protocol", "folds", "preset", "epochs", "tune", "tuned", "select", "pruning"):
        assert keywords[name].default == fields[name].default
    for name in ("metric", "margin", "reference", "pairs"):
        assert keywords[name].default == fields[name].default
        assert inspect.signature(mil_bench.open_run).parameters[name].default == (
            fields[name].default
        )
    for name in ("workers", "device", "on", "patience_minutes", "tracking", "progress"):
        assert keywords[name].default == fields[name].default
