"""A run's report as one HTML file without other files or network access."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mil_bench import __version__
from mil_bench.errors import one_line
from mil_bench.report.render import FIGURES, PREDICTIONS
from mil_bench.report.render.csv_file import csv_file
from mil_bench.report.render.html import Numbers, by_rank, html_table, method_numbers
from mil_bench.report.render.latex import latex
from mil_bench.report.render.page_size import LIMIT, Part, too_large
from mil_bench.report.result_tables import PACKAGE_TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.report.figures.gallery import Gallery
    from mil_bench.report.overview.forest import Forest
    from mil_bench.report.tables import ResultTable

_POLICY = (
    "default-src 'none'; style-src 'sha256-{css}'; script-src 'sha256-{js}'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
"""A page runs its own script alone, and loads nothing: not even a script that got into a text."""
_FOLDED = ("deciding", "verdicts_all", "classwise_ap", "tuning_chosen")


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Args:
        title: heading.
        run: name of the run.
        unit: what is one item of the comparison ("slide").
        warning: shown above everything else, "" for none.
        key_facts: heading to value, and why there is none or what it counts, "" for nothing.
        answer: the result in one sentence.
        forest: the plot beside it, None if no method has a mean.
        order: the methods that have a mean, the best first; rows of tables are in this order.
        methods: all rows of the run.
        summary: the verdict, sentence by sentence, without the answer.
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
    unit: str
    warning: str
    key_facts: Mapping[str, tuple[str, str]]
    answer: str
    forest: Forest | None
    order: Sequence[str]
    methods: Sequence[str]
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
    """The HTML file. What makes it too large is left out, with links to the files beside it."""
    tables = {name: by_rank(table, report.order) for name, table in report.tables.items()}
    methods = [*report.order, *(m for m in report.methods if m not in report.order)]
    return _Contents(
        report.run, report.figures, f"{FIGURES}/", list(tables.values()), method_numbers(methods)
    ).page(
        "report.html.jinja",
        **vars(report) | {"tables": tables, "methods": methods},
        predictions=PREDICTIONS,
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
    return _Contents("encoders", figures, "", tables, {}).page(
        "encoders.html.jinja",
        title=title,
        summary=summary,
        facts=facts,
        tables=tables,
        runs=runs,
    )


def index_page(table: ResultTable, links: Mapping[str, str], others: Mapping[str, str]) -> str:
    """The HTML file over all runs of a folder.

    Args:
        table: one row per run.
        links: run to the page of its report.
        others: name to page of what compares several runs.
    """
    links, others = ({name: quote(p) for name, p in of.items()} for of in (links, others))
    return _rendered("index.html.jinja", table=table, links=links, others=others)


@dataclass(frozen=True)
class _Contents:
    """What can make a page large.

    Args:
        name: of the page, for labels in LaTeX.
        gallery: its figures.
        folder: of their files, relative to the page, with a slash at its end; "" for the page's.
        tables: whose files are beside the page.
        numbers: of the methods that the page can hide.
    """

    name: str
    gallery: Gallery
    folder: str
    tables: Sequence[ResultTable]
    numbers: Numbers

    def page(self, template: str, **values: Any) -> str:
        """The page; parts that make it larger than its limit are left out."""
        pictures = self.gallery.pictures
        drawings = {name: self.gallery.inline(name, self.numbers) for name in pictures}
        values |= {
            "run": self.name,
            "numbers": self.numbers,
            "pictures": pictures,
            "drawings": drawings,
            "missing": self.gallery.failures,
            "limit": f"{LIMIT / 1e6:g}",
        }
        whole = _rendered(template, **values, left_out={})
        excess = len(whole.encode()) - LIMIT
        if excess <= 0:
            return whole
        return _rendered(template, **values, left_out=too_large(self._parts(drawings), excess))

    def _parts(self, drawings: Mapping[str, str]) -> list[Part]:
        """The tables and figures as the page would show them."""
        figures = [
            Part(
                f"figure-{name}",
                picture.title,
                f"{self.folder}{quote(name)}.svg",
                len(drawings[name].encode()),
            )
            for name, picture in self.gallery.pictures.items()
        ]
        tables = [
            Part(f"table-{table.name}", table.title, f"{quote(table.name)}.csv", self._size(table))
            for table in self.tables
        ]
        return figures + tables

    def _size(self, table: ResultTable) -> int:
        """Bytes of a table with its copies for the clipboard."""
        copies = (str(escape(text)) for text in (latex(self.name, [table]), csv_file(table)))
        return sum(len(text.encode()) for text in (html_table(table, self.numbers), *copies))


def _rendered(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("mil_bench", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_as_text,
    )
    css, js = (_included(environment, f"report.{kind}") for kind in ("css", "js"))
    environment.filters["as_lines"] = escape
    environment.globals.update(html_table=html_table, latex=latex, csv_file=csv_file)
    policy = _POLICY.format(css=_digest(css), js=_digest(js))
    return environment.get_template(template).render(
        values, css=css, js=js, policy=policy, version=__version__
    )


def _included(environment: Environment, name: str) -> Markup:
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _digest(text: str) -> str:
    """What a Content-Security-Policy calls a style or script that it allows."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _as_text(value: Any) -> Any:
    """A value of the template: of a text that is not HTML, control characters by their codes."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value
