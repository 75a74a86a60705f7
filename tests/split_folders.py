"""Split files as the real tools write them, for one small study."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pandas as pd

from mil_bench.datasets.card import BagProfile, DatasetSpec, GroupProfile
from mil_bench.datasets.slides import Slides
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.splits.plan import ROLES, Fold

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("calm", "wild")
SLIDES = [f"s{i:02d}" for i in range(24)]
LABEL_OF = {slide: CLASSES[i % 2] for i, slide in enumerate(SLIDES)}
GROUP_OF = {slide: f"p{i // 2}" for i, slide in enumerate(SLIDES)}
FOLDS = tuple(
    Fold(
        train=tuple(s for i, s in enumerate(SLIDES) if (i // 2) % 4 not in (k, (k + 1) % 4)),
        val=tuple(s for i, s in enumerate(SLIDES) if (i // 2) % 4 == (k + 1) % 4),
        test=tuple(s for i, s in enumerate(SLIDES) if (i // 2) % 4 == k),
    )
    for k in range(4)
)
"""Four folds, every slide tested once, no patient in two roles."""

SPEC = DatasetSpec(
    name="study",
    title="a small study",
    hierarchy=LabelHierarchy.flat(CLASSES),
    class_counts=(12, 12),
    groups=GroupProfile("patient", 12, grows=True, purity=0.5),
    bags=BagProfile(10, 0.1, "made up"),
    protocols=("patient-kfold", "official", "paper"),
    source="",
    licence="",
    citation="",
)


def table(**changed: object) -> Slides:
    """What is known of the study's slides."""
    frame = pd.DataFrame(
        {
            "slide": SLIDES,
            "label": [CLASSES.index(LABEL_OF[s]) for s in SLIDES],
            "group": [GROUP_OF[s] for s in SLIDES],
            "split": "",
            "centre": "",
        }
    )
    return Slides(frame.assign(**changed), "patient", "label table study.csv")


def parts_of(fold: Fold) -> dict[str, list[str]]:
    return {role: list(getattr(fold, role)) for role in ROLES}


def write_hmil(folder: Path, folds: tuple[Fold, ...] = FOLDS, start: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, fold in enumerate(folds, start):
        for role, slides in parts_of(fold).items():
            rows = [[slide, LABEL_OF[slide], f"/cluster/pt_files/{slide}.pt"] for slide in slides]
            with (folder / f"{role}_splits_{k}.pkl").open("wb") as file:
                pickle.dump(rows, file, protocol=4)
    return folder


def write_clam(folder: Path, folds: tuple[Fold, ...] = FOLDS, index: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, fold in enumerate(folds):
        columns = {role: pd.Series(slides, dtype=object) for role, slides in parts_of(fold).items()}
        pd.DataFrame(columns).to_csv(folder / f"splits_{k}.csv", index=index)
    return folder


def write_clam_bool(folder: Path, folds: tuple[Fold, ...] = FOLDS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, fold in enumerate(folds):
        rows = {
            slide: [role == part for role in ROLES]
            for part, slides in parts_of(fold).items()
            for slide in slides
        }
        pd.DataFrame.from_dict(rows, orient="index", columns=list(ROLES)).to_csv(
            folder / f"splits_{k}_bool.csv"
        )
    return folder


CONFIG = """\
datasets: [study]
task_col: grade
extra_cols: []
task_type: classification
metrics: [macro-ovr-auc]
label_dict:
  0: calm
  1: wild
sample_col: slide_id
"""


def write_patho_bench(folder: Path, folds: tuple[Fold, ...] = FOLDS, config: str = CONFIG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"case_id": [GROUP_OF[s] for s in SLIDES], "slide_id": SLIDES})
    frame["grade"] = [CLASSES.index(LABEL_OF[s]) for s in SLIDES]
    for k, fold in enumerate(folds):
        role_of = {slide: role for role, slides in parts_of(fold).items() for slide in slides}
        frame[f"fold_{k}"] = [role_of.get(slide, "") for slide in SLIDES]
    frame.to_csv(folder / "k=all.tsv", sep="\t", index=False)
    (folder / "config.yaml").write_text(config)
    return folder


def write_mil_baseline(folder: Path, folds: tuple[Fold, ...] = FOLDS) -> Path:
    """Columns keep the rows of the whole list: a row has one role, and blanks in the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, fold in enumerate(folds, 1):
        frame = pd.DataFrame(index=range(len(SLIDES)))
        for role, slides in parts_of(fold).items():
            rows = [SLIDES.index(slide) for slide in slides]
            frame[f"{role}_slide_path"] = pd.Series(
                [f"/data/feats/{slide}.h5" for slide in slides], rows, dtype=object
            )
            frame[f"{role}_label"] = pd.Series(
                [float(CLASSES.index(LABEL_OF[s])) for s in slides], rows
            )
        frame.to_csv(folder / f"Total_{len(folds)}-fold_study_{k}fold.csv", index=False)
    return folder


def write_transmil(folder: Path, folds: tuple[Fold, ...] = FOLDS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, fold in enumerate(folds):
        columns: dict[str, pd.Series] = {}
        for role, slides in parts_of(fold).items():
            columns[role] = pd.Series(slides, dtype=object)
            columns[f"{role}_label"] = pd.Series([CLASSES.index(LABEL_OF[s]) for s in slides])
        pd.DataFrame(columns).to_csv(folder / f"fold{k}.csv")
    return folder


WRITERS = {
    "hmil": write_hmil,
    "clam": write_clam,
    "clam-bool": write_clam_bool,
    "patho-bench": write_patho_bench,
    "mil-baseline": write_mil_baseline,
    "transmil": write_transmil,
}
