"""A digest of a class that is given by value, such as one of a notebook, whose source is not known.

It is made from compiled code: from that of the class and of what it names in the module it is from.
So a changed cell makes another method, and so does another version of Python.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PLAIN = (str, int, float, complex, bytes, type(None))
_OF_CLASSES = {"__module__", "__doc__", "__dict__", "__weakref__", "__firstlineno__"}


def class_digest(value: type) -> str:
    """8 hex digits that change if the code of a class changes, or anything of its module in it."""
    home, parts = value.__module__, []
    waiting, seen = [value], {id(value)}
    while waiting:
        for name, part in _parts(waiting.pop()):
            known = _known(part)
            parts.append(f"{name}={'' if known is None else known}")
            is_code = isinstance(part, type | FunctionType) and part.__module__ == home
            if is_code and id(part) not in seen:
                seen.add(id(part))
                waiting.append(part)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Everything that a class or a function consists of, by name."""
    if isinstance(value, type):
        yield from (("base", base) for base in value.__bases__)
        members = {n: m for n, m in vars(value).items() if n not in _OF_CLASSES}
        for name in sorted(members):
            member = members[name]
            inner = getattr(member, "__func__", getattr(member, "fget", member))
            yield name, inspect.unwrap(inner) if callable(inner) else inner
        return
    yield "code", value.__code__
    yield "defaults", value.__defaults__
    yield "keywords", value.__kwdefaults__
    for cell in value.__closure__ or ():
        yield "closure", cell.cell_contents
    for name in _names(value.__code__):
        if name in value.__globals__:
            yield name, value.__globals__[name]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _known(value: Any) -> str | None:
    """A value as text that is the same in every process; None if there is no such text."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, CodeType):
        constants = _known(value.co_consts)
        return f"{value.co_code.hex()} {constants} {value.co_names} {value.co_varnames}"
    if isinstance(value, type | FunctionType):
        return value.__qualname__
    if dataclasses.is_dataclass(value):
        return type(value).__name__ + str(_known(vars(value)))
    if isinstance(value, dict):
        return _mapping(value)
    if isinstance(value, tuple | list):
        return str([_known(item) for item in value])
    if isinstance(value, set | frozenset):
        return str(sorted(str(_known(item)) for item in value))
    return None


def _mapping(values: Mapping[Any, Any]) -> str:
    return str([(_known(key), _known(value)) for key, value in values.items()])
