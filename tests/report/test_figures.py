from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pytest
from made_runs import HIERARCHY, evidence, run_result, trained_folds
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from mil_bench import registry
from mil_bench.evaluation.statistics import rank_methods
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.report.figures.confusion import confusion
from mil_bench.report.figures.curves import precision_recall, roc
from mil_bench.report.figures.gallery import Gallery
from mil_bench.report.figures.ranking import critical_difference
from mil_bench.report.figures.style import styles, svg
from mil_bench.report.result_tables import result_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    from mil_bench.evaluation.predictions import TrainedFold

LONG = "a-plugin-with-a-long-name:temperature=0.2,align=false"
FIGURES = (
    "heat_map",
    "classwise_auc",
    "confusion_fine",
    "confusion_coarse",
    "roc",
    "precision_recall",
    "reliability",
    "training",
    "cost",
)


def gallery_of(methods: dict[str, tuple[TrainedFold, ...]], folds: int = 3) -> Gallery:
    found = evidence(methods, folds)
    return Gallery.of(found, {t.name: t for t in result_tables(found, "")}, found.main)


GALLERIES = {
    "usual": gallery_of(
        {
            "abmil": trained_folds(1.0),
            "hmil": trained_folds(2.0, head=True),
            LONG: trained_folds(0.2),
            "missing": (),
        }
    ),
    "one fold": gallery_of(
        {"abmil": trained_folds(1.0, folds=1), "hmil": trained_folds(2.0, folds=1)}, 1
    ),
    "a class absent from every fold": gallery_of(
        {"abmil": trained_folds(1.0, **{f"fold{k}": np.arange(39) % 3 for k in range(3)})}
    ),
    "nothing trained": gallery_of({"abmil": (), "hmil": ()}),
}


def boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """The texts that are seen, and where they stand."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    unseen = set()  # ticks outside of what an axis shows
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        unseen |= {
            label for t in ticks if not low <= t.get_loc() <= high for label in (t.label1, t.label2)
        }
    texts = [
        t
        for t in figure.findobj(Text)
        if t.get_visible() and t.get_text().strip() and t not in unseen
    ]
    return [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in texts]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("case", GALLERIES)
def test_every_figure_can_be_drawn_without_texts_on_top_of_each_other(case: str, name: str) -> None:
    for (one, a), (other, b) in combinations(boxes(GALLERIES[case][name]), 2):
        shared = max(0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(
            0, min(a.y1, b.y1) - max(a.y0, b.y0)
        )
        assert shared <= 0.15 * min(a.width * a.height, b.width * b.height), (one, other)


def test_a_figure_is_drawn_when_it_is_asked_for_and_only_once() -> None:
    gallery = gallery_of({"abmil": trained_folds(1.0)})
    assert list(gallery) == list(FIGURES)
    assert gallery._drawn == {}
    assert gallery["cost"] is gallery["cost"]
    assert set(gallery._drawn) == {"cost"}


def test_a_flat_hierarchy_has_no_coarse_confusion() -> None:
    found = evidence({"m": trained_folds(1.0)}, hierarchy=LabelHierarchy.flat(HIERARCHY.fine))
    assert "confusion_coarse" not in Gallery.of(found, {}, found.main)


def test_the_same_figure_gives_the_same_bytes_and_leaves_settings_alone() -> None:
    before = dict(mpl.rcParams)
    one, other = (svg(gallery_of({"abmil": trained_folds(1.0)})["classwise_auc"]) for _ in range(2))
    assert one == other
    assert dict(mpl.rcParams) == before


def test_a_method_looks_the_same_whatever_stands_beside_it() -> None:
    alone = styles(["hmil"])["hmil"]
    assert styles(["abmil", "zebra", "hmil", "hmil:align_bags=false"])["hmil"] == alone


def test_registered_methods_and_their_variants_all_look_different() -> None:
    names = [
        *registry.methods.names(),
        *registry.yardsticks.names(),
        "hmil:a=1",
        "hmil:a=2",
        "hmil:a=3",
    ]
    looks = {(s.colour, s.marker, s.filled) for s in styles(names).values()}
    assert len(looks) == len(names)


def test_lines_and_markers_of_all_methods_differ_without_their_colours() -> None:
    registered = [*registry.methods.names(), *registry.yardsticks.names()]
    looks = styles([*registered, *(f"plugin-{i}" for i in range(24 - len(registered)))])
    assert len(registered) <= 24
    # Hollow markers go with thin lines, so either tells the second dozen from the first.
    assert len({(style.marker, style.filled) for style in looks.values()}) == 24
    lines = [style.line() for style in looks.values()]
    assert len({(str(line["linestyle"]), line["linewidth"]) for line in lines}) == 24
    assert len({(style.colour, style.dashes) for style in looks.values()}) == 24


def shown_percents(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.axes[0].texts]


def test_the_confusion_follows_the_order_of_the_hierarchy() -> None:
    mixed = LabelHierarchy(("a", "b", "c", "d"), ("x", "y"), (1, 0, 1, 0))  # b and d come first
    labels = np.array([1, 1, 0, 3])
    done = trained_folds(50.0, folds=1, fold0=labels)
    figure = confusion(evidence({"m": done}, 1, mixed), "fine")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["b", "d", "a", "c"]
    assert shown_percents(figure) == ["100", "100", "100"]
    places = [t.get_position() for t in figure.axes[0].texts]
    assert places == [(0, 0), (1, 1), (2, 2)]


def test_the_coarse_confusion_counts_lifted_probabilities() -> None:
    done = trained_folds(1.0)
    right = np.concatenate(
        [t.predictions.fine.reshape(-1, 2, 2).sum(2).argmax(1)[::1] for t in done]
    )
    labels = np.concatenate([t.predictions.labels // 2 for t in done])
    figure = confusion(evidence({"m": done}), "coarse")
    expected = [
        f"{100 * np.mean(right[labels == row] == column):.0f}"
        for row in (0, 1)
        for column in (0, 1)
    ]
    assert shown_percents(figure) == expected


def test_a_perfect_method_has_perfect_curves() -> None:
    found = evidence({"m": trained_folds(50.0)})
    sensitivity = roc(found).axes[0].lines[0].get_ydata()
    assert sensitivity[0] == 0
    assert (sensitivity[1:] == 1).all()
    assert (precision_recall(found).axes[0].lines[0].get_ydata() == 1).all()


def test_the_area_under_the_mean_curve_is_the_mean_auc() -> None:
    found = evidence({"m": trained_folds(1.0)})
    table = next(t for t in result_tables(found, "") if t.name == "classwise_auc")
    line = roc(found).axes[0].lines[0]
    area = np.trapezoid(line.get_ydata(), line.get_xdata())
    assert 100 * area == pytest.approx(table.cells["m"]["l0"].mean, abs=1)  # a grid of 101 points


def test_the_critical_difference_diagram_names_every_method_once() -> None:
    names = ["abmil", "hmil", "clam-mb", LONG]
    ranking = rank_methods(
        names, np.array([[4, 3, 2, 1], [3, 4, 2, 1], [4, 3, 1, 2], [4, 3, 2, 1.0]])
    )
    figure = critical_difference(ranking)
    shown = " ".join(text for text, _ in boxes(figure))
    assert all(shown.count(f"{name} ") + shown.count(f" {name}") >= 1 for name in names)
    assert f"critical difference {ranking.critical_difference:.2f}" in shown


def test_many_methods_make_no_panel_small_and_clip_no_name() -> None:
    methods = {
        f"abmil:learning_rate=0.{n:02},align=false": trained_folds(0.1 * n) for n in range(1, 31)
    }
    many, few = gallery_of(methods), GALLERIES["usual"]
    for name in ("roc", "precision_recall", "classwise_auc", "cost"):
        sizes = []
        for figure in (few[name], many[name]):
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            sizes.append(min(axes.get_window_extent().height for axes in figure.axes))
            for legend in figure.legends:
                box, (width, height) = legend.get_window_extent(), canvas.get_width_height()
                assert box.x0 >= 0
                assert box.y0 >= 0
                assert box.x1 <= width
                assert box.y1 <= height
        assert sizes[1] >= 0.95 * sizes[0], name


def test_methods_are_drawn_in_the_order_of_their_means() -> None:
    made = {"poor": trained_folds(0.3), "best": trained_folds(3.0), "fair": trained_folds(1.0)}
    gallery = run_result(made).figures
    panels = [axes.get_title() for axes in gallery["confusion_fine"].axes if axes.get_title()]
    assert panels == ["best", "fair", "poor"]
    assert [axes.get_title() for axes in gallery["training"].axes][:3] == panels
    for name in ("roc", "classwise_auc", "cost"):
        (legend,) = gallery[name].legends
        assert [text.get_text() for text in legend.get_texts()] == panels


def test_texts_on_flat_classes_speak_of_no_fine_level() -> None:
    made = {"a": trained_folds(1.0), "b": trained_folds(2.0)}
    result = run_result(made, hierarchy=LabelHierarchy.flat(HIERARCHY.fine))
    texts = [text for table in result.report_tables for text in (table.title, table.note)]
    texts += [text for p in result.figures.pictures.values() for text in (p.title, p.caption)]
    texts += [*result.sentences, result.answer]
    assert not [text for text in texts if re.search(r"\bfine\b", text, re.IGNORECASE)]
