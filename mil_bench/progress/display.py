"""How far something is: one display with counts, rate and time left.

On a terminal it is a bar of one line, with a second line for what is under way, both within the
width. In a notebook it is one output that changes. Elsewhere (a file, a log) nothing can change, so
there is one line per step.
"""

from __future__ import annotations

import html
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

_SECONDS_BETWEEN = 0.5  # two states of a notebook's output
_RATES = ((1, "s"), (60, "min"), (3600, "h"), (86400, "day"))


@dataclass
class Pace:
    """Counts and times.

    Args:
        total: number of steps.
        done: number of finished steps.
        under_way: parts of further steps that are done, as a number of steps.
        started: when it began, by ``time.monotonic``.
    """

    total: int
    done: int = 0
    under_way: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def text(self, now: float) -> str:
        """Counts, rate and time left: ``8/12  6.3/min  0:00:38 left``."""
        counts, steps = f"{self.done}/{self.total}", self.done + self.under_way
        elapsed = now - self.started
        if steps <= 0 or elapsed <= 0 or self.done >= self.total:
            return counts
        left = timedelta(seconds=round(elapsed * max(0.0, self.total - steps) / steps))
        return f"{counts}  {_rate(steps / elapsed)}  {left} left"


def _rate(per_second: float) -> str:
    """A rate in the first unit of time in which it is at least 1."""
    enough = (rate for rate in _RATES if per_second * rate[0] >= 1)
    seconds, unit = next(enough, _RATES[-1])
    return f"{per_second * seconds:.3g}/{unit}"


class Display:
    """The display of one thing, on standard error.

    Args:
        what: what is being done ("trainings").
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._console = Console(stderr=True, highlight=False)
        self._pace = Pace(0)
        self._running = ""
        self._live: Live | None = None
        self._output: Any = None
        self._shown = 0.0

    def start(self, total: int) -> None:
        """Show it.

        Args:
            total: number of steps.
        """
        self._pace = Pace(total)
        if self._console.is_jupyter:
            from IPython.display import display

            self._output = display(self._page(), display_id=True)
        elif self._console.is_terminal:
            self._live = Live(
                get_renderable=self._bar,
                console=self._console,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()

    def update(self, done: int, under_way: float = 0.0, running: str = "") -> None:
        """Show other numbers.

        Args:
            done: number of finished steps.
            under_way: parts of further steps that are done, as a number of steps.
            running: what is under way, in words.
        """
        self._pace.done, self._pace.under_way, self._running = done, under_way, running
        now = time.monotonic()
        if self._output is not None and now - self._shown >= _SECONDS_BETWEEN:
            self._shown = now
            self._output.update(self._page())

    def step(self, line: str) -> None:
        """Print what a step brought, if there is no display that shows the counts."""
        if self._live is None and self._output is None:
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self._console.is_jupyter:  # rich would make an output of each line
            sys.stderr.write(f"{line}\n")
            return
        self._console.print(Text(line), soft_wrap=not self._console.is_terminal)

    def stop(self) -> None:
        """Remove it."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._output is not None:
            self._output.update(_html(""))
            self._output = None

    def _bar(self) -> RenderableType:
        numbers = self._pace.text(time.monotonic())
        line = Table.grid(
            Column(no_wrap=True, overflow="ellipsis", max_width=self._console.width // 3),
            Column(ratio=1),
            Column(no_wrap=True, overflow="ellipsis"),
            padding=(0, 1, 0, 0),
            expand=True,
        )
        bar = ProgressBar(max(1, self._pace.total), self._pace.done + self._pace.under_way)
        line.add_row(Text(self._what), bar, Text(numbers))
        if not self._running:
            return line
        return Group(line, Text(f"  {self._running}", no_wrap=True, overflow="ellipsis"))

    def _page(self) -> Any:
        pace = self._pace
        text = html.escape(f"{self._what}  {pace.text(time.monotonic())}  {self._running}")
        value = f'<progress value="{pace.done + pace.under_way:.3f}" max="{max(1, pace.total)}">'
        return _html(f"{value}</progress> {text}")


def _html(text: str) -> Any:
    """What a notebook shows as HTML."""
    from IPython.display import HTML

    return HTML(text)
