"""The ground of the repository: one engine, transactions, upserts, and the small reads that several rooms share."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, Executable, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import ColumnElement

from rolegen_errors import InputError
from rolegen_graphs.words import Slate

from . import rows
from .claims import Claims, FileClaims, ServerClaims
from .database import (
    OUTAGE_SECONDS,
    alone,
    connect,
    parse_url,
    reading,
    shown,
    sqlite_file,
    store_errors,
    until_back,
    writing,
)
from .models import Base, DecisionRow, SlateItemRow, SlateRow
from .rows import Values
from .schema import ensure_schema

DEFAULT_HORIZON_DAYS = 90.0
_CHUNK = 500  # bound parameters of one IN list, far below the limits of both databases


class Store:
    """An open database. Close it, or use it as a context manager; it may be shared between threads."""

    def __init__(
        self,
        url: str | Path,
        *,
        upgrade: bool = False,
        horizon_days: float = DEFAULT_HORIZON_DAYS,
        outage_s: float = OUTAGE_SECONDS,
    ) -> None:
        if horizon_days <= 0:
            raise InputError(f"the horizon must be positive, got {horizon_days} days", fix="set horizon_days above 0")
        address = parse_url(url)
        self.url = shown(address)
        """the address without password"""
        self.horizon_days, self.outage_s = horizon_days, outage_s
        self._engine = connect(address)
        self._upserts: dict[tuple[Any, ...], tuple[Sequence[str], Any, Any]] = {}
        self._writer, self._reader = writing(self._engine), reading(self._engine)
        is_sqlite = self._engine.dialect.name == "sqlite"
        # A single statement is a transaction of its own: a server need not be told its beginning and its end.
        self._write_single = self._writer if is_sqlite else alone(self._engine)
        self._read_single = self._reader if is_sqlite else alone(self._engine)
        self._insert = sqlite.insert if is_sqlite else postgresql.insert
        # SQLite lets waiting writers poll; a lock lets the threads of one process take turns instead.
        self._turn: AbstractContextManager[Any] = threading.Lock() if is_sqlite else nullcontext()
        self._claims: Claims = FileClaims(sqlite_file(address)) if is_sqlite else ServerClaims(self._session)
        try:
            with store_errors(self.url):
                ensure_schema(self._engine, upgrade=upgrade or is_sqlite, where=self.url)
        except BaseException:
            self._engine.dispose()
            raise

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give all connections back; nothing is pending, since every write is already committed."""
        self._claims.close()
        self._engine.dispose()

    @contextmanager
    def claimed(self, key: str) -> Iterator[bool]:
        """Hold ``key`` for the block; False if somebody else holds it, in this program or another one on this memory.

        A claim ends with the block, with the connection to the server, and with the process: one that was killed leaves
        nothing to wait for. It keeps work from being done twice; that nothing is stored twice rests on natural keys.
        """
        with store_errors(self.url):
            mine = self._claims.take(key)
        try:
            yield mine
        finally:
            if mine:
                with store_errors(self.url):
                    self._claims.give(key)

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with store_errors(self.url), self._turn, self._session(self._writer) as connection, connection.begin():
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with store_errors(self.url), self._session(self._reader) as connection, connection.begin():
            yield connection

    @contextmanager
    def _write_once(self) -> Iterator[Connection]:
        """For a single statement; as :meth:`_write` otherwise."""
        with store_errors(self.url), self._turn, self._session(self._write_single) as connection, connection.begin():
            yield connection

    @contextmanager
    def _read_once(self) -> Iterator[Connection]:
        """For a single statement; as :meth:`_read` otherwise."""
        with store_errors(self.url), self._session(self._read_single) as connection, connection.begin():
            yield connection

    def _session(self, engine: Engine | None = None) -> Connection:
        """A live connection of the pool; a server that went away since the store was opened is waited for."""
        engine = engine or self._engine
        return engine.connect() if engine.dialect.name == "sqlite" else until_back(self.outage_s)(engine.connect)

    def _upsert(
        self,
        connection: Connection,
        row: type[Base],
        values: Sequence[Values],
        *,
        keep: Sequence[str] = (),
        unless: ColumnElement[bool] | None = None,
    ) -> int:
        """Insert rows or update those whose primary key exists, but for the columns in ``keep`` and the stored rows
        where ``unless`` (a constant, for its statement is kept) holds; returns how many rows were written."""
        if not values:
            return 0
        key, statement = self._upserting(row, tuple(values[0]), tuple(keep), unless)
        # Rows in key order, so that two writers of overlapping bulks never wait for each other in a circle.
        ordered = sorted(values, key=lambda value: tuple(str(value[name]) for name in key))
        return self._rows(connection, statement, ordered)

    def _upserting(
        self, row: type[Base], names: tuple[str, ...], keep: tuple[str, ...], unless: ColumnElement[bool] | None
    ) -> tuple[Sequence[str], Any]:
        """Key columns and statement. It is built once for each shape, since that takes longer than to run it."""
        shape = row, names, keep, id(unless)
        if shape not in self._upserts:
            table: Any = row.__table__
            statement = self._insert(row)
            key = [column.name for column in table.primary_key]
            changed = {name: statement.excluded[name] for name in names if name not in (*key, *keep)}
            if changed:
                statement = statement.on_conflict_do_update(
                    index_elements=key, set_=changed, where=None if unless is None else ~unless
                )
            else:
                statement = statement.on_conflict_do_nothing(index_elements=key)
            self._upserts[shape] = key, statement, unless  # which lives on, so that its id is its own
        return self._upserts[shape][:2]

    @staticmethod
    def _rows(connection: Connection, statement: Executable, values: Any) -> int:
        """Execute an insert and count the rows it wrote; without the option SQLAlchemy keeps no count for inserts."""
        return connection.execute(statement, values, execution_options={"preserve_rowcount": True}).rowcount

    def _known(self, connection: Connection, decisions: Iterable[str], *, lock: bool = False) -> dict[str, Any]:
        """Key, user and horizon of decisions; ``InputError`` if one of them is not in memory.

        ``lock``: writers of what hangs below these decisions take turns until the end of the transaction.
        """
        wanted = sorted(set(decisions))
        query = select(DecisionRow.decision, DecisionRow.user_id, DecisionRow.at, DecisionRow.horizon_end)
        if lock:  # SQLite has no such lock, and needs none: it has one writer. In key order, so that nobody waits in a circle.
            query = query.order_by(DecisionRow.decision).with_for_update(key_share=True)
        found = {
            row.decision: row
            for chunk in chunks(wanted)
            for row in connection.execute(query.where(DecisionRow.decision.in_(chunk)))
        }
        missing = [decision for decision in wanted if decision not in found]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(wanted)} decisions are not in memory, the first is {missing[0]!r}",
                where=self.url,
                fix="record the decision first, or check that this is the right database",
            )
        return found


def now() -> datetime:
    return datetime.now(UTC)


def columns(row: type[Base], without: Sequence[str] = ()) -> list[Any]:
    return [column for column in row.__table__.columns if column.name not in without]


def without(values: Any, *names: str) -> Values:
    return {name: value for name, value in values.items() if name not in names}


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))


def below(connection: Connection, row: Any, decision: str, *order: Any) -> Sequence[Any]:
    query = select(*columns(row)).where(row.decision == decision).order_by(*order)
    return connection.execute(query).mappings().all()


def slate_item_ids(connection: Connection, decisions: Sequence[str], policy: str) -> dict[str, list[str]]:
    """Item ids in slate order for each of ``decisions``; an empty list where the slate is empty."""
    items: dict[str, list[str]] = {decision: [] for decision in decisions}
    for chunk in chunks(decisions):
        query = (
            select(SlateItemRow.decision, SlateItemRow.item)
            .where(SlateItemRow.decision.in_(chunk), SlateItemRow.policy == policy)
            .order_by(SlateItemRow.decision, SlateItemRow.seq)
        )
        for decision, item in connection.execute(query):
            items[decision].append(item)
    return items


def slates_of(connection: Connection, decision: str) -> dict[str, Slate]:
    items: dict[str, list[Any]] = {}
    for item in below(connection, SlateItemRow, decision, SlateItemRow.policy, SlateItemRow.seq):
        items.setdefault(item["policy"], []).append(item)
    return {
        row["policy"]: rows.to_slate(row, items.get(row["policy"], ())) for row in below(connection, SlateRow, decision)
    }
