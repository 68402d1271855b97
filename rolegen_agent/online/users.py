"""What is known of users beside the log: the decision that stands, and what was told since. Kept in RAM, bounded.

What another process writes is found by :class:`~.watching.Watcher`, which drops those whom it concerns; whoever was read
long ago is read again in any case.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..memory import Memory, Standing, ToldEvent

LONGEST_S = 300.0
"""after which a user is read again, whatever was heard"""
MOST_TOLD = 256
"""latest told events of a user that are looked at: four times what the model reads by default"""
MOST_KEPT = 8
"""ranked slates kept of one user"""
AT_ONCE = 500
"""users read together"""


@dataclass(eq=False)
class Known:
    """One user, as the memory has them."""

    standing: Standing | None
    until: datetime | None
    """when the user's next decision takes over; None where none is made yet"""
    told: tuple[ToldEvent, ...] | None
    """None: something was told since, and is to be read"""
    received: datetime | None
    """when the last of them came in"""
    read: float
    """monotonic seconds at which the memory was asked"""
    slates: OrderedDict[Any, Any] = field(default_factory=OrderedDict)
    """slates that were ranked for what is known here, by what else they depend on"""

    def holds(self, at: datetime) -> bool:
        """Whether this is what the memory would say of ``at``, a time not before that of reading."""
        return self.until is None or at < self.until

    def keep(self, key: Any, slate: Any) -> None:
        """Remember a ranked slate."""
        self.slates[key] = slate
        while len(self.slates) > MOST_KEPT:
            self.slates.popitem(last=False)


class Users:
    """The users of the latest requests, at most ``limit``; used by several threads.

    Args:
        run: look at decisions of this run only; None: of all.
    """

    def __init__(self, memory: Memory, *, run: str | None, limit: int) -> None:
        self._memory, self._run, self._limit = memory, run, limit
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._lock = threading.Lock()
        self._dropped: OrderedDict[str, float] = OrderedDict()
        """when users were dropped last: what was read before is not kept after it"""
        self._floor = 0.0
        """the same for all whose time is not known any more"""

    def __len__(self) -> int:
        return len(self._known)

    def holds(self, user: str) -> bool:
        """Whether anything is known of the user in RAM, be it old."""
        return user in self._known

    def find(self, user: str, at: datetime) -> Known | None:
        """What is known of the user in RAM, if it still holds."""
        with self._lock:
            known = self._known.get(user)
            if known is None or known.told is None or not self._lasts(known, at):
                return None
            self._known.move_to_end(user)
            return known

    def stale(self, user: str, at: datetime) -> Known | None:
        """What was known of the user, however long ago: for when the memory does not answer."""
        with self._lock:
            known = self._known.get(user)
            return replace(known, told=known.told or ()) if known is not None and known.holds(at) else None

    @staticmethod
    def _lasts(known: Known, at: datetime) -> bool:
        return known.holds(at) and time.monotonic() - known.read <= LONGEST_S

    def read(self, users: Sequence[str], at: datetime, after: datetime, *, keep: bool = True) -> dict[str, Known]:
        """Ask the memory about users, and ``keep`` what it says.

        Args:
            after: told events up to this time are in the log.

        Raises:
            MemoryStoreError: it fails.
        """
        started = time.monotonic()
        if len(users) == 1 and (known := self._quickly(users[0], at, after, started)) is not None:
            found = {users[0]: known}
            if keep:
                self._keep(found, started)
            return found
        standing, following = self._memory.standing(users, at, run=self._run)
        told = self._memory.told_events(users, after, limit=MOST_TOLD)
        found = {}
        for user in users:
            events, received = told.get(user, ((), None))
            found[user] = Known(standing.get(user), following.get(user), events, received, started)
        if keep:
            self._keep(found, started)
        return found

    def _quickly(self, user: str, at: datetime, after: datetime, started: float) -> Known | None:
        """Who is a stranger, or of whom only what was told is to be read; None where all is."""
        with self._lock:
            known = self._known.get(user)
        if known is not None and known.told is None and self._lasts(known, at):
            told, received = self._memory.told_events([user], after, limit=MOST_TOLD).get(user, ((), None))
            # The time of reading stays: it is that of the decision.
            return Known(known.standing, known.until, told, received, known.read)
        if known is None and not self._memory.heard_of(user):
            return Known(None, None, (), None, started)
        return None

    def preload(self, at: datetime, after: datetime, *, progress: Callable[[int, int], None]) -> int:
        """Read the users of the latest decisions, as many as are kept; returns how many."""
        users = self._memory.standing_users(at, run=self._run, limit=self._limit)
        for low in range(0, len(users), AT_ONCE):
            progress(low, len(users))
            self.read(users[low : low + AT_ONCE], at, after)
        progress(len(users), len(users))
        return len(users)

    def drop(self, users: Iterable[str]) -> None:
        """Forget what is known of users, for something was written about them."""
        with self._lock:
            for user in users:
                self._known.pop(user, None)
                self._note(user)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._known.clear()
            self._dropped.clear()
            self._floor = time.monotonic()

    def heard(self, told: dict[str, datetime]) -> None:
        """Drop users of whom something came in later than what is known of them."""
        with self._lock:
            known = {user: self._known[user].received for user in told if user in self._known}
        self.moved(user for user, received in known.items() if received is None or received < told[user])

    def moved(self, users: Iterable[str]) -> None:
        """Something was told of these users; what was decided on them still holds."""
        with self._lock:
            for user in users:
                known = self._known.get(user)
                if known is not None:
                    self._known[user] = Known(known.standing, known.until, None, known.received, known.read)
                self._note(user)

    def _note(self, user: str) -> None:
        self._dropped[user] = time.monotonic()
        self._dropped.move_to_end(user)
        while len(self._dropped) > self._limit:
            _, self._floor = self._dropped.popitem(last=False)

    def _keep(self, found: dict[str, Known], started: float) -> None:
        with self._lock:
            for user, known in found.items():
                if started > max(self._floor, self._dropped.get(user, 0.0)):
                    self._known[user] = known
                    self._known.move_to_end(user)
            while len(self._known) > self._limit:
                self._known.popitem(last=False)
