"""Show where the trained models of a run look in a slide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.inspection import add_reading, reading_of
from mil_bench.commands.models.predict import add_model_choice, stored_run
from mil_bench.commands.terminal.printing import linked
from mil_bench.errors import one_line

if TYPE_CHECKING:
    import argparse

_EXAMPLES = """\
examples:
  A slide of the run, all methods side by side:
    mil-bench maps RUN --method all SLIDE
  A new slide over its image, with the highest patches cut out:
    mil-bench maps RUN --method hmil SLIDE --features FOLDER --image SLIDE.svs
  In QuPath: open the image, then drag hmil.geojson onto it.
"""


def add_maps(subparsers: Any) -> None:
    """``mil-bench maps``."""
    parser = subparsers.add_parser(
        "maps",
        help="show where a run's trained models look in a slide: PNG, GeoJSON for QuPath, CSV",
        description="Show the attention, or the score, of every instance of a slide: a picture, "
        "GeoJSON that QuPath opens, a CSV file, and a page that shows them together. Values are "
        "means over the models; models in whose training the slide took part are left out if "
        "others are there. Colours show ranks within the slide, or within the bag of its patient. "
        "--method all shows all methods side by side.",
        epilog=_EXAMPLES,
    )
    parser.set_defaults(call=maps)
    add_model_choice(parser)
    parser.add_argument(
        "slide",
        metavar="SLIDE",
        help="slide id, or the path of its feature file; or a patient with all slides, if labels "
        "of the run belong to patients",
    )
    parser.add_argument(
        "--features",
        type=Path,
        metavar="FOLDER",
        help="folder of feature files, or a packed bag store, that has the slide (default: the "
        "features of the training)",
    )
    parser.add_argument(
        "--image",
        type=Path,
        metavar="SLIDE.svs",
        help="the slide itself, to show below the map; needs pip install 'mil-bench[slides]'",
    )
    parser.add_argument(
        "--mpp",
        type=float,
        metavar="N",
        help="width of a level-0 pixel in micrometres, if coordinates are in micrometres and no "
        "image says it",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the files (default: results/maps/RUN/SLIDE); of a patient's slides, with a "
        "folder for each",
    )
    add_reading(parser)


def maps(arguments: argparse.Namespace) -> int:
    """Map a slide, print the tables and write the files."""
    from mil_bench.maps.slide_maps import file_name
    from mil_bench.maps.writing import write_maps
    from mil_bench.report.render.terminal import print_tables
    from mil_bench.results import Results
    from mil_bench.runs.mapping import SlideRequest, map_slides
    from mil_bench.runs.predicting import ModelChoice

    request = SlideRequest(
        arguments.slide,
        arguments.features,
        arguments.image,
        arguments.mpp,
        reading_of(arguments),
    )
    choice = ModelChoice(arguments.method, arguments.fold, arguments.seed, arguments.data)
    result = stored_run(arguments)
    of_slides = map_slides(result, request, choice)
    for made in of_slides:
        folder = arguments.out
        if folder is None:
            folder = Results(arguments.results).maps / result.run_id
        if arguments.out is None or len(of_slides) > 1:
            folder /= file_name(made.slide)
        files = write_maps(made, folder)
        print_tables([made.overview, *made.top_tables])
        for fact in (*made.notes, *made.patches.notes):
            print(f"! {one_line(fact)}")
        for label, why in made.without.items():
            print(f"! {one_line(label)} has no map: it {why}.")
        print(f"\nMap: {linked(files[-1])}")
        print(f"In the same folder: {', '.join(path.name for path in files[:-1])}")
    return 0
