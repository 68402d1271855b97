"""The ground of the repository: one engine, transactions, upserts, and the small reads that several rooms share."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Executable, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import ColumnElement

from rolegen_errors import InputError
from rolegen_graphs.words import Slate

from . import rows
from .database import connect, parse_url, reading, shown, store_errors, writing
from .models import Base, DecisionRow, SlateItemRow, SlateRow
from .rows import Values
from .schema import ensure_schema

DEFAULT_HORIZON_DAYS = 90.0
_CHUNK = 500  # bound parameters of one IN list, far below the limits of both databases


class Store:
    """An open database. Close it, or use it as a context manager; it may be shared between threads."""

    def __init__(self, url: str | Path, *, upgrade: bool = False, horizon_days: float = DEFAULT_HORIZON_DAYS) -> None:
        if horizon_days <= 0:
            raise InputError(f"the horizon must be positive, got {horizon_days} days", fix="set horizon_days above 0")
        address = parse_url(url)
        self.url = shown(address)
        """the address without password"""
        self.horizon_days = horizon_days
        self._engine = connect(address)
        self._writer, self._reader = writing(self._engine), reading(self._engine)
        is_sqlite = self._engine.dialect.name == "sqlite"
        self._insert = sqlite.insert if is_sqlite else postgresql.insert
        # SQLite lets waiting writers poll; a lock lets the threads of one process take turns instead.
        self._turn: AbstractContextManager[Any] = threading.Lock() if is_sqlite else nullcontext()
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
        self._engine.dispose()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with store_errors(self.url), self._turn, self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with store_errors(self.url), self._reader.begin() as connection:
            yield connection

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
        where ``unless`` holds; returns how many rows were written."""
        if not values:
            return 0
        table: Any = row.__table__
        statement = self._insert(row)
        key = [column.name for column in table.primary_key]
        changed = {name: statement.excluded[name] for name in values[0] if name not in (*key, *keep)}
        if changed:
            statement = statement.on_conflict_do_update(
                index_elements=key, set_=changed, where=None if unless is None else ~unless
            )
        else:
            statement = statement.on_conflict_do_nothing(index_elements=key)
        # Rows in key order, so that two writers of overlapping bulks never wait for each other in a circle.
        ordered = sorted(values, key=lambda value: tuple(str(value[name]) for name in key))
        return self._rows(connection, statement, ordered)

    @staticmethod
    def _rows(connection: Connection, statement: Executable, values: Any) -> int:
        """Execute an insert and count the rows it wrote; without the option SQLAlchemy keeps no count for inserts."""
        return connection.execute(statement, values, execution_options={"preserve_rowcount": True}).rowcount

    def _known(self, connection: Connection, decisions: Iterable[str]) -> dict[str, Any]:
        """Key, user and horizon of decisions; ``InputError`` if one of them is not in memory."""
        wanted = sorted(set(decisions))
        query = select(DecisionRow.decision, DecisionRow.user_id, DecisionRow.at, DecisionRow.horizon_end)
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
        row["policy"]: rows.to_slate(row["entropy"], items.get(row["policy"], ()))
        for row in below(connection, SlateRow, decision)
    }
