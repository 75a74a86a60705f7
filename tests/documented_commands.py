"""The commands of README and pages: which there are, and what they need to be run at small size."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from feature_files import write_h5
from label_tables import write_xlsx
from split_folders import write_clam

from mil_bench.splits.plan import Fold

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    .*$", re.MULTILINE)
_ANYTHING = re.compile(r"\[[^\]]*\]|\.\.\.|…")  # of a pattern, not of a call

CLASSES = ("N", "PB", "UDH", "FEA", "ADH", "DCIS", "IC")
"""Of the dataset bracs."""
SLIDES = [f"s{i:02d}" for i in range(84)]
LABEL_OF = {slide: CLASSES[i % 7] for i, slide in enumerate(SLIDES)}
PATIENT_OF = {slide: f"p{i // 2:02d}" for i, slide in enumerate(SLIDES)}
_WIDTH, _ROWS = 8, 6
_SETS = {
    "features": "",
    "features_uni": "",
    "features_conch": "",
    "trident/20x_256px_0px_overlap/features_uni_v1": "uni_v1",
}
"""Folders of feature files to the encoder that the files name."""

_SMALLER = {
    "digits": "bracs-sim:slides=105,rows=6,width=8",
    "bracs-sim": "bracs-sim:slides=105,rows=6,width=8",
    "panda-sim": "panda-sim:slides=96,rows=6,width=8",
}
_TRAINING = ("run", "tune")


def commands(page: Path) -> list[str]:
    """The calls of mil-bench in a page's blocks of code, each on one line, without comments."""
    text = page.read_text()
    blocks = [*FENCED.finditer(text), *_INDENTED.finditer(FENCED.sub(_blank, text))]
    in_order = sorted(blocks, key=lambda found: found.start())
    lines = "\n".join(found[0] for found in in_order).replace("\\\n", " ").splitlines()
    calls = [line.split("#")[0].strip().removeprefix("$ ") for line in lines]
    return [call for call in calls if call.startswith("mil-bench ") and not _ANYTHING.search(call)]


def _blank(found: re.Match[str]) -> str:
    """A block without its text, so that all others stay where they are."""
    return re.sub(r"[^\n]", "\t", found[0])


def make_inputs(folder: Path, page: str) -> None:
    """Write every file that a page speaks of and does not make.

    Args:
        folder: an empty folder, in which the commands are run.
        page: its text; code of methods on it becomes the file that its commands name.
    """
    rows = [(slide, LABEL_OF[slide], PATIENT_OF[slide]) for slide in SLIDES]
    table = "".join(",".join(row) + "\n" for row in [("slide", "label", "patient"), *rows])
    for name in ("labels.csv", "subtype.csv", "grade.csv"):
        (folder / name).write_text(table)
    sheets = {"WSI_Information": [("slide", "label", "patient"), *rows]}
    write_xlsx(folder / "BRACS.xlsx", sheets)
    centres = [("image_id", "data_provider", "isup_grade")]
    centres += [(slide, ("x", "y")[i % 2], str(i // 2 % 6)) for i, slide in enumerate(SLIDES)]
    (folder / "train.csv").write_text("".join(",".join(row) + "\n" for row in centres))
    for number, (name, encoder) in enumerate(_SETS.items()):
        for i, slide in enumerate(SLIDES):
            rng = np.random.default_rng((number, i))
            features = rng.standard_normal((_ROWS, _WIDTH)).astype("float32")
            features[:, CLASSES.index(LABEL_OF[slide])] += 1
            coords = 256 * np.stack([np.arange(_ROWS)] * 2, 1)
            write_h5(folder / name / f"{slide}.h5", features, coords, encoder, 256)
    patients = sorted(set(PATIENT_OF.values()))
    part = {patient: i % 4 for i, patient in enumerate(patients)}
    folds = [
        Fold(*(tuple(s for s in SLIDES if (part[PATIENT_OF[s]] + k) % 4 in of) for of in roles))
        for k, roles in enumerate([((0, 1), (2,), (3,))] * 4)
    ]
    write_clam(folder / "published", tuple(folds))
    for code in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if "class MeanMax" in code:
            (folder / "mean_max.py").write_text(code)


def at_small_size(command: str, runs: Sequence[str], slide: str) -> list[str]:
    """The words of a command, without the program, as the test calls it.

    Datasets are small, methods few, trainings have an epoch, and MLflow is left out; which options
    a command has, and in which order commands follow each other, stays.

    Args:
        command: as the page has it.
        runs: names of the runs for RUN and OTHER.
        slide: of the first of these runs.
    """
    words = shlex.split(command)[1:]
    words = words[: next((i for i, word in enumerate(words) if word in "|>&;"), len(words))]
    names = dict(zip(("RUN", "OTHER"), runs, strict=False)) | {"SLIDE": slide}
    names |= {"my_method.py": "my-method/my_method.py", "SPLITS": "published"}
    words = [names.get(word, word) for word in words]
    if words[0] not in ("runs", "data"):
        words = [_smaller_dataset(word) for word in words]
    if words[0] not in _TRAINING:
        return words
    for group in ("all", "core"):
        if group in words:
            at = words.index(group)
            words[at : at + 1] = ["mean-pool", "hmil"]
    for option in ("--trials", "--tune"):
        if option in words:
            words[words.index(option) + 1] = "2"
    words += ["--epochs", "1"]
    if words[1:2] != ["study.toml"] and "--splits" not in words:
        words += ["--folds", "3"]
    if words[0] == "run":
        words.append("--no-tracking")
    return [*words, "--on", "inline"]


def _smaller_dataset(word: str) -> str:
    name, _, settings = word.partition(":")
    if name not in _SMALLER:
        return word
    others = [
        s for s in settings.split(",") if s and s.partition("=")[0] in ("shift", "difficulty")
    ]
    return ",".join([_SMALLER[name], *others])
