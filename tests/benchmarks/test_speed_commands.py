"""The speed measurements as a command: what they refuse before they measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed import data


def test_a_folder_that_is_not_there_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["data", "--folder", str(tmp_path / "missing")])
    with pytest.raises(SystemExit) as left:
        data.main()
    assert left.value.code == 2
    assert f"--folder {tmp_path / 'missing'}: there is no such folder" in capsys.readouterr().err
