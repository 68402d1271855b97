"""Ranking in a process of its own, so that nobody who is answered from memory waits for it.

Threads of one process take turns at Python's lock, and a slate holds it for most of its milliseconds. The process beside has
the same days open; if it dies, the caller ranks by itself until another one is ready.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context

from rolegen_errors import ProjectError, RoleGenError
from rolegen_graphs.words import Slate

from ..backbone_tool import Asked, use_threads
from ..processes import end_with_parent
from ..project import Project
from .day import Day

DAYS = 2
"""days that are open at once: requests that began with the last one still want it"""

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
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = self._start()
        self._open: OrderedDict[int, Day] = OrderedDict()
        self._again: threading.Thread | None = None
        self._closed = False

    def open(self, day: Day) -> None:
        """Let the process beside load what ``day`` was loaded from.

        Raises:
            ProjectError: something was promoted between the two, so that they would not rank alike.
        """
        with self._lock:
            pool = self._pool
            self._open[day.serial] = day
            while len(self._open) > DAYS:
                self._open.popitem(last=False)
        if pool is None:  # whoever starts the next one opens the day too
            return
        try:
            self._load(pool, day)
        except BrokenExecutor:
            self._broke(pool)

    def slates(self, day: Day, variant: str, asked: Sequence[Asked], size: int) -> list[Slate]:
        """As :meth:`Day.slates`."""
        pool = self._pool
        if pool is not None:
            try:
                found = pool.submit(_rank, day.serial, variant, asked, size).result()
            except BrokenExecutor:
                self._broke(pool)
            else:
                if found is not None:
                    return found
        return day.slates(variant, asked, size)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed, pool, again = True, self._pool, self._again
            self._pool = None
        if again is not None:
            again.join()
        if pool is not None:
            pool.shutdown()

    def _start(self) -> ProcessPoolExecutor:
        # Spawned, not forked: a fork would copy locks of torch's and the database's threads in whatever state they are.
        return ProcessPoolExecutor(1, get_context("spawn"), _begin, (self._project,))

    def _load(self, pool: ProcessPoolExecutor, day: Day) -> None:
        loaded: Future[str] = pool.submit(_load, day.serial, day.at, self._beam)
        if loaded.result() != day.fingerprint:
            raise ProjectError("artefacts changed while they were loaded", fix="they are loaded again in a moment")

    def _broke(self, pool: ProcessPoolExecutor) -> None:
        """Begin another process, once for each that ended."""
        with self._lock:
            if self._closed or self._pool is not pool:
                return
            self._pool = None
            self._again = threading.Thread(target=self._restart, args=(pool,), name="ranker", daemon=True)
            self._again.start()
        self._fault(
            "ranking", "the process that ranks ended; slates are ranked beside the answers until the next one is ready"
        )

    def _restart(self, broken: ProcessPoolExecutor) -> None:
        broken.shutdown(wait=False)
        pool = self._start()
        try:
            for day in list(self._open.values()):
                self._load(pool, day)
        except (BrokenExecutor, RoleGenError) as error:
            pool.shutdown(wait=False)
            self._fault(
                "ranking", f"a process that ranks cannot be started: {error}; slates are ranked beside the answers"
            )
            return
        with self._lock:
            if not self._closed:
                self._pool, pool = pool, broken
        pool.shutdown(wait=False)
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
