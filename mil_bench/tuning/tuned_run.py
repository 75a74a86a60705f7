"""The trials of a tuned run, read from the stores; torch is not needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.report.tuning_tables import by_study, chosen_table, gain_table, spent_table
from mil_bench.results import Results
from mil_bench.tuning.studies import StudyPlan
from mil_bench.tuning.trial_store import TrialStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.evaluation.trials import Trial
    from mil_bench.evaluation.verdicts import Evidence
    from mil_bench.planning.plan import RunPlan
    from mil_bench.report.figures.gallery import Picture
    from mil_bench.report.tables import ResultTable
    from mil_bench.running.result_store import ResultStore


@dataclass(frozen=True, eq=False)
class TunedRun:
    """The trials of a run.

    Args:
        records: the trials, study by study.
        studies: key of a study to its plan.
        recipe: method to the trained folds of its own recipe, the first trial of each study.
    """

    records: Sequence[Trial]
    studies: Mapping[str, StudyPlan]
    recipe: Mapping[str, tuple[TrainedFold, ...]]

    @classmethod
    def collect(cls, store: ResultStore, plan: RunPlan) -> TunedRun:
        """Read everything about a plan's trials."""
        trials = TrialStore(Results(Path(store.root).parent).studies)
        records = trials.of_plan(plan)
        studies = {}
        for choice in plan.tuning.chosen if plan.tuning else ():
            folder = trials.folder(plan.dataset, choice.method, choice.study)
            about = trials.about(folder)
            try:
                studies[choice.study] = study = StudyPlan.from_about(about, choice.label)
                study.defaults  # noqa: B018 - a job without a tuned setting is reported now
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise trials.broken(folder, error) from error
        recipe: dict[str, tuple[TrainedFold, ...]] = {}
        for record in records:
            if record.number == 0 and record.is_complete:
                job = store.load_job(plan.dataset, record.method, record.job_key)
                folds = tuple(store.load_fold(job, fold) for fold in sorted(record.curves))
                recipe[record.label] = recipe.get(record.label, ()) + folds
        return cls(records, studies, recipe)

    def tables(self, tuned: Evidence, figure: Measure, caption: str) -> list[ResultTable]:
        """Cost of the trials, gain over the recipes, chosen settings.

        Args:
            tuned: the run's trained folds.
            figure: the metric on which its methods are compared.
            caption: caption of the run.
        """
        before = replace(
            tuned, trained={label: self.recipe.get(label, ()) for label in tuned.trained}
        )
        gain = gain_table(before, tuned, figure, caption)
        spent, chosen = spent_table(self.records, caption), chosen_table(self.records, caption)
        return [spent, *([gain] if gain.cells else []), chosen]

    def pictures(self, order: Sequence[str]) -> dict[str, Picture]:
        """History, importance of settings (if there are enough trials) and parallel coordinates.

        Args:
            order: of the methods; those that are not named are last.
        """
        from mil_bench.report.figures.gallery import Picture
        from mil_bench.report.figures.tuning import (
            tuning_history,
            tuning_importance,
            tuning_parallel,
        )

        methods = dict.fromkeys([*order, *(record.label for record in self.records)])
        records = [record for label in methods for record in self.records if record.label == label]
        pictures = {
            "tuning_history": Picture(
                "Tuning: history",
                "Validation loss of every trial and the lowest loss so far of every study. Crosses "
                "are pruned trials, at their lowest loss. The axis omits the worst 5 % of the "
                "trials.",
                lambda: tuning_history(records),
            )
        }
        if self._importances:
            of_all = self._importances
            importances = {label: of_all[label] for label in methods if label in of_all}
            pictures["tuning_importance"] = Picture(
                "Tuning: importance of settings",
                "Share of the variance of complete trials that each setting explains (fANOVA). "
                "Bars are means over studies, dots are single studies. Few trials give rough "
                "estimates.",
                lambda: tuning_importance(importances),
            )
        pictures["tuning_parallel"] = Picture(
            "Tuning: settings tried",
            "Every complete trial is a line through its settings; the better a trial is in its "
            "study, the darker and thicker is its line.",
            lambda: tuning_parallel(records, self._defaults),
        )
        return pictures

    @cached_property
    def _defaults(self) -> dict[str, dict[str, Any]]:
        """Method to its own values of the tuned settings."""
        return {record.label: self.studies[record.study].defaults for record in self.records}

    @cached_property
    def _importances(self) -> dict[str, dict[str, list[float]]]:
        """Method to setting to its shares, one per study that has enough trials."""
        from mil_bench.tuning.proposals import importances

        shares: dict[str, dict[str, list[float]]] = {}
        for records in by_study(self.records).values():
            study, label = self.studies[records[0].study], records[0].label
            for name, share in importances(study.space, study.defaults, records).items():
                shares.setdefault(label, {}).setdefault(name, []).append(share)
        return shares
