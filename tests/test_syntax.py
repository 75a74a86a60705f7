"""Syntax trees of files that are not run."""

from __future__ import annotations

import ast

import pytest

from mil_bench.registry import syntax


def test_a_thread_that_was_disturbed_parses_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parse, disturbed = ast.parse, [True, True]

    def interrupted(source: str) -> ast.Module:
        if disturbed:
            disturbed.pop()
            raise SystemError("AST constructor recursion depth mismatch (before=183, after=29)")
        return parse(source)

    monkeypatch.setattr(syntax.ast, "parse", interrupted)
    assert ast.dump(syntax.syntax_of("x = 1")) == ast.dump(parse("x = 1"))
    disturbed.extend([True] * 9)
    with pytest.raises(SystemError):
        syntax.syntax_of("x = 1")
