"""Single files with methods: what may lie beside them, and what they may do when imported."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL_TWIN

from mil_bench import registry
from mil_bench.cli import main
from mil_bench.errors import PluginError
from mil_bench.methods import Method
from mil_bench.registry import Registry

METHOD = '''
from torch import nn
from mil_bench.bags.segments import segment_mean
from mil_bench.methods import Method, Output, Recipe


class Mine(Method):
    """Mean pooling."""

    recipe = Recipe(learning_rate=1e-3, epochs=1)

    def __init__(self, in_dim, hierarchy):
        super().__init__(in_dim, hierarchy)
        self.classifier = nn.Linear(in_dim, hierarchy.n_fine)

    def forward(self, bags):
        return Output(FACTOR * self.classifier(segment_mean(bags.features, bags)))
'''


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    offered = Registry("mil_bench.methods", "method")
    monkeypatch.setattr(registry, "methods", offered)
    return offered


def written(path: str, text: str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            "import argparse\nargparse.ArgumentParser().parse_args(['--unknown'])\n",
            "mine.py cannot be imported: it ended the program (SystemExit 2) (line 2). Put what",
        ),
        ("import sys\nsys.exit('bye')\n", "it ended the program (SystemExit bye) (line 2). Put"),
        ("1 / 0\n", "mine.py cannot be imported: ZeroDivisionError: division by zero (line 1)."),
        ("def f(:\n", "mine.py cannot be imported: SyntaxError: "),
        ("import nothing_of_this_name\n", "ModuleNotFoundError: No module named 'nothing_of_th"),
        ("class E(Exception):\n  def __str__(self): 1 / 0\nraise E\n", "cannot be imported: E (l"),
        ("class E(BaseException): pass\nraise E('no')\n", "cannot be imported: E: no (line 2)."),
        ("\0", "mine.py cannot be imported: "),
        ("# -*- coding: latin-99 -*-\n", "mine.py cannot be imported: SyntaxError: "),
    ],
)
def test_a_file_that_fails_on_import_is_named_with_its_line(
    offered: Registry, start: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written("mine.py", start + METHOD)
    for command in (["methods", "check", "mine"], ["run", "--methods", "mine", "--dataset", "x"]):
        assert main([*command, "--plugin", str(file)]) == 2
        shown = capsys.readouterr()
        assert message in shown.err
        assert "usage:" not in shown.err
        assert not shown.out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py", "missing.py: there is no such file."),
        ("folder", "folder is a folder. Name a Python file in it."),
        ("notes.txt", "notes.txt is not a Python file: the name of one ends in .py."),
        ("missing.txt", "missing.txt: there is no such file."),
    ],
)
def test_what_is_no_python_file_says_so(offered: Registry, name: str, message: str) -> None:
    Path("folder").mkdir()
    written("notes.txt", METHOD)
    with pytest.raises(PluginError, match=message):
        offered.add_file(Path(name), Method)


def test_a_file_that_moves_elsewhere_on_import_moves_nobody_else(offered: Registry) -> None:
    here = Path.cwd()
    file = written("mine.py", "import os\nos.chdir('/')\nFACTOR = 1\n" + METHOD)
    assert offered.add_file(file, Method) == ["mine"]
    assert Path.cwd() == here


def test_what_a_file_writes_to_standard_error_is_shown_if_it_is_imported(
    offered: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written("mine.py", "import sys\nsys.stderr.write('hello')\nFACTOR = 1\n" + METHOD)
    offered.add_file(file, Method)
    assert capsys.readouterr().err == "hello"


def factor(offered: Registry) -> int:
    return vars(sys.modules[offered.load("mine").__module__])["FACTOR"]


def test_modules_beside_a_file_are_found_and_count_as_part_of_it(offered: Registry) -> None:
    file = written("a/mine.py", "from parts.inner import FACTOR\n" + METHOD)
    written("a/parts/__init__.py", "")
    written("a/parts/inner.py", "from .deep import FACTOR\n")
    written("a/parts/deep.py", "from numbers_of_mine import FACTOR\n")
    helper = written("a/numbers_of_mine.py", "FACTOR = 2\n")
    written("a/stranger.py", "FACTOR = 9\n")
    offered.add_file(file, Method)
    assert factor(offered) == 2
    digest = offered.digest("mine")
    written("a/stranger.py", "FACTOR = 10\n")
    offered.add_file(file, Method)
    assert offered.digest("mine") == digest
    helper.write_text("FACTOR = 33\n")
    offered.add_file(file, Method)
    assert factor(offered) == 33
    assert offered.digest("mine") != digest


def test_a_file_without_modules_beside_it_keeps_its_digest(offered: Registry) -> None:
    file = written("mine.py", "FACTOR = 1\n" + METHOD)
    offered.add_file(file, Method)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    assert offered.version("mine", offered.load("mine")) == f"1+{digest}"


def test_two_files_may_have_helpers_of_the_same_name(offered: Registry) -> None:
    for folder, value in (("a", 1), ("b", 2)):
        file = written(f"{folder}/mine.py", "from same_name import FACTOR\n" + METHOD)
        written(f"{folder}/same_name.py", f"FACTOR = {value}\n")
        offered._files.clear()
        offered.add_file(file, Method)
        assert factor(offered) == value


def test_an_edited_file_is_taken_as_it_is_now_by_whichever_path(offered: Registry) -> None:
    file = written("mine.py", "FACTOR = 1\n" + METHOD)
    offered.add_file(file, Method)
    file.write_text("FACTOR = 2\n" + METHOD.replace("class Mine", "class Other"))
    assert offered.add_file(file.resolve(), Method) == ["other"]
    assert "mine" not in offered.names()
    file.write_text("FACTOR = 3\n" + METHOD)
    offered.add_file(file, Method)
    assert factor(offered) == 3


@pytest.mark.slow
def test_a_worker_finds_modules_beside_a_file(offered: Registry) -> None:
    file = written("a/mine.py", "from numbers_of_worker import FACTOR\n" + METHOD)
    written("a/numbers_of_worker.py", "FACTOR = 2\n")
    script = (
        "import mil_bench\n"
        f"result = mil_bench.run(['mine', 'mean-pool'], '{SMALL_TWIN}', folds=2, epochs=1,\n"
        f"    plugins='{file}', tracking=False, progress=False, workers=2)\n"
        "print(sorted(result.trained), result.failures)\n"
    )
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert "'mine'" in done.stdout, done.stderr
    assert "()" in done.stdout or "[]" in done.stdout
