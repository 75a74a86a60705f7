"""``mil-bench data get``: public features from the Hugging Face hub."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_data_folder, named_again
from mil_bench.progress import progress_bar

if TYPE_CHECKING:
    from mil_bench.public.getting import Gotten
    from mil_bench.public.recipe import Recipe

_NOT_TRIED = "not tried"


def add_get(actions: Any) -> None:
    """``mil-bench data get``."""
    parser = actions.add_parser(
        "get",
        help="fetch public features, pack them, write label table and official split",
        description="Fetches public features from the Hugging Face hub and packs them into a bag "
        "store; a file is removed once it is packed. Label table, card and official split come "
        "with the store, and the split is audited. If it is interrupted or killed, the same "
        "command continues. HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE have their usual "
        "meaning. It needs the extra hub: pip install 'mil-bench[hub]'.",
    )
    parser.set_defaults(call=get)
    parser.add_argument("name", nargs="?", metavar="NAME", help="one of the names of --list")
    parser.add_argument(
        "--list", action="store_true", help="list what there is: size, licence, gate"
    )
    parser.add_argument(
        "--accept-licence",
        action="store_true",
        help="you have read the licence of features that are not open, and accept it",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="TABLE",
        help="your label table, for features that are published without labels (PANDA: Kaggle's "
        "train.csv)",
    )
    add_data_folder(parser)


def get(arguments: argparse.Namespace) -> int:
    """Fetch public features, or list them."""
    from mil_bench.errors import InputError, show
    from mil_bench.public import getting
    from mil_bench.public.recipe import find_recipe

    if arguments.list or arguments.name is None:
        return _list()
    recipe = find_recipe(arguments.name)
    for name, text in _facts(recipe):
        show(f"{name + ':':10} {text}")
    if not recipe.open and not arguments.accept_licence:
        raise InputError(
            f"data get {recipe.name}",
            [f"its licence is not an open one: {recipe.licence}"],
            f"Read it at {recipe.page}, and add --accept-licence if you accept it.",
        )
    gotten = getting.get(recipe, arguments.data, arguments.labels, progress_bar)
    return _show(gotten, arguments.data)


def _list() -> int:
    """Every recipe with size, licence and gate."""
    from mil_bench.public.recipe import find_recipe, recipe_names
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.report.tables import ResultTable

    cells = {}
    for name in recipe_names():
        recipe = find_recipe(name)
        labels = "; needs --labels" if recipe.needs_labels else ""
        cells[name] = {
            "size": _size(recipe.size),
            "gate": recipe.gate or "open",
            "hub": recipe.tried or _NOT_TRIED,
            "what it is": f"{recipe.title}{labels}",
            "licence": recipe.licence + ("" if recipe.open else " [needs --accept-licence]"),
        }
    print_tables([ResultTable("recipes", "Public features", "", cells, row_heading="name")])
    print(
        "\nhub: when somebody last fetched it from the real hub; 'not tried' recipes were tested "
        "against a server on this machine only.\nFetch one:  mil-bench data get NAME"
    )
    return 0


def _size(size: int | None) -> str:
    if size is None:
        return "unknown"
    unit, scale = next(
        (unit, scale) for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if size >= scale
    )
    return f"{size / scale:.3g} {unit}"


def _facts(recipe: Recipe) -> list[tuple[str, str]]:
    """What a user is told before anything is fetched."""
    facts = [
        ("features", recipe.title),
        ("source", f"{recipe.page}, {_size(recipe.size)}"),
        ("licence", recipe.licence),
        ("cite", recipe.spec().citation),
    ]
    if recipe.gate:
        facts.append(("gate", f"{recipe.gate}; ask at {recipe.page} and set HF_TOKEN"))
    if not recipe.tried:
        facts.append(("note", "this recipe was never tried against the real hub; please report"))
    return facts


def _show(gotten: Gotten, data: Path) -> int:
    from mil_bench.errors import show
    from mil_bench.wording import plural

    store, places = gotten.store, gotten.places
    show(
        f"\n{places.store}: {len(store)} slides, {store.rows} instances, {store.width} features "
        f"({store.origin})"
    )
    for reason, count in gotten.skipped.items():
        show(f"Left out: {plural(count, 'slide')}; each {reason}.")
    show(f"{places.labels}: label table")
    again = named_again(gotten.dataset, data)
    inspected, run = again, f"mil-bench run --methods abmil mean-pool --dataset {again}"
    if gotten.encoder:
        inspected = shlex.quote(str(places.store))
        run += f" --encoder {gotten.encoder}"
    else:
        show(f"{places.card}: card")
    run += " --preset quick"
    if gotten.has_split:
        show(f"{places.split}: official split\n")
        asked = [str(places.split)]
        run += f" --splits {shlex.quote(str(places.split))}"
    else:
        show("There is no official split.\n")
        asked = ["--protocol", gotten.protocol]
    code = _audit([*asked, "--dataset", gotten.dataset, "--data", str(data)])
    show(f"\nInspect:  mil-bench data inspect {inspected}\nRun:      {run}")
    return code


def _audit(words: list[str]) -> int:
    """``mil-bench splits audit`` with these words; its exit code."""
    from mil_bench.commands import splits
    from mil_bench.errors import SplitError, show

    parser = argparse.ArgumentParser()
    splits.add_splits(parser.add_subparsers())
    arguments = parser.parse_args(["splits", "audit", *words])
    try:
        return int(arguments.call(arguments))
    except SplitError as error:  # few slides: nothing is wrong with what was fetched
        show(str(error))
        return 0
