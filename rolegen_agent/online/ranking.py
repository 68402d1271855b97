"""Ranking in a process of its own, so that nobody who is answered from memory waits for it.

Threads of one process take turns at Python's lock, and a slate holds it for most of its milliseconds. The process beside has
the same days open; if it dies, the caller ranks by itself until another one is ready.
"""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context

from rolegen_errors import ProjectError, RoleGenError
from rolegen_graphs.words import Slate

from ..backbone_tool import Asked, use_threads
from ..parenthood import end_with_parent
from ..project import Project
from .day import Day

DAYS = 2
"""days that are open at once: requests that began with the last one still want it"""
RETRY_S = 30.0
"""between two tries to get a process ready"""

_project: Project | None = None
"""the project of the process beside; None in the caller"""
_days: OrderedDict[int, Day] = OrderedDict()


class Ranker:
    """Slates of a day, computed in another process. Use :meth:`open` before a day is served; safe for several threads.

    Its caller's main module may be imported again (``if __name__ == "__main__":``), since the process is spawned.

    Args:
        fault: is told what does not work now, by name; an empty text says that it works again.
    """

    def __init__(self, project: Project, *, beam: int, fault: Callable[[str, str], None]) -> None:
        self._project, self._beam, self._fault = project, beam, fault
        self._lock, self._making = threading.Lock(), threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._open: deque[int] = deque(maxlen=DAYS)
        """numbers of the days that the process has open"""
        self._newest, self._next_try = -1, 0.0
        self._again: threading.Thread | None = None
        self._closed = False

    def open(self, day: Day) -> None:
        """Let the process beside load what ``day`` was loaded from; the process is started where there is none.

        Raises:
            ProjectError: something was promoted between the two, so that they would not rank alike; or the process ended.
        """
        with self._making:
            if self._closed:
                return
            pool = self._pool
            if pool is None:
                # Spawned, not forked: a fork would copy locks of torch's and the database's threads in whatever state they are.
                pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, (self._project,))
            try:
                fingerprint = pool.submit(_load, day.serial, day.at, self._beam).result()
            except BrokenExecutor as error:
                self._drop(pool)
                raise ProjectError(
                    "the process that ranks ended while it loaded the artefacts: killed, or out of memory",
                    fix="[serve] apart = false ranks in the process that answers",
                ) from error
            self._pool = pool
            if fingerprint != day.fingerprint:
                raise ProjectError("artefacts changed while they were loaded", fix="try again in a moment")
            self._open.append(day.serial)
            self._newest = max(self._newest, day.serial)

    def slates(self, day: Day, variant: str, asked: Sequence[Asked], size: int) -> list[Slate]:
        """As :meth:`Day.slates`; computed here while the process beside is not ready, which the fault tells."""
        pool = self._pool
        if pool is not None and day.serial in self._open:
            try:
                found = pool.submit(_rank, day.serial, variant, asked, size).result()
            except BrokenExecutor:
                self._drop(pool)
                self._fault("ranking", "the process that ranks ended; slates are ranked beside the answers meanwhile")
            else:
                if found is not None:  # the day made room for the next ones while the request was under way
                    return found
        if day.serial >= self._newest:
            self._open_later(day)
        return day.slates(variant, asked, size)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed, again = True, self._again
        if again is not None:
            again.join()
        with self._making:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def _drop(self, pool: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None
                self._open.clear()
        pool.shutdown(wait=False)

    def _open_later(self, day: Day) -> None:
        """Open a day without letting anybody wait for it; what fails is tried again after a while."""
        with self._lock:
            at_it = self._again is not None and self._again.is_alive()
            if self._closed or at_it or time.monotonic() < self._next_try:
                return
            self._next_try = time.monotonic() + RETRY_S
            self._again = threading.Thread(target=self._try_to_open, args=(day,), name="ranker", daemon=True)
            self._again.start()

    def _try_to_open(self, day: Day) -> None:
        try:
            self.open(day)
        except Exception as error:  # noqa: BLE001 - the fault shows, slates go on, and it is tried again
            what = error.what if isinstance(error, RoleGenError) else f"{type(error).__name__}: {error}"
            self._fault("ranking", f"{what}; slates are ranked beside the answers")
        else:
            self._fault("ranking", "")


def _begin(project: Project) -> None:
    global _project
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_threads(1)
    _project = project


def _load(serial: int, at: datetime, beam: int) -> str:
    """Open a day under its caller's number; the fingerprint of its artefacts."""
    if _project is None:
        raise RuntimeError("the process was not begun")
    _days[serial] = Day.open(_project, at, beam=beam)
    while len(_days) > DAYS:
        _days.popitem(last=False)
    gc.collect()
    gc.freeze()  # what was loaded stays: looking through it again and again would hold up answers
    return _days[serial].fingerprint


def _rank(serial: int, variant: str, asked: Sequence[Asked], size: int) -> list[Slate] | None:
    """None: the day is not open here."""
    day = _days.get(serial)
    return None if day is None else day.slates(variant, asked, size)
