"""Keeps what was shown: the slate of an answer stands beside its decision as that of the policy ``served``.

The memory holds one slate for each decision and policy, so of several showings the last one counts. A slate of nobody's
decision (``backbone`` or ``popular`` without one) has nothing to stand beside; the shop's own log of exposures tells of it.
"""

from __future__ import annotations

import queue
import threading

from rolegen_errors import InputError, RoleGenError
from rolegen_graphs.words import Slate

from ..memory import Memory
from .figures import Figures

POLICY = "served"
PATIENCE_S = 0.5
"""showings are written together, so long after the first of them"""
MOST_WAITING = 10_000


class Recorder:
    """Writes in a thread of its own; a request never waits for it."""

    def __init__(self, memory: Memory, figures: Figures) -> None:
        self._memory, self._figures = memory, figures
        self._waiting: queue.Queue[tuple[str, Slate] | None] = queue.Queue(MOST_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="showings", daemon=True)
        self._thread.start()

    def keep(self, decision: str | None, slate: Slate) -> None:
        """Note a showing; counted as lost where there is no decision, or more are waiting than can be written."""
        if decision is None:
            self._figures.shown("of_no_decision")
            return
        try:
            self._waiting.put_nowait((decision, slate))
        except queue.Full:
            self._figures.shown("lost")

    def close(self) -> None:
        """Write what is waiting, and end."""
        self._stop.set()
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            first = self._waiting.get()
            if first is None:
                return
            self._stop.wait(PATIENCE_S)
            latest, ended = {first[0]: first[1]}, False
            while not self._waiting.empty():
                one = self._waiting.get()
                if one is None:
                    ended = True
                    break
                latest[one[0]] = one[1]
            self._write([(decision, POLICY, slate) for decision, slate in latest.items()])
            if ended:
                return

    def _write(self, slates: list[tuple[str, str, Slate]]) -> None:
        try:
            self._figures.shown("recorded", self._memory.record_slates(slates))
        except InputError:  # one of the decisions was removed meanwhile; the others are to be kept
            if len(slates) == 1:
                self._figures.shown("lost")
            else:
                for one in slates:
                    self._write([one])
        except RoleGenError:
            self._figures.shown("lost", len(slates))
            self._figures.fault("memory")
