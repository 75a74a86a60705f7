"""The result of a run, made from what is stored; needs no torch."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench import durable
from mil_bench.errors import InputError, StorageError, UnknownNameError
from mil_bench.evaluation.power.pairs import Outlook, outlook_of
from mil_bench.evaluation.verdicts import Evidence, Verdict, verdicts
from mil_bench.planning.asked import Asked
from mil_bench.report.budget import agreement_sentence, budget_table, environments_of
from mil_bench.report.centre_tables import CENTRE_TABLES, centre_tables
from mil_bench.report.overview.forest import Forest, by_mean
from mil_bench.report.pair_sentences import verdict_sentence
from mil_bench.report.power_tables import power_sentences, power_tables
from mil_bench.report.render import FIGURES, PREDICTIONS, check_folder, write_report
from mil_bench.report.result_tables import pooled_tables, result_tables
from mil_bench.report.sentences import summary
from mil_bench.report.verdict_tables import VERDICT_TABLES, main_measure, verdict_tables
from mil_bench.run_file import run_file_of
from mil_bench.runs.contents.about_tables import about_tables
from mil_bench.runs.contents.facts import facts_of
from mil_bench.runs.contents.key_facts import heading, key_facts
from mil_bench.runs.contents.predictions_file import predictions_csv
from mil_bench.runs.fold_table import all_predictions
from mil_bench.runs.plan_records import PlanRecords, PlanStatus, what_was_planned
from mil_bench.tuning.tuned_run import TunedRun
from mil_bench.wording import in_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from mil_bench.evaluation.metrics import Measure
    from mil_bench.evaluation.predictions import TrainedFold
    from mil_bench.methods import Method
    from mil_bench.planning.plan import RunPlan
    from mil_bench.report.figures.gallery import Gallery
    from mil_bench.report.render.page import Report
    from mil_bench.report.tables import ResultTable
    from mil_bench.running.result_store import ResultStore

_SHOWN_FIRST = ("fine", "coarse", "classwise_auc", "tuning", "tuning_gain", "verdicts")


@dataclass(frozen=True, eq=False, repr=False)
class RunResult:
    """Verdicts, tables, figures and predictions of a run, each computed on first use.

    Args:
        plan: what was to be trained.
        trained: method to its trained folds.
        failures: what could not be trained, and why, one line each.
        tuned: the trials behind the settings, None if they were not tuned.
        store: where the trained weights are; None if the result was not collected from a store.
        asked: which methods are compared, and with what margin.
    """

    plan: RunPlan
    trained: Mapping[str, tuple[TrainedFold, ...]]
    failures: tuple[str, ...] = ()
    tuned: TunedRun | None = None
    store: ResultStore | None = None
    asked: Asked = Asked()

    @classmethod
    def collect(
        cls,
        store: ResultStore,
        plan: RunPlan,
        failures: tuple[str, ...] = (),
        asked: Asked = Asked(),  # noqa: B008 - it is frozen
    ) -> RunResult:
        """Everything that is stored of a plan.

        Raises:
            InputError: a method that was asked for is not in the plan, or a metric not for it.
            StorageError: a stored file is broken.
        """
        asked.require(plan)
        trained: dict[str, tuple[TrainedFold, ...]] = dict.fromkeys(plan.methods, ())
        stored = {job.key: store.done(job) for job in plan.jobs}
        order = {seed: i for i, seed in enumerate(plan.seeds)}
        for job, number in sorted(plan.trainings, key=lambda item: (order[item[0].seed], item[1])):
            if number in stored[job.key]:
                fold = store.load_fold(job, number)
                if fault := fold.predictions.fault(plan.hierarchy):
                    raise store.broken(job, number, fault)
                trained[job.label] += (fold,)
        tuned = TunedRun.collect(store, plan) if plan.tuning else None
        result = cls(plan, trained, failures, tuned, store, asked)
        result.planned  # noqa: B018 - a broken record is reported now
        return result

    @property
    def run_id(self) -> str:
        """Name of the run, for ``mil-bench report``."""
        return self.plan.run_id

    @cached_property
    def evidence(self) -> Evidence:
        """Values of every training, and their bootstrap over patients."""
        plan = self.plan
        folds = plan.splits.folds
        sizes = tuple((len(plan.items(f.train)), len(plan.items(f.test))) for f in folds)
        return Evidence(
            self.trained,
            plan.hierarchy,
            sizes,
            len(plan.seeds),
            plan.splits.group_name,
            repeats=plan.splits.repeats,
            ordered=plan.ordered,
            margin=self.asked.margin / 100,
            pairs=self.asked.pairs_of(plan.methods),
            main=self.asked.measure(plan),
            centres=plan.centres,
            unit=plan.unit,
        )

    @property
    def measure(self) -> Measure:
        """What methods are compared on: the chosen metric, or accuracy if folds lack classes."""
        return self._main[0]

    @cached_property
    def _main(self) -> tuple[Measure, str]:
        return main_measure(self.evidence)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """The pairs of complete methods compared on the main metric, see ``measure``.

        All pairs, unless others were asked for.
        """
        return verdicts(self.evidence, self.measure)

    @cached_property
    def answer(self) -> str:
        """The result in one sentence."""
        return in_unit(self._answers[0], self.plan.unit)

    @cached_property
    def _answers(self) -> list[str]:
        return summary(self.evidence, self.verdicts, self.measure)

    @cached_property
    def summary(self) -> list[str]:
        """The result in a few sentences."""
        power = [f"{self._level}{sentence}" for sentence in power_sentences(self.outlook)]
        lines = [self._main[1], *self._answers, *power]
        return [in_unit(line, self.plan.unit) for line in lines if line]

    @property
    def _level(self) -> str:
        """The start of a sentence about the fine level, if there are two levels."""
        return "" if self.plan.hierarchy.is_flat else "Fine level: "

    @cached_property
    def outlook(self) -> Outlook:
        """What the run can show of its undecided pairs, and what would decide them."""
        return outlook_of(self.evidence, self.measure, self.verdicts)

    @property
    def caption(self) -> str:
        """The caption of all tables: the plan's, and whether trainings repeat bit for bit."""
        return f"{self.plan.caption} {agreement_sentence(self.trained)}".rstrip()

    @cached_property
    def report_tables(self) -> list[ResultTable]:
        """All tables with captions and marks."""
        evidence, measure, caption = self.evidence, self.measure, self.caption
        tables = [
            *result_tables(evidence, caption),
            *verdict_tables(evidence, self.verdicts, measure, caption),
            *power_tables(self.outlook, caption),
            *pooled_tables(evidence, caption),
            *centre_tables(evidence, measure, caption),
            budget_table(self.trained, self._expected, caption, self.tuned is not None),
            *(self.tuned.tables(evidence, measure, caption) if self.tuned else ()),
        ]
        about = about_tables(self.plan, evidence, measure, caption)
        return [*(table.in_unit(self.plan.unit) for table in tables), *about]

    @cached_property
    def planned(self) -> PlanStatus | None:
        """What was planned before the results, and what is different; None without a store."""
        return None if self.store is None else what_was_planned(self.store, self.plan, self.asked)

    def note_shown(self) -> None:
        """Note in the store that results are shown although trainings are missing, if they are."""
        stored, trainings = sum(map(len, self.trained.values())), len(self.plan.trainings)
        if self.store is not None and stored < trainings:
            records = PlanRecords(self.store, self.plan.dataset)
            with contextlib.suppress(StorageError):  # others may only read the folder
                records.note_shown(self.run_id, stored, trainings)

    @property
    def main_tables(self) -> list[ResultTable]:
        """Those that a terminal and a notebook show."""
        return [table for table in self.report_tables if table.name in _SHOWN_FIRST]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Name of a table ("fine", "coarse", "classwise_auc", ...) to a frame of its values."""
        return {table.name: table.frame for table in self.report_tables}

    @cached_property
    def figures(self) -> Gallery:
        """Name ("classwise_auc", "roc", ...) to a matplotlib figure, drawn on first use."""
        from mil_bench.report.figures.gallery import Gallery

        tables = {table.name: table for table in self.report_tables}
        gallery = Gallery.of(self.evidence, tables, self.measure)
        tuned = {} if self.tuned is None else self.tuned.pictures
        return Gallery({**gallery.pictures, **tuned}).in_unit(self.plan.unit)

    @property
    def predictions(self) -> pd.DataFrame:
        """All test predictions: one row per method, seed, fold and slide.

        If labels belong to patients, there is one row per patient in place of the slide.
        """
        return all_predictions(self.plan, self.trained, "predictions")

    @property
    def slide_predictions(self) -> pd.DataFrame:
        """The predictions of single slides, if those of a patient's slides were averaged."""
        return all_predictions(self.plan, self.trained, "slide_predictions")

    def model(self, method: str, seed: int | None = None, fold: int = 0) -> Method:
        """A trained method in evaluation mode, on the CPU; imports torch.

        Args:
            method: as tables call it.
            seed: training seed, None for the first.
            fold: number of the fold, whose test slides this model has never seen.

        Raises:
            UnknownNameError: there is no such method in the run, or it is not installed.
            InputError: the fold is not stored, nothing was trained, or the method's code has
                changed since.
        """
        from mil_bench.runs.models import trained_method

        if self.store is None:
            raise InputError(
                "the trained model",
                ["this result comes from no result store"],
                "Collect it from one.",
            )
        of_method = [job for job in self.plan.jobs if job.label == method]
        if not of_method:
            raise UnknownNameError(
                "method in this run", method, {job.label for job in self.plan.jobs}
            )
        seed = of_method[0].seed if seed is None else seed
        jobs = [job for job in of_method if job.seed == seed]
        if not jobs:
            raise UnknownNameError("training seed", str(seed), {str(job.seed) for job in of_method})
        # In a tuned run folds may differ in their jobs.
        of_fold = [job for job, k in self.plan.trainings if job in jobs and k == fold]
        return trained_method(self.store, (of_fold or jobs)[0], fold, self.plan.hierarchy)

    def predict(
        self,
        features: Any,
        method: str | None = None,
        *,
        fold: int | None = None,
        seed: int | None = None,
        per_model: bool = False,
        data: Path | str | None = None,
    ) -> pd.DataFrame:
        """Apply trained models to new slides; imports torch.

        Args:
            features: of one slide ``[n, D]``; or the path of a folder of feature files, of one
                file, or of a bag store.
            method: as tables call it; may be left out if the run has one method only.
            fold: only the models of this fold, None for all.
            seed: only the models of this training seed, None for all.
            per_model: one column per model and class, too.
            data: folder of packed features, None for ``data`` or the value of ``MIL_BENCH_DATA``.

        Returns:
            One row per slide, or per patient if labels belong to patients: predicted classes, mean
            and spread of the models' probabilities, and ``trained_on``, the number of models in
            whose training it took part.

        Raises:
            MilBenchError: the files cannot be used, or the features are not those of the training.
        """
        from mil_bench.runs.predicting import ModelChoice, frame_of

        where = {} if data is None else {"data": Path(data)}
        choice = ModelChoice(method, fold, seed, **where)
        return frame_of(self, features, choice, per_model)

    @property
    def _expected(self) -> int:
        return len(self.plan.splits.folds) * len(self.plan.seeds)

    @property
    def facts(self) -> list[str]:
        """What is missing and what must be known of a method here, one line each."""
        return [*self.failures, *facts_of(self.plan, self.trained)]

    @property
    def sentences(self) -> list[str]:
        """Summary, plan and facts, one line each."""
        plan = [] if self.planned is None else [self.planned.sentence]
        return [*self.summary, *plan, *self.facts]

    def write_tables(self, folder: Path) -> Path:
        """Write the tables as Markdown, CSV and LaTeX; returns the path of the Markdown page."""
        return self._write_tables(folder, self.sentences)

    def _write_tables(self, folder: Path, facts: Sequence[str]) -> Path:
        page = write_report(folder, self.run_id, facts, self.report_tables)
        # Of a report on other pairs or another metric.
        written = {table.name for table in self.report_tables}
        for name in {*VERDICT_TABLES, *CENTRE_TABLES} - written:
            (folder / f"{name}.csv").unlink(missing_ok=True)
        return page

    def write(self, folder: Path) -> Path:
        """Write tables, figures and report; returns the path of the report, one HTML file."""
        missing = self.figures.failures
        facts = [*self.sentences, *missing.values()]
        self._write_tables(folder, facts)
        check_folder(folder / FIGURES)
        for name in self.figures:
            path = folder / FIGURES / f"{name}.svg"
            if name in missing:
                path.unlink(missing_ok=True)  # of an earlier report
            else:
                durable.replace(path, self.figures.svg(name).decode())
        durable.replace(folder / PREDICTIONS, predictions_csv(self.predictions, self.caption))
        durable.replace(folder / "report.html", self._page)
        return folder / "report.html"

    @cached_property
    def _page(self) -> str:
        """The report as HTML, made once for tracking and for the command that shows it."""
        from mil_bench.report.render.page import page

        return page(self._report)

    @property
    def _report(self) -> Report:
        from mil_bench.report.render.page import Report

        plan, record = self.plan, self.planned and self.planned.record
        return Report(
            **heading(plan),
            key_facts=key_facts(plan, self.trained, record.time if record else ""),
            answer=self.answer,
            forest=Forest.of(self.evidence, self.verdicts, self.measure),
            methods=plan.methods,
            order=by_mean(self.evidence, self.measure),
            summary=[sentence for sentence in self.summary if sentence != self.answer],
            planned="" if self.planned is None else self.planned.sentence,
            facts=[*self.facts, *self.figures.failures.values()],
            caption=self.caption,
            tables={table.name: table for table in self.report_tables},
            sentences=[verdict_sentence(verdict) for verdict in self.verdicts],
            figures=self.figures,
            environment=environments_of(self.trained),
            command=plan.command and f"{plan.command}{self.asked.again}",
            run_file=run_file_of(plan.command, self.asked).splitlines(),
        )

    def __repr__(self) -> str:
        methods, tables = ", ".join(self.plan.methods), ", ".join(self.tables)
        return f"<RunResult {self.run_id}: {methods}; tables: {tables}>"

    def _repr_html_(self) -> str:
        """Verdict, main tables and class-wise AUC, for notebooks."""
        from mil_bench.report.render.html import html_section

        words = "".join(f"<p>{escape(line)}</p>" for line in self.sentences)
        tables = "".join(map(html_section, self.main_tables))
        return f"{words}{tables}{self.figures.html('classwise_auc')}"
