"""Look at features before they are trained on: what is packed, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mil_bench.commands.options import add_data_folder, add_results_folder, progress_bar

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from mil_bench.bags.store import BagStore
    from mil_bench.intake.inspection.sources import BagSource


def add_checks(actions: Any) -> None:
    """``mil-bench data info`` and ``mil-bench data check``."""
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
    looking = actions.add_parser(
        "check",
        help="look for what would spoil a benchmark: copies, NaN, dead features, a feature that is the label",
        description="Look through a folder of feature files (before packing), a packed dataset, or an .npz of bags "
        "(features, offsets, labels). Exit code 1 where the data must not be used as they are.",
    )
    looking.set_defaults(call=check)
    looking.add_argument(
        "target",
        metavar="TARGET",
        help="folder of feature files, dataset name, card file, store file or .npz",
    )
    looking.add_argument(
        "--dataset", metavar="NAME", help="the card to compare with; or a card file"
    )
    looking.add_argument("--labels", type=Path, metavar="TABLE", help="label sheet to compare with")
    add_results_folder(looking)


def info(arguments: argparse.Namespace) -> int:
    """A store's facts."""
    from mil_bench.bags.store import BagStore
    from mil_bench.datasets.catalogue import find_dataset, open_store
    from mil_bench.errors import printable

    path = Path(arguments.target)
    is_store = path.is_file() and path.suffix != ".toml"
    store = (
        BagStore(path) if is_store else open_store(find_dataset(arguments.target), arguments.data)
    )
    for name, fact in _facts(store):
        print(printable(f"{name + ':':12} {fact}"))
    return 0


def _facts(store: BagStore) -> list[tuple[str, str]]:
    import numpy as np

    frame = store.slides
    known = store.patch_sizes[~np.isnan(store.patch_sizes)]
    sides = [
        f"{side:g} ({n} slides)"
        for side, n in zip(*np.unique(known, return_counts=True), strict=True)
    ]
    counts = np.bincount(store.labels, minlength=store.hierarchy.n_fine)
    sizes = frame["rows"]
    return [
        ("file", f"{store.path}, {_size(store.path.stat().st_size)}"),
        ("dataset", store.dataset),
        ("features", f"{store.width} of type {store.dtype.name}, {store.origin}"),
        ("slides", str(len(store))),
        (
            "instances",
            f"{store.rows}; a bag has {sizes.min()} to {sizes.max()}, median {sizes.median():g}",
        ),
        ("coordinates", store.coords_unit or "none"),
        ("patch sizes", ", ".join(sides) or "not known"),
        (
            "classes",
            ", ".join(f"{name} {n}" for name, n in zip(store.hierarchy.fine, counts, strict=True)),
        ),
        (
            "groups",
            f"{frame['group'].nunique()} of kind {store.group_name}"
            if store.group_name
            else "not known",
        ),
        ("centres", _counted(frame["centre"]) or "not known"),
        ("own split", _counted(frame["split"]) or "none"),
        (
            "witnesses",
            "none" if store.instance_labels is None else "every instance has its own label",
        ),
        ("digest", store.digest),
    ]


def _counted(values: Any) -> str:
    counts = values[values != ""].value_counts()
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def check(arguments: argparse.Namespace) -> int:
    """What would spoil a benchmark."""
    from mil_bench.datasets.catalogue import find_dataset
    from mil_bench.errors import printable
    from mil_bench.intake.inspection.look import check as look_through
    from mil_bench.intake.inspection.look import counted
    from mil_bench.intake.inspection.target import open_target

    spec = find_dataset(arguments.dataset) if arguments.dataset else None
    target = open_target(arguments.target, spec, arguments.labels, arguments.data, progress_bar)
    source = target.source
    checked = look_through(source, target.groups, progress_bar)
    findings = sorted([*target.findings, *checked.findings], key=lambda finding: not finding.wrong)
    count = counted(len(source.slides), "bag", "bags")
    size = f"{count}, {checked.sizes.sum()} instances, {checked.width} features"
    print(printable(f"{source.title}: {size}\n"))
    wrong = [finding for finding in findings if finding.wrong]
    if not wrong:
        print("Nothing wrong was found.\n")
    for title, group in (("Wrong", wrong), ("Worth knowing", findings[len(wrong) :])):
        if group:
            lines = (printable(finding.text).replace("\n", "\\n") for finding in group)
            print("\n  - ".join([f"{title}:", *lines]), end="\n\n")
    _print_classes(source, target.expected)
    if checked.sizes.any():
        _print_sizes(checked.sizes[checked.sizes > 0])
        _draw_sizes(checked.sizes[checked.sizes > 0], Path(source.title), arguments.results)
    return 1 if wrong else 0


def _print_classes(source: BagSource, expected: tuple[int, ...]) -> None:
    if not source.classes:
        print(
            "Labels are not known: name --dataset and --labels to have classes and leaking columns looked at.\n"
        )
        return
    print("Bags a class" + (", and on the card:" if expected else ":"))
    for c, (name, count) in enumerate(zip(source.classes, source.class_counts, strict=True)):
        print(f"  {name:16} {count:7d}" + (f" {expected[c]:7d}" if expected else ""))
    print()


def _print_sizes(sizes: np.ndarray) -> None:
    """A histogram of bag sizes in characters, on a logarithmic axis."""
    import numpy as np

    edges = np.unique(np.geomspace(sizes.min(), sizes.max() + 1, 13).round().astype(int))
    counts, _ = np.histogram(sizes, edges)
    print(f"Instances a bag: {sizes.min()} to {sizes.max()}, median {np.median(sizes):g}")
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        bar = "█" * int(np.ceil(40 * count / counts.max()))
        print(f"  {f'{low}-{high - 1}' if high - low > 1 else str(low):>15} {count:7d} {bar}")


def _draw_sizes(sizes: np.ndarray, name: Path, results: Path) -> None:
    from mil_bench.report.figures.bag_sizes import bag_size_histogram

    path = results / "checks" / f"{name.stem}-bag-sizes.png"
    bag_size_histogram(sizes, f"{name.stem}: {len(sizes)} bags", path)
    print(f"Picture: {path}")
