"""Values of files: as declared types, and what is wrong with them in words."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from mil_bench.wording import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")

_NO_LIST = '{input!r:.60} is not a list of texts, such as ["one", "two"]'
_NO_TABLE = "{input!r:.60} is not a table of keys and values"
_MESSAGES = {
    "bool_type": "{input!r:.60} is not true or false",
    "dict_type": _NO_TABLE,
    "float_type": "{input!r:.60} is not a number",
    "greater_than_equal": "{input!r} is less than {ge}",
    "int_type": "{input!r:.60} is not a whole number",
    "list_type": "{input!r:.60} is not a list",
    "literal_error": "{input!r:.60} is not {expected}",
    "missing": "it is missing",
    "model_type": _NO_TABLE,
    "string_type": "{input!r:.60} is not a text in quotation marks",
    "too_short": _NO_LIST,
    "tuple_type": _NO_LIST,
}
"""Type of pydantic's error to what is said of it; of other errors pydantic's own text is."""


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else; the text says what.
    """
    try:
        value = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def typed(kind: type[T], value: object) -> T:
    """A value of a dataclass or a pydantic model, from its fields as JSON holds them.

    Raises:
        ValueError: a field is missing, unknown or of another type; the text is one line.
    """
    try:
        adapter = _adapter(kind)  # type: ignore[arg-type]  # a class is hashable
        return adapter.validate_python(value, extra="forbid")
    except ValidationError as error:
        first, *more = error.errors(include_url=False)
        place = ".".join(map(str, first["loc"])) or "it"
        others = f" (and {len(more)} more)" if more else ""
        raise ValueError(f"{place} cannot be understood: {first['msg']}{others}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def value_problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line per problem, with its key: first the unknown keys, then the others as in the model.

    Args:
        error: what pydantic raised. A validator of the model may raise a ``ValueError`` with
            several texts; each is a problem.
        model: the model that was validated.
    """
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    return [line for fault in faults for line in _lines(fault, model)]


def _lines(fault: Any, model: type[BaseModel]) -> Iterator[str]:
    *above, last = fault["loc"]
    key = _key(fault["loc"])
    kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        yield f"unknown key '{key}'{suggestion(last, _model_at(model, above).model_fields)}"
    elif kind == "value_error":
        yield from (f"{key}: {problem}" for problem in context["error"].args)
    elif kind == "string_type" and isinstance(last, int):
        yield f'{key}: {value!r:.60} is not text; write it in quotation marks: "{value!s:.60}"'
    else:
        message = _MESSAGES.get(kind)
        said = message.format(input=value, **context) if message else fault["msg"]
        yield f"{key}: {said}"


def _key(location: Sequence[int | str]) -> str:
    """A location as a key: ``folds[0].train``, without the number of a last element."""
    parts = [part for part in location if part != "[key]"]
    if isinstance(parts[-1], int):
        parts.pop()
    steps = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return "".join(steps).removeprefix(".")


def _model_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The model of the table at a location: of a field, or of the elements of a field."""
    for part in location:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            kinds = (annotation, *get_args(annotation))
            model = next(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    return model
