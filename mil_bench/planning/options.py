"""Requests as options: a dataclass's fields give the options of a command and the command as text.

A field made by ``option`` carries its help. A boolean field is a flag, ``--no-NAME`` if its default
is True; a field whose default is a tuple takes one or more values; any other field takes one.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

_T = TypeVar("_T")


def option(
    default: Any,
    help: str,
    *,
    parse: Callable[[str], Any] = str,
    metavar: str | None = None,
    choices: Sequence[str] | None = None,
    flag: str = "",
    shown: bool = False,
) -> Any:
    """A field of a request that is also an option of the command line.

    Args:
        default: default of the field and the option; a function is called for each request.
        help: help text of the option.
        parse: converts a word of the command line to a value.
        metavar: name of the value in ``--help``.
        choices: the allowed values.
        flag: name of the option, if it is not the field's name with hyphens.
        shown: whether ``words_of`` includes the option even if it has its default.
    """
    about = {
        "help": help,
        "parse": parse,
        "metavar": metavar,
        "choices": choices,
        "flag": flag,
        "shown": shown,
    }
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=about)
    return dataclasses.field(default=default, metadata=about)


def add_options(parser: Any, request: type, *names: str, required: Sequence[str] = ()) -> None:
    """Add fields of a request to a parser or a group of one.

    A parser that is made with ``argument_default=argparse.SUPPRESS`` gives no defaults: its result
    has only what the user gave.

    Args:
        parser: a parser of argparse, or a group of one.
        request: the dataclass.
        names: names of the fields.
        required: names of the fields that the user must give.
    """
    fields = {field.name: field for field in dataclasses.fields(request)}
    for name in names:
        field = fields[name]
        about = {key: field.metadata[key] for key in ("metavar", "choices")}
        words: dict[str, Any] = {key: value for key, value in about.items() if value is not None}
        words |= {"dest": name, "help": field.metadata["help"]}
        default = default_of(field)
        words["default"] = default if parser.argument_default is None else parser.argument_default
        if isinstance(default, bool):
            words |= {"action": "store_false" if default else "store_true"}
        else:
            words |= {"type": field.metadata["parse"]}
            words |= {"nargs": "+"} if isinstance(default, tuple) else {}
            words |= {"required": True} if name in required else {}
        parser.add_argument(flag_of(field), **words)


def from_arguments(request: type[_T], arguments: argparse.Namespace, **more: Any) -> _T:
    """A request from parsed arguments; fields without an option keep their defaults.

    Args:
        request: the dataclass.
        arguments: the result of argparse.
        more: values of other fields.
    """
    names = [field.name for field in dataclasses.fields(request)]  # type: ignore[arg-type]
    given = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    return request(**(values | more))


def words_of(request: Any) -> Iterator[str]:
    """The options for this request; an option at its default is given only if it is ``shown``."""
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        if "flag" not in field.metadata:
            continue
        if value == default_of(field) and not field.metadata["shown"]:
            continue
        yield flag_of(field)
        if isinstance(value, tuple):
            yield from map(str, value)
        elif not isinstance(value, bool):
            yield str(value)


def flag_of(field: dataclasses.Field[Any]) -> str:
    """The option of a field, with its hyphens."""
    name = field.metadata["flag"] or field.name.replace("_", "-")
    return f"--no-{name}" if default_of(field) is True else f"--{name}"


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field; None if it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default
