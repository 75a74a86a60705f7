"""Which new slides took part in the training of the models that predict them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mil_bench.datasets.slide_ids import own_group
from mil_bench.wording import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.inference.models import FoldModel


@dataclass(frozen=True)
class TrainingOverlap:
    """New slides on which models were trained or validated, themselves or through their patient.

    Args:
        counts: slide to the number of models in whose training it or its patient took part; slides
            that took part in none are absent.
        themselves: those of these slides that took part themselves.
        group_name: what a group is, "patient" if it is unknown.
        blind: why patients are not compared, "" if they are.
    """

    counts: Mapping[str, int]
    themselves: frozenset[str]
    group_name: str
    blind: str = ""

    def sentences(self, models: int, left_out: bool, unit: str = "slide") -> list[str]:
        """What must be known of the slides, one sentence each.

        Args:
            models: number of models that predict.
            left_out: whether these slides are left out of scores.
            unit: what is scored; with a slide its patient is left out.
        """
        through = [slide for slide in self.counts if slide not in self.themselves]
        lines = []
        for slides, how in (
            ([s for s in self.counts if s in self.themselves], "themselves"),
            (through, f"through another slide of their {self.group_name}"),
        ):
            if slides:
                most = max(self.counts[slide] for slide in slides)
                count = plural(len(slides), "slide")
                lines.append(
                    f"{count} took part in the training of up to {most} of {models} models, "
                    f"{how}: {first_names(slides)}."
                )
        if lines and left_out:
            lines.append(
                f"These {unit}s are left out of the scores. --fold K takes the models of one fold "
                "only; --allow-leaks scores them all the same."
            )
        return [*lines, *([self.blind] if self.blind else [])]


def training_overlap(
    models: Sequence[FoldModel],
    slides: Sequence[str],
    groups: Mapping[str, str],
    trained_groups: Mapping[str, str],
    group_name: str,
) -> TrainingOverlap:
    """Compare new slides with those of each model's training.

    Args:
        models: that predict them.
        slides: their ids.
        groups: slide to patient, of new slides whose patient is known.
        trained_groups: the same of the slides of the run.
        group_name: what a group of the run is, "" if groups are unknown.
    """
    counts: dict[str, int] = {}
    themselves = set()
    for model in models:
        seen_groups = {trained_groups[slide] for slide in model.seen if slide in trained_groups}
        for slide in slides:
            if slide in model.seen:
                themselves.add(slide)
            elif groups.get(slide, own_group(slide)) not in seen_groups:
                continue
            counts[slide] = counts.get(slide, 0) + 1
    blind = ""
    if not groups or not trained_groups:
        which = "slides of the run" if groups else "new slides"
        blind = f"Patients of the {which} are unknown, so only slide ids are compared."
    return TrainingOverlap(counts, frozenset(themselves), group_name or "patient", blind)
