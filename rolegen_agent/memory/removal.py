"""Taking things out of the memory: one person, or all that is older than wanted.

Every table with a user or a decision is covered by its columns, so that a table of tomorrow is covered too. What belongs
to nobody stays: prompts, artefacts, lessons of cohorts and of all, and what a run has spent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, func, insert, or_, select, union
from sqlalchemy.sql import ColumnElement

from rolegen_errors import InputError, MemoryStoreError

from ..llm.usage import Spending
from .database import store_errors
from .digests import tallied
from .lessons import erase_evidence
from .models import (
    Base,
    BegunRow,
    DeadLetterRow,
    DecisionRow,
    LessonRow,
    LlmCallRow,
    RemovalRow,
    SpendingRow,
    ToldEventRow,
)
from .spending import REMOVED, SpendingStore
from .store import chunks, now

ALSO_OF_USER: dict[str, Callable[[str], ColumnElement[bool]]] = {
    "lessons": lambda user: and_(LessonRow.scope == "user", LessonRow.scope_key == user),
    # A report whose user was not understood may still name one.
    "dead_letters": lambda user: and_(
        DeadLetterRow.user_id.is_(None),
        DeadLetterRow.payload.contains(json.dumps(user, ensure_ascii=False), autoescape=True),
    ),
}
"""table -> rows of a user that its columns user_id and decision do not show"""


class RemovalStore(SpendingStore):
    """The part of the memory that forgets."""

    def erase(self, user: str) -> dict[str, int]:
        """Delete all that is known of one user, in one transaction; returns the deleted rows by table.

        On SQLite the pages are overwritten too. Checkpoints live elsewhere: :meth:`RoleGen.erase` takes both.
        """
        with self._write() as connection:
            counts = self._delete(connection, list(connection.execute(_keys_of(user)).scalars()))
            for table in _owned():
                if (owned := _of_user(table, user)) is not None:
                    counts[table.name] += connection.execute(delete(table).where(owned)).rowcount
            # The outer loop's questions quote reflections about several users; nobody needs them once they are answered.
            learnt = connection.execute(delete(LlmCallRow).where(LlmCallRow.node == "learn"))
            counts[LlmCallRow.__tablename__] += learnt.rowcount
            self._note(connection, "erase", None, counts)
        if self._truncate_log():
            raise MemoryStoreError(
                "the rows are deleted, but another program reads the database, so that its log file still holds them",
                where=self.url,
                fix="end the other program and run the same command again",
            )
        return counts

    def decisions_of(self, user: str) -> tuple[str, ...]:
        """Ids of the user's decisions, recorded or begun: the names of their checkpoints too."""
        with self._read() as connection:
            return tuple(connection.execute(_keys_of(user)).scalars())

    def prune(
        self,
        before: datetime,
        *,
        dry_run: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, int]:
        """Delete what was recorded before ``before``; returns the deleted rows by table.

        A decision goes with all that hangs below it, and with its calls, which are the cached answers; so do decisions
        that were begun before and never recorded, calls without either, and dead letters and told events that came before. A few
        hundred go at a time, so that others can write meanwhile, and a killed run goes on with the same command.

        Args:
            dry_run: only count.
            progress: called with decisions done and in all.
        """
        if before.tzinfo is None:
            raise InputError(f"the time {before} has no time zone", fix="pass an aware datetime")
        counts = {table.name: 0 for table in _owned()}
        counts[DeadLetterRow.__tablename__] = self._prune_received(DeadLetterRow, before, dry_run=dry_run)
        counts[ToldEventRow.__tablename__] = self._prune_received(ToldEventRow, before, dry_run=dry_run)
        with self._read() as connection:
            keys = list(connection.execute(_older(before)).scalars())
        done = 0
        for chunk in chunks(keys):
            if dry_run:
                with self._read() as connection:
                    gone = _count(connection, chunk)
            else:
                with self._write() as connection:
                    gone = self._delete(connection, chunk)
                    self._note(connection, "prune", before, gone)
            for name, number in gone.items():
                counts[name] += number
            done += len(chunk)
            progress(done, len(keys))
        if not dry_run:
            self._truncate_log()
        return counts

    def _prune_received(self, row: type[DeadLetterRow | ToldEventRow], before: datetime, *, dry_run: bool) -> int:
        """Rows of a table that belong to no decision of ours, by when they came."""
        old = row.received_at < before
        if dry_run:
            with self._read() as connection:
                return connection.execute(select(func.count()).select_from(row).where(old)).scalar_one()
        with self._write() as connection:
            gone = connection.execute(delete(row).where(old)).rowcount
            self._note(connection, "prune", before, {row.__tablename__: gone})
        return gone

    def removals(self) -> tuple[tuple[datetime, str], ...]:
        """When something was erased or pruned, oldest first: what rested on it then cannot be derived again."""
        query = select(RemovalRow.removed_at, RemovalRow.kind).order_by(RemovalRow.removed_at)
        with self._read() as connection:
            return tuple((row.removed_at, row.kind) for row in connection.execute(query))

    def _delete(self, connection: Connection, keys: Any) -> dict[str, int]:
        """Delete what belongs to decisions; children first, since a cascade would not say how many rows went."""
        counts = {table.name: 0 for table in _owned()}
        for chunk in chunks(keys):
            connection.execute(select(DecisionRow.decision).where(DecisionRow.decision.in_(chunk)).with_for_update())
            with tallied(connection, chunk):
                self._keep_spending(connection, chunk)
                counts["lesson_evidence"] += erase_evidence(connection, chunk)
                for table in _owned():
                    if "decision" in table.c:
                        gone = connection.execute(delete(table).where(table.c.decision.in_(chunk)))
                        counts[table.name] += gone.rowcount
        return counts

    def _keep_spending(self, connection: Connection, keys: Any) -> None:
        """What removed decisions cost stays in their run's sum, so it stays among its parts: in one row without names."""
        names = ("calls", "tokens", "usd")
        sums = (func.sum(getattr(SpendingRow, name)).label(name) for name in names)
        query = select(SpendingRow.run, *sums).where(SpendingRow.decision.in_(keys)).group_by(SpendingRow.run)
        for run, calls, tokens, usd in connection.execute(query).all():
            self._add(connection, run, REMOVED, Spending(int(calls), int(tokens), float(usd)))

    @staticmethod
    def _note(connection: Connection, kind: str, before: datetime | None, counts: dict[str, int]) -> None:
        rows = {name: gone for name, gone in counts.items() if gone}
        if rows:
            connection.execute(insert(RemovalRow).values(removed_at=now(), kind=kind, before=before, rows=rows))

    def _truncate_log(self) -> bool:
        """Empty SQLite's log, which holds pages from before; True if others keep it. PostgreSQL vacuums by itself."""
        if self._engine.dialect.name != "sqlite":
            return False
        with store_errors(self.url), self._engine.connect() as connection:
            busy = connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return bool(busy[0])


def _owned() -> Iterator[Table]:
    """All tables that hold something of somebody, children before their parents."""
    for table in reversed(Base.metadata.sorted_tables):
        if "decision" in table.c or "user_id" in table.c or table.name in ALSO_OF_USER:
            yield table


def _of_user(table: Table, user: str) -> ColumnElement[bool] | None:
    wanted = [table.c.user_id == user] if "user_id" in table.c else []
    wanted += [ALSO_OF_USER[table.name](user)] if table.name in ALSO_OF_USER else []
    return or_(*wanted) if wanted else None


def _keys_of(user: str) -> Any:
    recorded = select(DecisionRow.decision).where(DecisionRow.user_id == user)
    return recorded.union(select(BegunRow.decision).where(BegunRow.user_id == user))


def _older(before: datetime) -> Any:
    """Decisions that were recorded before; or never recorded, and begun before; or known by old calls only."""
    recorded, begun = select(DecisionRow.decision), select(BegunRow.decision)
    stale = begun.where(BegunRow.begun_at < before, BegunRow.decision.not_in(recorded))
    nobody = select(LlmCallRow.decision).where(LlmCallRow.decision.not_in(recorded.union(begun)))
    nobody = nobody.group_by(LlmCallRow.decision).having(func.max(LlmCallRow.at) < before)
    return union(recorded.where(DecisionRow.recorded_at < before), stale, nobody)


def _count(connection: Connection, keys: Any) -> dict[str, int]:
    return {
        table.name: connection.execute(
            select(func.count()).select_from(table).where(table.c.decision.in_(keys))
        ).scalar_one()
        for table in _owned()
        if "decision" in table.c
    }
