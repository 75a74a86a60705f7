"""Speed of packing, of reading packed bags and of opening large stores.

    python -m mil_bench.benchmarks.speed.data [--files 64] [--folder DIR]

Prints Markdown tables of ratios within this run. benchmarks/speed/README.md says what is compared,
and why.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mil_bench.benchmarks.speed import packing
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--files", type=int, default=64, metavar="N", help="feature files per layout (default: 64)"
    )
    parser.add_argument(
        "--rows", type=int, default=3000, metavar="N", help="rows per bag (default: 3000)"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="turns; medians are shown (default: 5)"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="folder to write to, on the disk to measure"
    )
    arguments = parser.parse_args()
    if arguments.folder is not None and not arguments.folder.is_dir():
        parser.error(f"--folder {arguments.folder}: there is no such folder")
    parts: dict[str, Callable[[Path], str]] = {
        "Packing": lambda place: packing.measure(
            place, arguments.files, arguments.rows, arguments.repeats
        ),
        "A random bag": lambda place: _reading().measure_bags(
            place, arguments.rows, arguments.repeats
        ),
        "Opening": lambda place: _reading().measure_opening(place, arguments.repeats),
    }
    console = Console(stderr=True)
    for title, measure in parts.items():
        with (
            console.status(f"measuring: {title.lower()}"),
            tempfile.TemporaryDirectory(dir=arguments.folder) as place,
        ):
            shown = measure(Path(place))
        print(f"\n{title}\n\n{shown}", flush=True)


def _reading() -> ModuleType:
    """Imported late: the processes that pack import this module, and torch takes seconds."""
    from mil_bench.benchmarks.speed import reading

    return reading


if __name__ == "__main__":
    main()
