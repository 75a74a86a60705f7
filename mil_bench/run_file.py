"""Run files: everything that one call of ``mil-bench run`` takes, as TOML.

A key is the name of an option with underscores in place of hyphens, and its value is what the
option takes; of an option ``--no-NAME`` the key is ``NAME``. The keys come from the fields that
also give the options, so a new option is a new key. Paths are relative to the folder in which the
command is called, as they are on the command line.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never

from mil_bench import __version__
from mil_bench.datasets.regular_file import read_toml
from mil_bench.errors import InputError
from mil_bench.planning.asked import Asked
from mil_bench.planning.options import add_options, default_of, flag_of, option
from mil_bench.planning.request import RunRequest
from mil_bench.running.setup import Cluster, Setup
from mil_bench.wording import shortened

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True)
class Datasets:
    """The datasets of a call: one run is made for each.

    Args:
        dataset: names or card files.
        test_on: names of datasets that all trained models also predict.
    """

    dataset: tuple[str, ...] = option(
        (),
        "one or more names or card files; simulated datasets take settings: "
        "bracs-sim:slides=200,difficulty=1.5",
        metavar="NAME",
        shown=True,
    )
    test_on: tuple[str, ...] = option(
        (),
        "also predict these datasets with all trained models: tables per cohort, and the drop "
        "from the run's own test slides",
        metavar="NAME",
    )


PARTS = (Datasets, RunRequest, Asked, Setup, Cluster)
"""The dataclasses whose options a run file holds."""
_DECIDING = (Datasets, RunRequest, Asked)
"""Those that decide what is trained and what is asked; the others say where and how fast."""
_REMEDY = "Correct the file; mil-bench run ... --save FILE writes one from a command line."


def options_of(*parts: type) -> dict[str, dataclasses.Field[Any]]:
    """The fields of dataclasses that are options, by their names in argparse's result."""
    return {
        field.name: field
        for part in parts
        for field in dataclasses.fields(part)
        if "flag" in field.metadata
    }


def key_of(field: dataclasses.Field[Any]) -> str:
    """The key of an option in a run file."""
    return flag_of(field).removeprefix("--").removeprefix("no-").replace("-", "_")


def completed(arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments, and for options that are not among them the run file's values or defaults.

    An option on the command line counts more than the file, so that one file serves several
    machines; what the report shows and ``--save`` writes is what was used.

    Args:
        arguments: the options that were given, and ``file``, the path of a run file or None.

    Raises:
        InputError: the file cannot be read, or has a problem; all are reported.
    """
    values = {name: default_of(field) for name, field in options_of(*PARTS).items()}
    if arguments.file is not None:
        values |= read_run_file(arguments.file)
    return argparse.Namespace(**(values | vars(arguments)))


def read_run_file(path: Path) -> dict[str, Any]:
    """The values of the keys that a run file has, by the options' names in argparse's result.

    Raises:
        InputError: the file cannot be read, a key is unknown, or a value has the wrong type.
    """
    from pydantic import ValidationError

    from mil_bench.file_values import value_problems

    what = f"run file {shortened(str(path))}"
    content, model = read_toml(path, what, _REMEDY), _model()
    try:
        checked = model.model_validate(content)
    except ValidationError as error:
        raise InputError(what, value_problems(error, model), _REMEDY) from error
    return {
        name: getattr(checked, key_of(field))
        for name, field in options_of(*PARTS).items()
        if key_of(field) in checked.model_fields_set
    }


@cache
def _model() -> type[BaseModel]:
    """The keys of a run file with their types, as pydantic checks them."""
    from pydantic import ConfigDict, create_model

    keys: dict[str, Any] = {
        key_of(field): (_type_of(field), None) for field in options_of(*PARTS).values()
    }
    return create_model("RunFile", __config__=ConfigDict(extra="forbid"), **keys)


def _type_of(field: dataclasses.Field[Any]) -> Any:
    """The type of an option's value, from its declaration."""
    from pydantic import (
        AfterValidator,
        BeforeValidator,
        StrictBool,
        StrictFloat,
        StrictInt,
        StrictStr,
    )

    default = default_of(field)
    if isinstance(default, bool):
        return StrictBool
    kinds: dict[Any, Any] = {int: StrictInt, float: StrictFloat, str: StrictStr}
    kinds[Path] = Annotated[StrictStr, AfterValidator(lambda text: Path(text))]
    kind = kinds[field.metadata["parse"]]
    if not isinstance(default, tuple):
        return kind
    # One value alone is a list of one, as on the command line.
    as_list = BeforeValidator(lambda value: value if isinstance(value, list) else [value])
    return Annotated[tuple[kind, ...], as_list]  # type: ignore[valid-type]


def save_run_file(path: Path, arguments: argparse.Namespace) -> None:
    """Write a run file that gives the same runs as the arguments.

    Args:
        path: of the file. A file with the same values stays as it is.
        arguments: all options, see ``completed``.

    Raises:
        InputError: there is such a file with other content, or a value is no Unicode text.
        StorageError: the disk refuses.
    """
    from mil_bench import durable

    what = f"run file {shortened(str(path))}"
    try:
        content = run_file_text(arguments, *PARTS).encode()
    except UnicodeEncodeError as error:
        problem = f"{error.object[error.start : error.end]!r} in a value is no Unicode text"
        raise InputError(what, [problem], "Rename the file that has this name.") from error
    if path.exists() and path.read_bytes() != content:
        problem = "there is such a file, and it holds something else"
        raise InputError(what, [problem], "Choose another name for --save.")
    durable.write_once(path, lambda file: file.write(content))


def run_file_text(values: argparse.Namespace, *parts: type) -> str:
    """A run file; options at their defaults are left out, except what a command always shows.

    Args:
        values: all options of ``parts`` by name.
        parts: the dataclasses whose options are written.
    """
    import tomli_w

    content = {
        key_of(field): _plain(getattr(values, name))
        for name, field in options_of(*parts).items()
        if field.metadata["shown"] or getattr(values, name) != default_of(field)
    }
    head = f"# Made by mil-bench {__version__}; run it with: mil-bench run FILE"
    return f"{head}\n{tomli_w.dumps(content)}"


def _plain(value: Any) -> Any:
    """A value as TOML has it; a list of one value is written as that value."""
    if isinstance(value, list | tuple):
        plain = [_plain(element) for element in value]
        return plain[0] if len(plain) == 1 else plain
    return value if isinstance(value, bool | int | float) else str(value)


def run_file_of(command: str, asked: Asked) -> str:
    """The run file of a stored run, without machine and folders; "" if it has no such command.

    Args:
        command: as ``RunRequest.command`` made it; "" or several commands have no run file.
        asked: the question.
    """
    parser = _Parser(allow_abbrev=False, add_help=False)
    add_options(parser, Datasets, *options_of(Datasets))
    add_options(parser, RunRequest, *options_of(RunRequest))
    try:
        program, name, *words = shlex.split(command)
        values = parser.parse_args(words)
    except ValueError:  # joined runs have several commands; a bundle may bring any text
        return ""
    if (program, name) != ("mil-bench", "run"):
        return ""
    return run_file_text(argparse.Namespace(**(vars(values) | vars(asked))), *_DECIDING)


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the process."""

    def error(self, message: str) -> Never:
        raise ValueError(message)
