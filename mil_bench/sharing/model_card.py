"""The model card of a file of models: what they are, how they were trained, how good they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mil_bench.datasets.card import BAG, MEAN, SIMULATED_SUFFIX
from mil_bench.report.render.markdown import plain
from mil_bench.report.tables import Cell
from mil_bench.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mil_bench.sharing.model_file import ModelAbout

_SIMULATED = "The data are simulated: this model knows nothing about real slides."
_LIMITS = (
    "Trained and tested on one dataset. Nothing is known about slides of other hospitals, "
    "scanners, stains or patients, nor about features of another encoder or another patch size. "
    "Not a medical device; not for diagnosis."
)


def model_card(about: ModelAbout, file_name: str) -> str:
    """The card as Markdown.

    Args:
        about: what the file holds.
        file_name: its name.
    """
    count = plural(len(about.models), "model")
    parts = [
        f"# {plain(about.label)} on {plain(about.dataset)}",
        f"{count} of the method {plain(about.method)} for whole-slide-image features, trained and "
        "tested by mil-bench. " + _SIMULATED * about.dataset.endswith(SIMULATED_SUFFIX),
        f"## Use\n\n{_use(about, file_name)}",
        f"## Classes\n\n{_classes(about)}",
        f"## Features\n\n{plain(about.features)}. Encoder: "
        f"{plain(about.encoder or 'not named')}. Each slide is an array of {about.in_dim} numbers "
        f"per patch. The same encoder, patch size and magnification are needed.{_patients(about)}",
        f"## Training\n\n{_training(about)}",
        f"## Test results\n\n{_results(about)}",
        f"## Limits\n\n{_LIMITS}",
        f"## Citation\n\nMethod: {plain(about.method_source)}\n\nDataset: {plain(about.citation)}"
        f"\n\nLicence of the dataset: {plain(about.licence)}",
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _patients(about: ModelAbout) -> str:
    """What is one item if labels belong to patients, with a blank before it; else ""."""
    return {
        BAG: " Labels belong to the patient: `features` are the patches of all slides of a "
        "patient, one slide after another in the order of their ids.",
        MEAN: " Labels belong to the patient: predict each slide, and average the probabilities "
        "of a patient's slides.",
    }.get(about.combine, "")


def _use(about: ModelAbout, file_name: str) -> str:
    return (
        "```python\n"
        "import mil_bench\n\n"
        f"model = mil_bench.load_model({file_name!r})\n"
        f"prediction = model.predict(features)  # an array [patches, {about.in_dim}] of one slide\n"
        "prediction.fine  # class to probability, mean over the models\n"
        "prediction.coarse\n"
        "```\n\n"
        f"It needs mil-bench with {plain(about.method)}, version {plain(about.method_version)}. "
        "Nothing in the file is executed."
    )


def _classes(about: ModelAbout) -> str:
    if about.coarse == about.fine:  # there is no hierarchy
        return _table("class", "number", {name: str(i) for i, name in enumerate(about.fine)})
    rows = {
        fine: about.coarse[parent] for fine, parent in zip(about.fine, about.parent, strict=True)
    }
    return _table("fine class", "coarse class", rows)


def _training(about: ModelAbout) -> str:
    first = about.models[0]
    trained = {
        "run": about.run,
        **({"trained by": about.source} if about.source else {}),
        "protocol": f"{about.protocol}, split {about.split_digest}",
        "packed features": about.data_digest,
        "models": ", ".join(f"seed {m.seed} fold {m.fold}" for m in about.models),
        "slides": ", ".join(f"{number} {role}" for role, number in first.slides.items())
        + (" (first model)" if len(about.models) > 1 else ""),
        "selected epochs": ", ".join(str(model.selected_epoch) for model in about.models),
    }
    trained |= {f"recipe: {k}": _common(about, "recipe", k) for k in first.recipe}
    trained |= {f"setting: {k}": _common(about, "params", k) for k in first.params}
    return _table("what", "value", trained | about.trained_with)


def _common(about: ModelAbout, part: str, key: str) -> str:
    """A setting of all models; several if they differ."""
    values = [str(getattr(model, part).get(key, "")) for model in about.models]
    return " or ".join(dict.fromkeys(values))


def _results(about: ModelAbout) -> str:
    cells = {
        name: Cell.over(
            {(0, i): float("nan") if value is None else value for i, value in enumerate(values)}
        ).text()
        for name, values in about.results.items()
    }
    models = len(about.models)
    spread = f", mean ± standard deviation over {models} models" if models > 1 else ""
    tested = f"test {'patients' if about.combine else 'slides'}"
    legend = (
        f"Percent{spread}; each model on the {tested} of its own fold, which it has not seen. "
        "The mean of all models, which `predict` gives, was not tested."
        if models > 1
        else f"Percent, on the {tested} of its fold, which it has not seen."
    )
    return f"{_table('metric', 'value', cells)}\n\n{legend}"


def _table(left: str, right: str, rows: Mapping[str, str]) -> str:
    lines = [(left, right), ("---", "---"), *rows.items()]
    return "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in lines)


def _cell(text: str) -> str:
    return text if text == "---" else plain(text).replace("|", r"\|")
