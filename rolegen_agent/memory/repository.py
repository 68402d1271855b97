"""The loop memory: one class with every query, on SQLite or PostgreSQL. Its parts stand in files of their own.

Guarantees:

- Every write can be repeated: it lands on a natural key, and writing the same thing twice equals writing it once.
- One decision is one transaction: it is in memory with all its rounds and slates, or not at all.
- No leak: what is read for a decision time was knowable strictly before it.
- Any number of threads and processes may write; on SQLite they queue. ``claimed`` tells them who is at what.

Errors: ``InputError`` for what cannot be stored as given, ``FutureError`` for a decision that saw its own future,
``MemoryStoreError`` when the database fails, ``MemoryAwayError`` when a server stays away for longer than it is waited for.
"""

from __future__ import annotations

from pathlib import Path

from .browsing import BrowsingStore
from .calls import CallStore
from .database import OUTAGE_SECONDS
from .endings import EndingStore
from .export import ExportStore
from .feedback import FeedbackStore
from .lessons import LessonStore
from .removal import RemovalStore
from .slates import SlateStore
from .store import DEFAULT_HORIZON_DAYS
from .teaching import TeachingStore
from .told import ToldStore
from .verification.run import VerificationStore


def open_memory(
    url: str | Path,
    *,
    upgrade: bool = False,
    horizon_days: float = DEFAULT_HORIZON_DAYS,
    outage_s: float = OUTAGE_SECONDS,
) -> Memory:
    """Open the loop memory at ``url``: a SQLite file (path or ``sqlite:///…``) or ``postgresql://…``.

    A SQLite file is created and upgraded by itself. A server database is only changed with ``upgrade=True``; otherwise
    an outdated one raises ``MemoryStoreError``, and so does, always, a schema newer than this version knows.
    ``horizon_days``: within how many days after a decision an order counts; stored with each decision. ``outage_s``: how
    many seconds a server is waited for that goes away while the memory is open.
    """
    return Memory(url, upgrade=upgrade, horizon_days=horizon_days, outage_s=outage_s)


class Memory(
    VerificationStore,
    SlateStore,
    FeedbackStore,
    LessonStore,
    EndingStore,
    ToldStore,
    TeachingStore,
    CallStore,
    RemovalStore,
    ExportStore,
    BrowsingStore,
):
    """See the module's text. Close it, or use it as a context manager; it may be shared between threads.

    It is both the ``Memory`` and the ``CallLog`` port of ``rolegen_graphs``.
    """
