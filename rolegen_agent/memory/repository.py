"""The loop memory: one class with every query, on SQLite or PostgreSQL. Its parts stand in files of their own.

Guarantees:

- Every write can be repeated: it lands on a natural key, and writing the same thing twice equals writing it once.
- One decision is one transaction: it is in memory with all its rounds and slates, or not at all.
- No leak: what is read for a decision time was knowable strictly before it.
- Any number of threads and processes may write; on SQLite they queue.

Errors: ``InputError`` for what cannot be stored as given, ``FutureError`` for a decision that saw its own future,
``MemoryStoreError`` when the database fails.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import delete, select

from . import rows
from .calls import CallStore
from .database import store_errors
from .decisions import DecisionStore
from .feedback import FeedbackStore
from .models import (
    BegunRow,
    DecisionRow,
    LessonRow,
    LessonUseRow,
    LlmCallRow,
    OutcomeRow,
    RoundRow,
    SlateItemRow,
    SlateRow,
    SpendingRow,
)
from .slates import SlateStore
from .spending import SpendingStore
from .store import DEFAULT_HORIZON_DAYS


def open_memory(url: str | Path, *, upgrade: bool = False, horizon_days: float = DEFAULT_HORIZON_DAYS) -> Memory:
    """Open the loop memory at ``url``: a SQLite file (path or ``sqlite:///…``) or ``postgresql://…``.

    A SQLite file is created and upgraded by itself. A server database is only changed with ``upgrade=True``; otherwise
    an outdated one raises ``MemoryStoreError``, and so does, always, a schema newer than this version knows.
    ``horizon_days``: within how many days after a decision an order counts; stored with each decision.
    """
    return Memory(url, upgrade=upgrade, horizon_days=horizon_days)


class Memory(DecisionStore, SlateStore, FeedbackStore, CallStore, SpendingStore):
    """See the module's text. Close it, or use it as a context manager; it may be shared between threads.

    It is both the ``Memory`` and the ``CallLog`` port of ``rolegen_graphs``.
    """

    def erase(self, user: str) -> dict[str, int]:
        """Delete all that is known of one user, in one transaction; returns the deleted rows by table.

        On SQLite the pages are overwritten too. Calls whose decision was neither begun nor recorded name no user and
        cannot be found: :meth:`unattributed_calls` counts them. Checkpoints live elsewhere: see ``forget``.
        """
        recorded = select(DecisionRow.decision).where(DecisionRow.user_id == user)
        own = recorded.union(select(BegunRow.decision).where(BegunRow.user_id == user))
        deleted: dict[str, int] = {}
        # Children first and by hand: a cascade would not say how many rows went.
        children = [part.row for part in reversed(rows.PARTS)] + [RoundRow, LessonUseRow, SlateItemRow, SlateRow]
        with self._write() as connection:
            for row in (*children, OutcomeRow, LlmCallRow, SpendingRow):
                table: Any = row
                gone = connection.execute(delete(table).where(table.decision.in_(own)))
                deleted[table.__tablename__] = gone.rowcount
            lessons = delete(LessonRow).where(LessonRow.scope == "user", LessonRow.scope_key == user)
            deleted["lessons"] = connection.execute(lessons).rowcount
            for row in (BegunRow, DecisionRow):
                deleted[row.__tablename__] = connection.execute(delete(row).where(row.user_id == user)).rowcount
        if self._engine.dialect.name == "sqlite":
            with store_errors(self.url), self._engine.connect() as connection:
                connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted
