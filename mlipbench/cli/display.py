"""How progress is shown, always on stderr."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mlipbench.cli.options import DisplayKind
from mlipbench.cli.output import say
from mlipbench.progress import SilentDisplay
from mlipbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Progress, TaskID

    from mlipbench.progress import Display

_EVERY: Final = 5.0  # seconds between lines of the plain display


@contextmanager
def open_display(kind: DisplayKind | None) -> Iterator[Display]:
    """Yield a display and take it off the screen afterwards.

    Args:
        kind: Which one; None chooses rich on a terminal outside CI, else plain.
    """
    kind = kind or default_kind()
    if kind is DisplayKind.RICH:
        display = RichDisplay()
        try:
            yield display
        finally:
            display.close()
    else:
        yield PlainDisplay() if kind is DisplayKind.PLAIN else SilentDisplay()


def default_kind() -> DisplayKind:
    """Return rich on a terminal that can move its cursor and outside CI, else plain."""
    if sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM", "dumb") != "dumb":
        return DisplayKind.RICH
    return DisplayKind.PLAIN


class PlainDisplay:
    """Lines of text: one at the beginning, one every few seconds, one at the end.

    Args:
        clock: Returns seconds; replaced in tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without a part."""
        self._clock = clock
        self._total = self._done = self._failed = 0
        self._unit = "structures"
        self._start = self._last = clock()

    def begin(self, run: str, total: int, unit: str = "structures") -> None:
        """Say what starts."""
        self._total, self._done, self._failed, self._unit = total, 0, 0, unit
        self._start = self._last = self._clock()
        say(f"{run}: {total} {unit}" if total else run)

    def advance(self, done: int, failed: int = 0) -> None:
        """Count, and say so if nothing was said for a while."""
        self._done += done
        self._failed += failed
        now = self._clock()
        if now - self._last < _EVERY or self._done >= self._total > 0:
            return
        self._last = now
        if self._total:
            remaining = (self._total - self._done) * (now - self._start) / max(self._done, 1)
            say(f"  {self._done}/{self._total}, {self._rate(now)}, {remaining:.0f} s left, {self._failed} failed")
        else:
            say(f"  {self._done}, {self._rate(now)}")

    def note(self, text: str) -> None:
        """Say it."""
        say(text)

    def end(self, run: str, status: str) -> None:
        """Say how it ended."""
        now = self._clock()
        took = f"{self._done} {self._unit} in {now - self._start:.1f} s, {self._rate(now)}"
        say(f"{run}: {status}, {took}, {self._failed} failed")

    def _rate(self, now: float) -> str:
        return f"{self._done / max(now - self._start, 1e-9):.3g} {self._unit}/s"


class RichDisplay:
    """A bar with structures per second, time left and failures; finished parts stay as lines above it.

    Args:
        console: Where to draw; None draws on stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        """Draw nothing yet."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = console or Console(stderr=True)
        self._progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failures]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._failed = 0
        self._unit = "structures"
        self._begun = time.monotonic()

    def begin(self, run: str, total: int, unit: str = "structures") -> None:
        """Draw a bar."""
        self._remove()
        self._progress.start()
        self._failed = 0
        self._unit = unit
        self._begun = time.monotonic()
        self._task = self._progress.add_task(clean(run), total=total or None, rate="", failures="")

    def advance(self, done: int, failed: int = 0) -> None:
        """Move the bar."""
        if self._task is None:
            return
        self._failed += failed
        task = self._progress.tasks[0]
        rate = (task.completed + done) / max(time.monotonic() - self._begun, 1e-9)
        failures = f"{self._failed} failed" if self._failed else ""
        self._progress.update(self._task, advance=done, rate=f"{rate:.3g}/s", failures=failures)

    def note(self, text: str) -> None:
        """Print it above the bar."""
        self._print(text)

    def end(self, run: str, status: str) -> None:
        """Replace the bar by a line."""
        done = self._progress.tasks[0].completed if self._task is not None else 0
        took = time.monotonic() - self._begun
        self._remove()
        self._print(f"{run}: {status}, {done:.0f} {self._unit} in {took:.1f} s, {self._failed} failed")

    def close(self) -> None:
        """Take the bar off the screen."""
        self._remove()
        self._progress.stop()

    def _remove(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def _print(self, text: str) -> None:
        self._console.print(clean(text), markup=False, highlight=False, soft_wrap=True)
