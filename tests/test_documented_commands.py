"""Every command of README and pages is run at small size, page by page, or is listed with a reason.

Each page has an empty folder with the files that it speaks of. Its commands are run in their order,
in this process, by ``at_small_size``. A command that cannot be run here is in ``NOT_RUN``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from documented_commands import PAGES, at_small_size, commands, make_inputs

from mil_bench import registry
from mil_bench.cli import main
from mil_bench.report.figures.gallery import Gallery
from mil_bench.results import Results
from mil_bench.running.result_store import ResultStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOT_RUN = {
    r"data get ": "needs the hub; tests/public has a stand-in",
    r"camelyon16": "needs features from the hub",
    r"--on slurm": "needs Slurm; tests/cluster/test_slurm.py",
    r"--on dask": "needs a Dask cluster; tests/cluster/test_dask.py",
    r"--on workers|mil-bench worker ": "several processes; tests/cluster/test_workers.py",
    r"--device cuda": "needs a GPU",
    r"mil-bench doctor": "trains on all cores for a minute; tests/test_doctor.py runs its parts",
    r"mil-bench reproduce": "trains every method on ten folds; tests/papers",
    r"methods import FILE": "needs a checkpoint of other authors; "
    "tests/methods/test_checkpoints.py",
    r"--image SLIDE.svs": "needs OpenSlide and a slide's image; tests/inference/test_maps.py",
    r"--methods my-method --dataset bracs --splits results/imported": "needs another lab's bundle; "
    "tests/sharing/test_bundles.py",
    r"report THEIR_RUN YOUR_RUN|results import": "as above",
    r"methods check my-method$": "needs pip install; README's --plugin form is run",
    r"run --methods my-method abmil --dataset": "as above",
    r"data pack FOLDER|data info NAME|--dataset A --test-on B": "names stand for anything",
}
"""Pattern of a command to the reason why it is not run, and where its code is tested."""
BEFORE = {
    "features.md": [
        "mil-bench data new subtype --labels subtype.csv",
        "mil-bench data new grade --labels grade.csv",
    ]
}
"""What a page takes for granted."""
OF_BRACS = "--dataset bracs --labels BRACS.xlsx"
RUNS = [
    "mil-bench run --methods abmil hmil clam-sb --dataset bracs-sim",
    "mil-bench run --methods abmil hmil clam-sb mean-pool --dataset bracs-sim",
]
"""Runs that are there where a page speaks of RUN and OTHER; with hmil, abmil and clam-sb."""
WITH_COMMANDS = [page for page in PAGES if commands(page)]
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1" width="1pt" height="1pt"/>'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder. Figures, which have tests of their own, are not drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIL_BENCH_DATA", raising=False)
    monkeypatch.setattr(Gallery, "svg", lambda *_: _SVG)
    files = dict(registry.methods._files)
    yield tmp_path
    registry.methods._files.clear()  # plugins of the page
    registry.methods._files.update(files)


def reason_of(command: str) -> str:
    """Why a command is not run, "" if it is."""
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, command)), "")


def called(command: str, folder: Path) -> int:
    """Call a command at small size; first make what it needs and the page does not."""
    packed = folder / "data" / "bracs.h5"
    if command.startswith("mil-bench data pack ") and "--encoder" not in command:
        packed.unlink(missing_ok=True)  # made here for an earlier command
    takes_it = re.search(r" (run|tune|plan) .*--dataset bracs( |$)", command)
    if takes_it and not [*packed.parent.glob("bracs*.h5")]:
        assert called(f"mil-bench data pack features {OF_BRACS}", folder) == 0
    wanted = {name for name in registry.methods.names() if re.search(rf"\b{name}\b", command)}
    needed = len(set(re.findall(r"\b(?:RUN|OTHER)\b", command)))
    if len(runs_with(wanted, folder)) < needed:
        assert [called(run, folder) for run in RUNS] == [0, 0]
    runs = runs_with(wanted, folder)
    plan = ResultStore(Results(folder / "results").runs).load_plan(runs[0]) if needed else None
    slide = plan.splits.folds[0].test[0] if plan else ""
    return main(at_small_size(command, runs, slide))


def runs_with(methods: set[str], folder: Path) -> list[str]:
    """Names of the stored runs that have these methods."""
    store = ResultStore(Results(folder / "results").runs)
    return [name for name in store.runs() if methods <= set(store.load_plan(name).methods)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what MLflow calls
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(
    page: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_inputs(folder, page.read_text())
    failed = []
    for command in [*BEFORE.get(page.name, []), *commands(page)]:
        if reason_of(command):
            continue
        code = called(command, folder)
        shown = capsys.readouterr()
        # An audit says by its exit code that it found leaks.
        if code not in ((0, 1) if " audit " in command else (0,)):
            failed.append(f"{command}: exit code {code}: {shown.err[-2000:]}")
    assert not failed, "\n".join(failed)


def test_every_reason_is_of_some_command() -> None:
    every = [command for page in PAGES for command in commands(page)]
    unused = [pattern for pattern in NOT_RUN if not any(re.search(pattern, c) for c in every)]
    assert not unused
    assert sum(not reason_of(command) for command in every) > len(every) / 2
