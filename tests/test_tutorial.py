"""The tutorial's cells run in order; what they find is what its text says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert list(names["fine"].index) == ["abmil", "mean-pool", "lookup"]
    assert names["accuracy"] > 0.5  # of seven classes
    assert names["output"].attention.sum().item() == pytest.approx(1)
    assert (tmp_path / "my-report" / "report.html").exists()
