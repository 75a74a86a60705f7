"""A trained fold, and its predictions for its test slides."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from mil_bench.datasets.slide_ids import own_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from mil_bench.hierarchy import LabelHierarchy

REPEATS, UP_TO_ROUNDING = "repeats", "up to rounding"
"""How well a repetition agrees, in ``TrainedFold.environment`` of what a GPU trained."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities per slide, from which every metric can be computed again.

    Args:
        slides: ids ``[B]``.
        labels: fine labels ``[B]``.
        fine: fine probabilities ``[B, C]`` float64, rows sum to 1.
        groups: group of each slide, usually its patient, as text ``[B]``; all "" if groups are
            unknown.
        coarse_head: probabilities of the method's own coarse head ``[B, G]``, or None.
        attention_auc: for each slide the AUC of its attention for finding its witness instances
            ``[B]``, not a number for a slide without witnesses or without other instances. None if
            there is no attention or witnesses are unknown.
    """

    slides: np.ndarray
    labels: np.ndarray
    fine: np.ndarray
    groups: np.ndarray
    coarse_head: np.ndarray | None = None
    attention_auc: np.ndarray | None = None

    def write(self, file: BinaryIO) -> None:
        """As an npz archive of plain arrays; the same predictions always give the same bytes."""
        arrays = {
            "slides": self.slides.astype(str),
            "labels": self.labels,
            "fine": self.fine,
            "groups": self.groups.astype(str),
            "coarse_head": self.coarse_head,
            "attention_auc": self.attention_auc,
        }
        np.savez(
            file,
            allow_pickle=False,
            **{name: array for name, array in arrays.items() if array is not None},
        )

    @classmethod
    def read(cls, content: bytes) -> Predictions:
        """The inverse of ``write``."""
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return cls(**dict(archive))

    def part(self, chosen: np.ndarray) -> Predictions:
        """Those of some slides.

        Args:
            chosen: whether a slide is one of them ``[B]`` bool.
        """
        arrays = {name: array for name, array in vars(self).items() if array is not None}
        return Predictions(**{name: array[chosen] for name, array in arrays.items()})

    def of_patients(self) -> Predictions:
        """The means over the slides of each group, in the order of the groups' names.

        A patient's label is that of its slides. Its attention AUC is the mean over those of its
        slides that have one.
        """
        patients, first, of = np.unique(self.groups, return_index=True, return_inverse=True)

        def mean(values: np.ndarray | None) -> np.ndarray | None:
            if values is None:
                return None
            known = ~np.isnan(values)
            total, count = (np.zeros((len(patients), *values.shape[1:])) for _ in range(2))
            np.add.at(total, of, np.where(known, values, 0.0))
            np.add.at(count, of, known)
            return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)

        fine = mean(self.fine)
        assert fine is not None
        return Predictions(
            patients,
            self.labels[first],
            fine,
            patients,
            mean(self.coarse_head),
            mean(self.attention_auc),
        )

    def fault(self, hierarchy: LabelHierarchy) -> str:
        """Why these cannot be predictions of slides of these classes, "" if they can."""
        if self.slides.ndim != 1:
            return f"slides has the shape {self.slides.shape}, not one dimension"
        slides = len(self.slides)
        shapes = {"labels": (slides,), "fine": (slides, hierarchy.n_fine), "groups": (slides,)}
        if self.coarse_head is not None:
            shapes["coarse_head"] = (slides, hierarchy.n_coarse)
        if self.attention_auc is not None:
            shapes["attention_auc"] = (slides,)
        for name, shape in shapes.items():
            actual = getattr(self, name).shape
            if actual != shape:
                return f"{name} has the shape {actual}, not {shape}"
        if (
            self.labels.dtype.kind not in "iu"
            or not np.isin(self.labels, range(hierarchy.n_fine)).all()
        ):
            return "labels are not numbers of fine classes"
        if self.fine.dtype.kind != "f":
            return f"probabilities are of the type {self.fine.dtype}, not numbers"
        return "" if np.isfinite(self.fine).all() else "probabilities are not finite"

    def frame(
        self,
        hierarchy: LabelHierarchy,
        group_name: str = "",
        slides_of: Mapping[str, Sequence[str]] | None = None,
    ) -> pd.DataFrame:
        """One row per slide: id, its patient if patients are known, label, predicted class, and one
        probability column per fine class.

        If these are predictions of patients, a row is a patient, and ``slides`` names its slides.

        Args:
            hierarchy: the classes.
            group_name: what a group is, the heading of the column of patients; "" if unknown.
            slides_of: patient to its slides, if these are predictions of patients.
        """
        import pandas as pd  # a third of a second, and lists of runs do without it

        names = np.array(hierarchy.fine)
        table: dict[str, object] = {"slide": self.slides}
        if slides_of:
            listed = ["; ".join(slides_of[patient]) for patient in self.slides.tolist()]
            table = {group_name: self.slides, "slides": listed}
        elif group_name:
            pairs = zip(self.slides.tolist(), self.groups.tolist(), strict=True)
            known = ["" if group == own_group(slide) else group for slide, group in pairs]
            table |= {group_name: known}
        table |= {"label": names[self.labels], "predicted": names[self.fine.argmax(1)]}
        return pd.DataFrame(
            table | {f"p({name})": self.fine[:, c] for c, name in enumerate(hierarchy.fine)}
        )


@dataclass(frozen=True, eq=False)
class TrainedFold:
    """One trained fold: what is stored of it, and what evaluation reads.

    Args:
        seed: training seed.
        fold: its number.
        job_key: of the job that was trained.
        predictions: of its test slides, or of their patients if labels belong to patients.
        epochs: number of epochs that the recipe asks for; 0 if nothing is trained.
        best_epoch: the epoch whose weights were used, from 0; -1 if nothing is trained.
        curves: name ("train_loss", "val_loss", "val_accuracy") to one value per epoch.
        slides: number of slides by role.
        seconds: wall time of training and prediction.
        environment: versions and device.
        in_dim: feature width the method was built for, None if nothing is trained.
        parameters: number of trained values of the model, None if nothing is trained or an older
            version stored the fold.
        weights: weights and buffers of the selected epoch by name; None if nothing is trained, and
            for a stored fold that was read: ``ResultStore.load_weights`` has them.
        by_slide: of the single slides, if ``predictions`` are means over those of a patient; else
            None.
    """

    seed: int
    fold: int
    job_key: str
    predictions: Predictions
    epochs: int = 0
    best_epoch: int = -1
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    slides: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    in_dim: int | None = None
    parameters: int | None = None
    weights: Mapping[str, np.ndarray] | None = None
    by_slide: Predictions | None = None
