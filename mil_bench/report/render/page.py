"""A run's report as one HTML file without other files or network access."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mil_bench import __version__
from mil_bench.errors import one_line
from mil_bench.report.render.html import html_table
from mil_bench.report.result_tables import PACKAGE_TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.report.figures.gallery import Gallery
    from mil_bench.report.tables import ResultTable

_FOLDED = ("deciding", "verdicts_all", "classwise_ap", "tuning_chosen")


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Args:
        title: heading.
        run: name of the run.
        warning: shown above everything else, "" for none.
        summary: the verdict, sentence by sentence.
        planned: what was planned before the results and what was not, "" if it is unknown.
        basis: protocol, trainings and leaks, in one line.
        facts: failures and remarks, one line each.
        caption: what holds for all tables.
        tables: by name.
        sentences: all comparisons in words.
        figures: of the run.
        audit: facts about the splits, one line each; leaks first.
        environment: name to version or device.
        command: the command that repeats the run, "" if it is unknown.
        run_file: the lines of a run file that does the same, () if there is none.
    """

    title: str
    run: str
    warning: str
    summary: Sequence[str]
    planned: str
    basis: str
    facts: Sequence[str]
    caption: str
    tables: Mapping[str, ResultTable]
    sentences: Sequence[str]
    figures: Gallery
    audit: Sequence[str]
    environment: Mapping[str, str]
    command: str
    run_file: Sequence[str]


def page(report: Report) -> str:
    """The HTML file."""
    return _rendered(
        "report.html.jinja",
        report.figures,
        **vars(report),
        folded=_FOLDED,
        package_tables=[name for name in report.tables if name.startswith(PACKAGE_TABLE)],
    )


def encoder_page(
    title: str,
    summary: Sequence[str],
    facts: Sequence[str],
    tables: Sequence[ResultTable],
    figures: Gallery,
    runs: Mapping[str, str],
) -> str:
    """The HTML file of methods with several encoders.

    Args:
        title: heading.
        summary: what may be said, sentence by sentence.
        facts: failures and remarks, one line each.
        tables: in their order.
        figures: pictures of them.
        runs: encoder to the name of its run.
    """
    return _rendered(
        "encoders.html.jinja",
        figures,
        title=title,
        summary=summary,
        facts=facts,
        tables=tables,
        runs=runs,
    )


def _rendered(template: str, pictures: Gallery, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("mil_bench", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_as_text,
    )
    return environment.get_template(template).render(
        values,
        pictures=pictures.pictures,
        image=pictures.image,
        missing=pictures.failures,
        html_table=html_table,
        version=__version__,
    )


def _as_text(value: Any) -> Any:
    """A value of the template: of a text that is not HTML, control characters by their codes."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value
