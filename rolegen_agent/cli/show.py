"""What the terminal sees: consoles, progress bars (none when not on a terminal), JSON, and the way errors look."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
BUDGET_MET = 3
"""exit code of a run that stopped at a limit of its LLM budget"""
DIFFERENCES = 4
"""exit code of a verification that found something"""


class Bars:
    """Progress callback ``(stage, done, total)`` that draws one bar per stage on a terminal, and nothing elsewhere."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._bars = progress, dict[str, TaskID]()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=total or None)
        self._progress.update(self._bars[stage], completed=done, total=total or None)


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars on stderr."""
    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not sys.stderr.isatty()) as progress:
        try:
            yield Bars(progress)
        except KeyboardInterrupt:  # typer ends with exit code 130, but says nothing
            progress.console.print("stopped; the same command goes on from here", style="bold")
            raise


@contextmanager
def stop_on_interrupt() -> Iterator[Event]:
    """The first Ctrl-C sets the event, so that work under way can end; a second one interrupts at once."""
    stop = Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        err.print("stopping after what is under way (Ctrl-C again to stop at once)")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def as_json(value: object) -> None:
    """Print ``value`` as JSON on stdout, for programs."""
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=False, indent=2) + "\n")
