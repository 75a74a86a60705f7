"""What went wrong in a method, in words for its author."""

from __future__ import annotations

import traceback
from pathlib import Path

import mil_bench
from mil_bench.devices import is_out_of_memory
from mil_bench.errors import MilBenchError

_OURS = str(Path(mil_bench.__file__).parent)
_MEMORY_ADVICE = (
    "; one fold alone needs more memory than there is: use fewer --workers, bags of fewer "
    "instances or --device cpu"
)
_NO_ORDER = "does not have a deterministic implementation"  # words of torch
_GUESTS = ("baselines", "benchmarks", "hmil")


def reason_of(error: BaseException) -> str:
    """One line: what was raised and, if there is such a frame, where in the author's code."""
    if isinstance(error, MilBenchError):
        return str(error)
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        text = f"the method called sys.exit({error.code!r})"
    else:
        text = ": ".join(filter(None, [kind, text_of(error)]))
    place = place_in_method(error)
    return f"{text} ({place})" if place else text


def advice_for(error: BaseException) -> str:
    """What the user can do about an error, as the end of its reason; "" if that is not known."""
    if _NO_ORDER in text_of(error):
        return "; without --deterministic it can be trained"
    return _MEMORY_ADVICE if is_out_of_memory(error) else ""


def text_of(error: BaseException) -> str:
    """The message of an error, whose ``__str__`` may itself raise."""
    try:
        return str(error)
    except BaseException:
        return "its message cannot be shown"


def whole_traceback(error: BaseException) -> str:
    """The traceback as Python prints it."""
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # the text of the error raises
        return "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__


def place_in_method(error: BaseException) -> str:
    """File, line and function of the innermost frame that is not of mil-bench or a library."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_author(frame)]
    if not frames:
        return ""
    return f"{frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name}"


def _is_author(frame: traceback.FrameSummary) -> bool:
    path = Path(frame.filename)
    is_ours = frame.filename.startswith(_OURS) or (path.is_file() and path.parts[-2] in _GUESTS)
    return not is_ours and "site-packages" not in path.parts and not frame.filename.startswith("<")
