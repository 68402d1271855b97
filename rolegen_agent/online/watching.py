"""Looks after what others write: decisions, told events and removals in the memory, artefacts and logs on the disk, and the
date. What is new is served without a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from rolegen_errors import RoleGenError

from ..memory import Memory
from ..project import Project
from .day import Day, midnight, state_of
from .users import Users

OVERLAP = timedelta(seconds=30)
"""rows may become visible so long after the time that they bear; they are looked at again"""
PATIENCE = 30
"""looks between two tries to load what could not be loaded"""


class Watcher:
    """One thread that looks every ``every_s`` seconds.

    Args:
        load: opens what is to be served on a day.
        serve: takes it into use.
        fault: is told what does not work now, by name; an empty text says that it works again.
    """

    def __init__(
        self,
        project: Project,
        memory: Memory,
        users: Users,
        *,
        clock: Callable[[], datetime],
        every_s: float,
        served: tuple[object, ...],
        load: Callable[[datetime], Day],
        serve: Callable[[Day], None],
        fault: Callable[[str, str], None],
    ) -> None:
        self._project, self._memory, self._users = project, memory, users
        self._clock, self._every_s = clock, every_s
        self._served, self._load, self._serve, self._fault = served, load, serve, fault
        self._failed: tuple[object, ...] = ()
        self._waits = 0
        self._decided: dict[str, str] = {}
        self._heard = datetime.now(UTC) - OVERLAP
        self._removal: datetime | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin; what was written before is taken for known."""
        self._removal = self._memory.latest_removal()
        self._decided = self._memory.decided_since(self._heard)
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """One look at everything."""
        try:
            self._look_at_memory()
        except RoleGenError as error:
            self._fault("memory", error.what)
        else:
            self._fault("memory", "")
        self._look_at_files()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.look()

    def _look_at_memory(self) -> None:
        began = datetime.now(UTC)
        removal = self._memory.latest_removal()
        if removal != self._removal:
            self._users.clear()  # of whom something was erased is not said
            self._removal = removal
        decided = self._memory.decided_since(self._heard)
        self._users.drop(user for key, user in decided.items() if key not in self._decided)
        self._decided = decided
        self._users.heard(self._memory.told_since(self._heard))
        self._heard = began - OVERLAP

    def _look_at_files(self) -> None:
        try:
            wanted = state_of(self._project, midnight(self._clock()))
            if wanted == self._served or (wanted == self._failed and self._waits < PATIENCE):
                self._waits += 1
                return
            day = self._load(midnight(self._clock()))
        except Exception as error:  # noqa: BLE001 - half of a promotion may be on the disk; what is served stays, and the fault shows
            what = error.what if isinstance(error, RoleGenError) else f"{type(error).__name__}: {error}"
            self._fault("artefacts", f"what is new cannot be served: {what}")
            self._failed, self._waits = self._current(), 0
            return
        self._served, self._failed = wanted, ()
        self._serve(day)
        self._fault("artefacts", "")

    def _current(self) -> tuple[object, ...]:
        try:
            return state_of(self._project, midnight(self._clock()))
        except (RoleGenError, OSError):
            return ()
