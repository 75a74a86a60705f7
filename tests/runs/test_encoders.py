"""Methods on the features of several encoders: tables, rank correlations, what may be said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from feature_files import write_h5
from made_runs import run_result, trained_folds

from mil_bench.cli import main
from mil_bench.errors import InputError
from mil_bench.evaluation.interaction import contrasts, rank_agreement
from mil_bench.evaluation.metrics import Measure
from mil_bench.runs.encoders import EncoderGrid, encoder_grids

if TYPE_CHECKING:
    from pathlib import Path

    from mil_bench.runs.result import RunResult

AUC = Measure("fine", "macro_auc")


def with_encoder(name: str, **skills: float) -> RunResult:
    """A run with the features of an encoder: method to how well it does."""
    result = run_result({method: trained_folds(skill) for method, skill in skills.items()})
    return replace(result, plan=replace(result.plan, encoder=name))


def grid(**skills: dict[str, float]) -> EncoderGrid:
    return EncoderGrid([with_encoder(name, **own) for name, own in skills.items()])


def test_the_table_has_a_column_per_encoder_and_marks_the_best_of_each() -> None:
    made = grid(uni={"a": 3.0, "b": 1.0, "c": 0.0}, conch={"a": 0.5, "b": 2.0, "c": 0.0})
    table = made.tables[0]
    assert list(table.cells) == ["a", "b", "c"]
    assert table.columns == ["uni", "conch", "Mean rank"]
    fine = dict.fromkeys("abc", made.by_encoder["uni"].tables["fine"])
    for method in "abc":
        expected = fine[method].loc[method, ("Macro AUC", "mean")]
        assert table.cells[method]["uni"].mean == pytest.approx(expected)
    marks = {e: [table.cells[m][e].rank for m in "abc"] for e in ("uni", "conch")}
    assert marks == {"uni": [1, 2, 0], "conch": [2, 1, 0]}
    assert [table.cells[m]["Mean rank"].mean for m in "abc"] == [1.5, 1.5, 3.0]
    assert [table.cells[m]["Mean rank"].rank for m in "abc"] == [0, 0, 0]


def test_rank_correlations_are_scipys_and_known_in_simple_cases() -> None:
    means = {
        "one": [0.9, 0.8, 0.7, 0.6],
        "same": [0.6, 0.5, 0.4, 0.3],
        "back": [0.1, 0.2, 0.3, 0.4],
    }
    found = {(a.one, a.other): (a.kendall, a.spearman) for a in rank_agreement(means)}
    assert found["one", "same"] == pytest.approx((1, 1))
    assert found["one", "back"] == pytest.approx((-1, -1))
    assert found["same", "back"] == pytest.approx((-1, -1))
    (swapped,) = rank_agreement({"one": [4, 3, 2, 1], "other": [4, 3, 1, 2]})
    assert swapped.kendall == pytest.approx(1 - 2 / 6)  # one of six pairs is discordant
    assert swapped.spearman == pytest.approx(1 - 6 * 2 / (4 * 15))
    (flat,) = rank_agreement({"one": [1, 2, 3], "other": [2, 2, 2]})
    assert np.isnan(flat.kendall)


def test_a_reversed_order_is_said_with_its_numbers() -> None:
    made = grid(uni={"a": 4.0, "b": 0.2, "c": 1.0}, conch={"a": 0.2, "b": 4.0, "c": 1.0})
    assert isinstance(made.contrasts, list)
    assert len(made.contrasts) == 3
    strongest = min(made.contrasts, key=lambda contrast: contrast.adjusted)
    assert (strongest.first, strongest.second) == ("a", "b")
    first, second = strongest.differences
    assert first > 0 > second
    assert strongest.change == pytest.approx(first - second)
    assert strongest.low < strongest.change < strongest.high
    text = " ".join(made.sentences)
    assert (
        "With uni, a has the best mean, and is shown to be better than 2 of the 2 others." in text
    )
    assert "Differences between methods depend on the encoder" in text
    assert "a is better than b with uni and worse with conch" in text
    assert "These" not in text
    assert "This holds for these encoders and this dataset only." in text


def test_features_without_signal_shrink_differences_and_reverse_nothing() -> None:
    made = grid(uni={"a": 4.0, "b": 0.5}, noise={"a": 0.0, "b": 0.0})
    text = " ".join(made.sentences)
    assert "Differences between methods depend on the encoder" in text
    assert "No order is shown to be reversed" in text


def test_equal_differences_are_undecided_and_not_called_the_same() -> None:
    made = grid(uni={"a": 1.0, "b": 0.9}, conch={"a": 1.1, "b": 1.0})
    text = " ".join(made.sentences)
    assert "Undecided whether the ranking of methods depends on the encoder" in text
    assert "That does not show that it is the same" in text


def test_contrasts_of_equal_runs_are_zero() -> None:
    one = with_encoder("uni", a=2.0, b=1.0)
    found = contrasts({"uni": one.evidence, "copy": one.evidence}, ["a", "b"], AUC)
    assert isinstance(found, list)
    assert [contrast.change for contrast in found] == [0.0]
    assert not found[0].is_shown


def test_one_method_gives_no_contrast_and_says_why() -> None:
    made = grid(uni={"a": 1.0}, conch={"a": 2.0})
    assert made.contrasts == "1 method with all trainings, at least 2 are needed"
    assert "is not tested: 1 method with all trainings" in " ".join(made.sentences)
    assert [table.name for table in made.tables] == ["encoders"]


def test_incomplete_methods_and_yardsticks_are_left_out() -> None:
    first = with_encoder("uni", a=1.0, b=2.0, lookup=3.0)
    second = with_encoder("conch", a=1.0, b=2.0, lookup=3.0)
    short = {**second.trained, "b": second.trained["b"][:2]}
    assert EncoderGrid([first, replace(second, trained=short)]).methods == ["a"]


def test_other_folds_or_datasets_are_refused() -> None:
    one, other = with_encoder("uni", a=1.0), with_encoder("conch", a=1.0)
    folds = replace(other.plan.splits, folds=other.plan.splits.folds[::-1])
    with pytest.raises(InputError, match="the folds differ"):
        EncoderGrid([one, replace(other, plan=replace(other.plan, splits=folds))])
    with pytest.raises(InputError, match="several datasets"):
        EncoderGrid([one, replace(other, plan=replace(other.plan, dataset="x"))])
    with pytest.raises(InputError, match="one encoder has several runs"):
        EncoderGrid([one, one])
    assert encoder_grids([one, replace(other, plan=replace(other.plan, splits=folds))]) == []
    assert len(encoder_grids([one, other])) == 1


def test_the_report_has_page_picture_and_tables(tmp_path: Path) -> None:
    made = grid(uni={"<a>": 3.0, "b": 1.0, "c": 0.0}, conch={"<a>": 0.5, "b": 2.0, "c": 0.0})
    page = made.write(tmp_path)
    text = page.read_text()
    assert made.figures.failures == {}
    assert "&lt;a&gt;" in text
    assert "<a>" not in text
    for sentence in made.sentences:
        assert sentence.replace("<a>", "&lt;a&gt;").split(" (adjusted")[0] in text
    names = {path.name for path in page.parent.iterdir()}
    assert names >= {"report.md", "encoders.csv", "encoder_ranks.csv", "encoders.svg"}


SLIDES = [f"s{i:02d}" for i in range(48)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two encoders of different width, one without signal, and slide vectors of a third."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "study.toml").write_text('name = "study"\nlabels = ["a", "b"]\nfolds = 3\n')
    lines = ["slide,label,patient"]
    rng = np.random.default_rng(3)
    for i, slide in enumerate(SLIDES):
        lines.append(f"{slide},{'ab'[i % 2]},P{i // 2 * 2 + i % 2}")
        signal = np.zeros((5, 6), np.float32)
        signal[:, 0] = 2 * (i % 2)
        for encoder, width, add in (("uni", 6, signal), ("noise", 4, 0), ("titan", 3, 0)):
            features = (rng.standard_normal((5, width)) + add).astype(np.float32)
            if encoder == "titan":
                write_h5(folder / "slide_features_titan" / f"{slide}.h5", features[0])
            else:
                write_h5(folder / encoder / f"{slide}.h5", features)
    (folder / "labels.csv").write_text("\n".join(lines))
    (folder / "noise" / "s47.h5").unlink()
    return folder


@pytest.fixture(scope="module")
def packed(lab: Path) -> Path:
    for encoder, source in (("uni", "uni"), ("noise", "noise"), ("titan", "slide_features_titan")):
        words = ["--dataset", str(lab / "study.toml"), "--labels", str(lab / "labels.csv")]
        command = ["data", "pack", str(lab / source), *words, "--encoder", encoder]
        missing = ["--allow-missing"] if encoder == "noise" else []
        assert main([*command, "--data", str(lab / "data"), "--workers", "1", *missing]) == 0
    return lab


def run_words(lab: Path, *encoders: str) -> list[str]:
    return [
        *("run", "--dataset", str(lab / "study.toml"), "--encoder", *encoders),
        *("--methods", "linear-probe", "knn-probe", "--data", str(lab / "data")),
        *("--results", str(lab / "results"), "--no-tracking", "--on", "inline"),
    ]


def test_slides_that_one_encoder_lacks_are_named_or_left_out_of_all(
    packed: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([*run_words(packed, "uni", "noise"), "--dry-run"]) == 2
    assert "noise lacks 1 slide: s47" in capsys.readouterr().err
    folds = []
    for encoders in (("uni", "noise"), ("noise", "uni")):
        words = run_words(packed, *encoders)
        assert main([*words, "--allow-missing", "--dry-run"]) == 0
        output = capsys.readouterr().out
        assert output.count("1 slide is left out because an encoder lacks them (noise 1)") == 2
        folds += [line for line in output.splitlines() if "split " in line]
    assert len({line.partition("split ")[2][:16] for line in folds}) == 1
    assert main([*run_words(packed, "uni", "resnet"), "--dry-run"]) == 2
    assert "There is no encoder of study 'resnet'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_grid_is_run_on_the_same_folds_and_reported(
    packed: Path, capsys: pytest.CaptureFixture
) -> None:
    words = [*run_words(packed, "uni", "noise", "titan"), "--allow-missing"]
    assert main(words) == 0
    output = capsys.readouterr().out
    assert "Methods by encoders: Macro AUC (%)" in output
    assert "With uni, " in output
    assert "no --encoder" not in output
    (page,) = (packed / "results" / "reports").glob("study_encoders_*/report.html")
    assert f"Encoders: {page}" in output
    runs = [path.name for path in page.parent.parent.iterdir() if "encoders" not in path.name]
    assert len(runs) == 3
    again = ["report", *sorted(runs), "--results", str(packed / "results")]
    assert main(again) == 0
    assert "Methods by encoders: Macro AUC (%)" in capsys.readouterr().out
