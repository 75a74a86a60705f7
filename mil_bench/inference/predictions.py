"""What several models of one method predict for slides, and their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mil_bench.errors import InputError
from mil_bench.evaluation.predictions import Predictions
from mil_bench.inference.models import applied, batch_of, require_rows
from mil_bench.progress import unwatched
from mil_bench.running.denormals import denormals_as_zero

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.bags.batch import BagBatch
    from mil_bench.hierarchy import LabelHierarchy
    from mil_bench.inference.models import FoldModel
    from mil_bench.inference.slides import NewSlides
    from mil_bench.methods import Method
    from mil_bench.progress import Watch


@dataclass(frozen=True, eq=False)
class ModelPredictions:
    """Probabilities of M models for B slides.

    Args:
        hierarchy: the classes.
        slides: ids ``[B]``.
        models: seed and fold of each model.
        fine: fine probabilities ``[M, B, C]``.
        coarse_head: probabilities of the models' own coarse heads ``[M, B, G]``, or None.
    """

    hierarchy: LabelHierarchy
    slides: np.ndarray
    models: tuple[tuple[int, int], ...]
    fine: np.ndarray
    coarse_head: np.ndarray | None = None

    def of_model(
        self, m: int, chosen: np.ndarray, labels: np.ndarray, groups: np.ndarray
    ) -> Predictions:
        """The predictions of model m for some slides, as metrics read them.

        Args:
            m: number of the model, -1 for the mean of all.
            chosen: positions of the slides.
            labels: their fine classes.
            groups: their patients, "" if unknown.
        """

        def of(values: np.ndarray | None) -> np.ndarray | None:
            if values is None:
                return None
            return (values.mean(0) if m < 0 else values[m])[chosen]

        fine = of(self.fine)
        assert fine is not None
        return Predictions(self.slides[chosen], labels, fine, groups, of(self.coarse_head))


@dataclass(frozen=True, eq=False)
class PredictedItems:
    """Predictions of slides or of patients, and what is known of these.

    Args:
        predictions: of all models.
        labels: slide or patient to fine class, of those whose label is known.
        groups: slide to patient, likewise; of patients, patient to itself.
        group_name: what a group is.
        counts: slide or patient to the number of models in whose training it took part, a slide
            also through its patient; those that took part in none are absent.
        slides_of: patient to its slides, if these are predictions of patients.
    """

    predictions: ModelPredictions
    labels: Mapping[str, int]
    groups: Mapping[str, str]
    group_name: str
    counts: Mapping[str, int]
    slides_of: Mapping[str, Sequence[str]] | None = None

    def frame(self, per_model: bool = False) -> pd.DataFrame:
        """One row per slide or patient.

        Columns: ``slide``, and its patient under the name of the groups if any is known; of
        patients the patient and ``slides``, their ids; ``label`` if any is known; ``predicted`` and
        ``coarse_predicted``; ``p(CLASS)`` and ``sd(CLASS)``, mean and sample standard deviation
        over the models; the same for coarse classes, whose probability is the sum of their fine
        ones, and for the method's own coarse head; ``models``, their number; ``trained_on``, the
        number of models in whose training the slide or its patient took part.

        Args:
            per_model: also one column per model and fine class.
        """
        made = self.predictions
        fine, is_flat, items = made.hierarchy.fine, made.hierarchy.is_flat, made.slides.tolist()
        coarse, lifted = made.hierarchy.coarse, made.hierarchy.lift(made.fine)
        columns: dict[str, object] = {"slide": made.slides}
        if self.slides_of is not None:
            listed = ["; ".join(self.slides_of[patient]) for patient in items]
            columns = {self.group_name: made.slides, "slides": listed}
        elif self.groups:
            columns[self.group_name] = [self.groups.get(slide, "") for slide in items]
        if self.labels:
            columns["label"] = [fine[self.labels[i]] if i in self.labels else "" for i in items]
        columns["predicted"] = np.array(fine)[made.fine.mean(0).argmax(1)]
        if not is_flat:
            columns["coarse_predicted"] = np.array(coarse)[lifted.mean(0).argmax(1)]
        columns |= _means("", made.fine, fine)
        if not is_flat:
            columns |= _means("coarse_", lifted, coarse)
        if made.coarse_head is not None:
            columns |= _means("coarse_head_", made.coarse_head, coarse)
        counts = [self.counts.get(item, 0) for item in items]
        columns |= {"models": len(made.models), "trained_on": counts}
        if per_model:
            columns |= {
                f"p({name}) seed {seed} fold {fold}": made.fine[m, :, c]
                for m, (seed, fold) in enumerate(made.models)
                for c, name in enumerate(fine)
            }
        return pd.DataFrame(columns)


def _means(prefix: str, values: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of the mean over models, then of the standard deviation; of one model it is NaN."""
    mean = values.mean(0)
    spread = values.std(0, ddof=1) if len(values) > 1 else np.full(mean.shape, np.nan)
    columns = {f"{prefix}p({name})": mean[:, c] for c, name in enumerate(names)}
    return columns | {f"{prefix}sd({name})": spread[:, c] for c, name in enumerate(names)}


def predict_slides(
    models: Sequence[FoldModel],
    slides: NewSlides,
    hierarchy: LabelHierarchy,
    with_coords: bool = True,
    watch: Watch = unwatched,
) -> ModelPredictions:
    """Apply models to slides; each slide is read once.

    Args:
        models: at least one, of one method.
        slides: the slides.
        hierarchy: the classes of the models.
        with_coords: whether the models were trained with coordinates.
        watch: wraps the iteration over the slides.

    Raises:
        InputError: a method fails on a slide, or its probabilities are not finite.
    """
    require_rows(models, slides)
    fine = np.empty((len(models), len(slides.slides), hierarchy.n_fine))
    heads: np.ndarray | None = None
    positions = range(len(slides.slides))
    with denormals_as_zero():  # as in training
        for b in watch(positions, len(positions), "predicting"):
            bags, slide = batch_of(slides.read(b), with_coords), slides.slides[b]
            for m, model in enumerate(models):
                fine[m, b], head = applied(model, bags, slide, _probabilities)
                if head is not None:
                    if heads is None:
                        heads = np.empty((*fine.shape[:2], hierarchy.n_coarse))
                    heads[m, b] = head
                if not np.isfinite(fine[m, b]).all():
                    what = f"{model.label} ({model.name}) on {slide or 'the array'}"
                    problem = "its probabilities are not finite"
                    remedy = "Inspect the features: mil-bench data inspect FOLDER."
                    raise InputError(what, [problem], remedy)
    seeds_and_folds = tuple((model.seed, model.fold) for model in models)
    return ModelPredictions(hierarchy, np.array(slides.slides), seeds_and_folds, fine, heads)


def _probabilities(method: Method, bags: BagBatch) -> tuple[np.ndarray, np.ndarray | None]:
    """Fine probabilities ``[C]`` and those of a coarse head ``[G]``, as training stores them."""
    out = method(bags)
    coarse = None if out.coarse is None else out.coarse[0].double().softmax(0).numpy()
    return out.fine[0].double().softmax(0).numpy(), coarse
