"""Methods built by name, and methods loaded from checkpoints."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mil_bench import durable, registry
from mil_bench.errors import InputError, UnknownNameError
from mil_bench.hierarchy import LabelHierarchy
from mil_bench.methods.settings import defaults_of, parse_settings, require_ranges

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mil_bench.methods.method import Method


_MOST_CLASSES = 200
_PARALLEL = "module."
_REMEDY = "Make it with mil-bench methods import."


def build_method(name: str, in_dim: int, hierarchy: LabelHierarchy, **params: Any) -> Method:
    """A method with new weights, drawn from torch's global generator.

    Args:
        name: as ``mil-bench methods list`` shows it.
        in_dim: feature width D.
        hierarchy: the classes.
        params: parameters that differ from the defaults.

    Raises:
        UnknownNameError: there is no such method, or it has no such parameter.
    """
    method = registry.methods.load(name)
    known = defaults_of(method)
    for param in params:
        if param not in known:
            raise UnknownNameError(f"setting of {name}", param, known)
    return method(in_dim, hierarchy, **params)


def parse_params(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """``name=value`` words as parameters of a method, in the types of its defaults.

    Raises:
        UnknownNameError: the method has no such parameter.
        InputError: a value does not have the type of its default.
    """
    given = {param: value for param, _, value in (text.partition("=") for text in texts)}
    method = registry.methods.load(name)
    params = parse_settings(name, given, defaults_of(method))
    require_ranges(name, method, params)
    return params


def save_method(method: Method, name: str, params: Mapping[str, Any], path: Path) -> None:
    """Save a method with its weights, as tensors and plain values; ``load_method`` is the inverse.

    Raises:
        InputError: the file exists.
    """
    if path.exists():
        raise InputError(f"checkpoint {path}", ["it already exists"], "Move it away first.")
    about = {
        "method": name,
        "in_dim": method.in_dim,
        "hierarchy": method.hierarchy.to_json(),
        "params": dict(params),
    }
    durable.write_once(path, lambda file: torch.save(about | {"state": method.state_dict()}, file))


def load_method(path: str | Path) -> Method:
    """A method that ``mil-bench methods import`` has saved, in evaluation mode.

    Only tensors and plain values are read; nothing in the file is executed.

    Raises:
        InputError: the file was not saved by that command.
    """
    saved = _load_plain(Path(path), _REMEDY)
    try:
        hierarchy = LabelHierarchy.from_json(saved["hierarchy"])
        method = build_method(saved["method"], saved["in_dim"], hierarchy, **saved["params"])
        method.load_state_dict(saved["state"])
    except InputError:
        raise
    except Exception as error:  # a file may hold anything where these values should be
        problem = f"it is not a method that mil-bench saved ({str(error).partition(chr(10))[0]})"
        raise InputError(f"checkpoint {path}", [problem], _REMEDY) from error
    return method.eval()


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a file; nothing in the file is executed.

    Raises:
        InputError: the file is not a dict of tensors, or cannot be read.
    """
    remedy = "Save model.state_dict() with torch.save, and give that file."
    state = _load_plain(path, remedy)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]  # as Lightning saves it
    is_state = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    )
    if not is_state or not state:
        problem = "it does not contain a dict of tensors by their names"
        raise InputError(f"checkpoint {path}", [problem], remedy)
    if all(name.startswith(_PARALLEL) for name in state):  # as DataParallel names them
        return {name.removeprefix(_PARALLEL): value for name, value in state.items()}
    return dict(state)


def load_official(
    name: str,
    dataset: str,
    in_dim: int,
    hierarchy: LabelHierarchy,
    params: Mapping[str, Any],
    path: Path,
) -> Method:
    """A method with the weights of a checkpoint of its authors' code.

    Args:
        name: of the method.
        dataset: whose classes it predicts, for messages.
        in_dim: feature width D.
        hierarchy: the classes.
        params: parameters that differ from the defaults.
        path: the checkpoint.

    Raises:
        InputError: the checkpoint does not fit; one sentence if only the classes or one switch of
            the method are others.
    """
    state = read_checkpoint(path)
    method = build_method(name, in_dim, hierarchy, **params)
    try:
        method.load_official_state(state)
    except InputError as error:
        problem = _one_reason(name, dataset, method, params, state)
        if problem:
            raise InputError(f"checkpoint {path}", [problem], "Nothing was written.") from error
        raise
    return method


def _one_reason(
    name: str, dataset: str, method: Method, params: Mapping[str, Any], state: dict[str, Any]
) -> str:
    """The one change with which a checkpoint would fit, in a sentence; "" if there is none."""
    in_dim, hierarchy = method.in_dim, method.hierarchy
    defaults = defaults_of(type(method))
    switches = [n for n, value in defaults.items() if isinstance(value, bool)]
    for switch in switches:
        value = not params.get(switch, defaults[switch])
        if _fits(name, in_dim, hierarchy, {**params, switch: value}, state):
            return f"it fits with --param {switch}={str(value).lower()}"
    sizes = {size for value in state.values() for size in value.shape[:1]}
    for classes in sorted(size for size in sizes if 2 <= size <= _MOST_CLASSES):
        flat = LabelHierarchy.flat([f"class {c}" for c in range(classes)])
        if classes != hierarchy.n_fine and _fits(name, in_dim, flat, params, state):
            return (
                f"the checkpoint has {classes} classes, {dataset} has {hierarchy.n_fine}; "
                "mil-bench data new makes a card"
            )
    widths = {value.shape[1] for value in state.values() if value.ndim == 2}
    for width in sorted(widths - {in_dim}):
        if _fits(name, width, hierarchy, params, state):
            return f"the checkpoint is for {width} features, not {in_dim}; give --in-dim {width}"
    return ""


def _fits(
    name: str,
    in_dim: int,
    hierarchy: LabelHierarchy,
    params: Mapping[str, Any],
    state: dict[str, Any],
) -> bool:
    try:
        build_method(name, in_dim, hierarchy, **params).load_official_state(state)
    except Exception:  # a method may refuse parameters and names in any way
        return False
    return True


def _load_plain(path: Path, remedy: str) -> Any:
    """A torch file's content, if it is tensors and plain values."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        problem = "it contains more than tensors, so it was not opened"
        raise InputError(f"checkpoint {path}", [problem], remedy) from error
    except Exception as error:  # a damaged file makes torch raise almost anything
        problem = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise InputError(
            f"checkpoint {path}", [f"it cannot be read ({problem})"], remedy
        ) from error
