"""A run's report as one HTML file that needs nothing else: no network, no folder beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from mil_bench import __version__
from mil_bench.report.figures.style import data_uri
from mil_bench.report.render.html import html_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.report.figures.gallery import Gallery
    from mil_bench.report.tables import ResultTable

_FOLDED = ("verdicts_all", "classwise_ap", "tuning_chosen")


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Args:
        title: heading.
        run: name of the run.
        warning: what nobody may miss, "" for nothing.
        summary: the verdict, sentence by sentence.
        basis: protocol, trainings and leaks, in one line.
        facts: what failed, is missing or was left out.
        caption: what holds for every table.
        tables: by name.
        sentences: all comparisons in words.
        figures: drawn into the page.
        audit: what is known of the splits, a line each.
        environment: name to version or device.
        command: what to type for the same run, "" where it is not known.
    """

    title: str
    run: str
    warning: str
    summary: Sequence[str]
    basis: str
    facts: Sequence[str]
    caption: str
    tables: Mapping[str, ResultTable]
    sentences: Sequence[str]
    figures: Gallery
    audit: Sequence[str]
    environment: Mapping[str, str]
    command: str


def page(report: Report) -> str:
    """The HTML file."""
    environment = Environment(
        loader=PackageLoader("mil_bench", "templates"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html.jinja").render(
        vars(report),
        pictures=report.figures.pictures,
        image=lambda name: data_uri(report.figures.svg(name)),
        html_table=html_table,
        folded=_FOLDED,
        version=__version__,
    )
