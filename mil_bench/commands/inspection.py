"""What a packed dataset holds, and what is wrong with features before they are trained on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.cards import add_allow_missing
from mil_bench.commands.options import add_data_folder, add_results_folder
from mil_bench.commands.terminal.printing import linked
from mil_bench.progress import progress_bar

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from mil_bench.bags.store import BagStore
    from mil_bench.intake.inspection.sources import BagSource
    from mil_bench.intake.readers import Reading

_LONGEST_BAR = 34  # of a histogram: lines of 60 columns
_MOST_BYTES_VERIFIED = 2**32  # read in about two seconds; info is to answer at once


def add_inspection(actions: Any) -> None:
    """``mil-bench data info`` and ``mil-bench data inspect``."""
    about = actions.add_parser(
        "info", help="what is in a packed dataset: slides, features, groups, digest"
    )
    about.set_defaults(call=info)
    about.add_argument(
        "target",
        metavar="NAME|FILE",
        help="a packed dataset's name, its card file or its store file",
    )
    add_data_folder(about)
    inspecting = actions.add_parser(
        "inspect",
        help="find what would invalidate a benchmark: duplicates, NaN, constant features, features "
        "that are the label",
        description="Inspects a folder of feature files (before packing), a packed dataset, or an "
        ".npz of bags (features, offsets, labels). Exits with 1 if the data must not be used as "
        "they are.",
    )
    inspecting.set_defaults(call=inspect)
    inspecting.add_argument(
        "target",
        metavar="TARGET",
        help="folder of feature files, dataset name, card file, store file or .npz",
    )
    inspecting.add_argument(
        "--dataset", metavar="NAME", help="dataset or card file to compare with"
    )
    inspecting.add_argument(
        "--labels", type=Path, metavar="TABLE", help="label table to compare with"
    )
    add_allow_missing(inspecting)
    add_reading(inspecting)
    add_results_folder(inspecting)
    add_data_folder(inspecting)


def add_reading(parser: Any) -> None:
    """Add the options for how feature files are read."""
    parser.add_argument(
        "--key",
        default="",
        metavar="NAME",
        help="name of the features in each file (default: features, feats or patch_embeddings)",
    )
    parser.add_argument(
        "--max-expansion",
        type=float,
        default=100.0,
        metavar="N",
        help="refuse a compressed file that unpacks to more than N times its size (default: 100)",
    )


def reading_of(arguments: argparse.Namespace) -> Reading:
    """How feature files are read, according to the arguments.

    Raises:
        InputError: the greatest expansion is no positive number.
    """
    from mil_bench.errors import InputError
    from mil_bench.intake.readers import Reading

    if not arguments.max_expansion >= 1:
        problem = f"{arguments.max_expansion} is not a number from 1 on"
        raise InputError("--max-expansion", [problem], "Give a number such as 1000.")
    return Reading(arguments.key.strip("/"), arguments.max_expansion)


def info(arguments: argparse.Namespace) -> int:
    """A store's facts."""
    from mil_bench.bags.opening import open_bags
    from mil_bench.datasets.catalogue import find_dataset, open_store
    from mil_bench.errors import show

    path = Path(arguments.target)
    is_store = path.is_file() and path.suffix != ".toml"
    store = (
        open_bags(path) if is_store else open_store(find_dataset(arguments.target), arguments.data)
    )
    for name, fact in [*_facts(store), ("rows", _verified(store, arguments.target))]:
        show(f"{name + ':':12} {fact}")
    return 0


def _verified(store: BagStore, target: str) -> str:
    """Compare the rows with their digests, unless that takes longer than a moment.

    Raises:
        InputError: they are not those that were packed.
    """
    if store.path.stat().st_size > _MOST_BYTES_VERIFIED:
        return f"not verified here; mil-bench data inspect {shlex.quote(target)} verifies them"
    store.verify(progress_bar)
    return "verified: as they were packed"


def _facts(store: BagStore) -> list[tuple[str, str]]:
    import numpy as np

    from mil_bench.datasets.catalogue import dataset_name
    from mil_bench.wording import plural

    frame = store.slides
    sides, numbers = np.unique(store.patch_sizes[~np.isnan(store.patch_sizes)], return_counts=True)
    patch_sizes = [
        f"{side:g} ({plural(n, 'slide')})" for side, n in zip(sides, numbers, strict=True)
    ]
    counts = np.bincount(store.labels, minlength=store.hierarchy.n_fine)
    sizes = frame["rows"]
    return [
        ("file", f"{store.path}, {_size(store.path.stat().st_size)}"),
        ("dataset", dataset_name(store.dataset)),
        ("features", f"{store.width} of type {store.dtype.name}, {store.origin}"),
        *([("encoder", store.encoder)] if store.encoder else []),
        *([] if store.labels_path is None else [("labels", str(store.labels_path))]),
        ("slides", _slides(store)),
        (
            "instances",
            f"{store.rows}; {sizes.min()} to {sizes.max()} per bag, median {sizes.median():g}",
        ),
        ("coordinates", store.coords_unit or "none"),
        ("patch sizes", ", ".join(patch_sizes) or "unknown"),
        (
            "classes",
            ", ".join(f"{name} {n}" for name, n in zip(store.hierarchy.fine, counts, strict=True)),
        ),
        (
            f"{store.group_name or 'patient'}s",
            str(frame["group"].nunique()) if store.group_name else "unknown",
        ),
        ("centres", _counts(frame["centre"]) or "unknown"),
        ("own split", _counts(frame["split"]) or "none"),
        (
            "witnesses",
            "none" if store.instance_labels is None else "every instance has its own label",
        ),
        ("digest", store.digest),
    ]


def _slides(store: BagStore) -> str:
    from mil_bench.wording import plural

    facts = [str(len(store))]
    if others := len(store.stored) - len(store):
        facts.append(f"the file has features of {plural(others, 'slide')} more")
    if store.without_features:
        labelled = plural(store.without_features, "labelled slide has", "labelled slides have")
        facts.append(f"{labelled} no features")
    return "; ".join(facts)


def _counts(values: Any) -> str:
    counts = values[values != ""].value_counts()
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def inspect(arguments: argparse.Namespace) -> int:
    """What would invalidate a benchmark; 1 if the data must not be used as they are."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.errors import printable
    from mil_bench.intake.inspection.look import inspect_bags
    from mil_bench.intake.inspection.target import open_target
    from mil_bench.wording import plural

    spec = find_dataset(arguments.dataset) if arguments.dataset else None
    target = open_target(
        arguments.target,
        spec,
        arguments.labels,
        arguments.data,
        progress_bar,
        reading_of(arguments),
        arguments.allow_missing,
    )
    source = target.source
    inspection = inspect_bags(source, target.groups, progress_bar)
    findings = sorted(
        [*target.findings, *inspection.findings], key=lambda finding: not finding.wrong
    )
    count = plural(len(source.slides), "bag")
    size = f"{count}, {inspection.sizes.sum()} instances, {inspection.width} features"
    if (groups := len(set(target.groups))) < len(target.groups):
        size += f"; {groups} {spec.groups.name if spec else 'group'}s"
    print(printable(f"{source.title}: {size}\n"))
    wrong = [finding for finding in findings if finding.wrong]
    if not wrong:
        print("No errors were found.\n")
    for title, group in (("Errors", wrong), ("Notes", findings[len(wrong) :])):
        if group:
            lines = (printable(finding.text).replace("\n", "\\n") for finding in group)
            print("\n  - ".join([f"{title}:", *lines]), end="\n\n")
    _print_classes(source, target.expected)
    sizes = inspection.sizes[inspection.sizes > 0]
    if sizes.size:
        _print_sizes(sizes)
        _draw_sizes(sizes, Path(source.title), arguments.results)
    return 1 if wrong else 0


def _print_classes(source: BagSource, expected: tuple[int, ...]) -> None:
    if not source.classes:
        print(
            "Labels are unknown: give --dataset and --labels to inspect the classes and to find "
            "feature columns that are the label.\n"
        )
        return
    from mil_bench.errors import show

    print("Bags per class" + (", and expected on the card:" if expected else ":"))
    for c, (name, count) in enumerate(zip(source.classes, source.class_counts, strict=True)):
        show(f"  {name:16} {count:7d}" + (f" {expected[c]:7d}" if expected else ""))
    print()


def _print_sizes(sizes: np.ndarray) -> None:
    """A histogram of bag sizes in characters, on a logarithmic axis."""
    import numpy as np

    edges = np.unique(np.geomspace(sizes.min(), sizes.max() + 1, 13).round().astype(int))
    counts, _ = np.histogram(sizes, edges)
    print(f"Instances per bag: {sizes.min()} to {sizes.max()}, median {np.median(sizes):g}")
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        bar = "█" * int(np.ceil(_LONGEST_BAR * count / counts.max()))
        print(f"  {f'{low}-{high - 1}' if high - low > 1 else str(low):>15} {count:7d} {bar}")


def _draw_sizes(sizes: np.ndarray, name: Path, results: Path) -> None:
    from mil_bench.report.figures.bag_sizes import bag_size_histogram

    path = results / "inspection" / f"{name.stem}-bag-sizes.png"
    bag_size_histogram(sizes, f"{name.stem}: {len(sizes)} bags", path)
    print(f"Figure: {linked(path)}")
