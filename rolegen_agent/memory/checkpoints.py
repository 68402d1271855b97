"""Checkpoints of running graphs: what resumes a killed run. What is remembered afterwards is in the memory instead.

On SQLite they live in a file of their own, because they are written at every node and deleted when a run is done.
Only plain values and the words of the loop are rebuilt from a checkpoint; any other type stays raw data with a warning,
and nothing is ever unpickled, so a tampered file cannot run code.
"""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from sqlalchemy import URL
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from rolegen_errors import MemoryAwayError, MemoryStoreError, MissingExtraError
from rolegen_graphs import words

from .database import (
    AWAY_FIX,
    BUSY_SECONDS,
    OUTAGE_SECONDS,
    is_away,
    parse_url,
    prepare_sqlite,
    shown,
    sqlite_file,
    store_errors,
)

_SETUP_LOCK = 0x636865636B
"""key of the PostgreSQL advisory lock that lets one process create the checkpoint tables at a time"""
_POOL_SIZE = 8


def strict_serializer(allow: Iterable[type] = ()) -> JsonPlusSerializer:
    """A checkpoint serializer that rebuilds the words of the loop and the types in ``allow``, and nothing else."""
    ours = [
        word
        for _, word in inspect.getmembers(words, inspect.isclass)
        if issubclass(word, words.Record) and word.__module__ == words.__name__
    ]
    return JsonPlusSerializer(pickle_fallback=False, allowed_json_modules=None, allowed_msgpack_modules=[*ours, *allow])


@contextmanager
def open_checkpointer(
    url: str | Path, *, allow: Iterable[type] = (), outage_s: float = OUTAGE_SECONDS
) -> Iterator[BaseCheckpointSaver[Any]]:
    """A LangGraph saver for ``graph.compile(checkpointer=…)``, closed at the end of the ``with`` block.

    ``url`` is a SQLite file (path or ``sqlite:///…``; not the memory's own file) or ``postgresql://…``, which needs the
    extra ``postgres``. ``allow``: types of the caller's own that the state may hold. ``outage_s``: how many seconds a server
    is waited for that goes away meanwhile. It may be shared between threads; ``ainvoke`` and ``astream`` need
    :func:`open_async_checkpointer`.
    """
    address, serializer = parse_url(url), strict_serializer(allow)
    if address.get_backend_name() == "sqlite":
        from langgraph.checkpoint.sqlite import SqliteSaver

        _prepare_sqlite_file(address)
        with closing(_sqlite(address)) as connection:
            yield SqliteSaver(connection, serde=serializer)
        return
    _prepare_postgres(address)
    from langgraph.checkpoint.postgres import PostgresSaver
    from psycopg import Connection
    from psycopg.rows import DictRow
    from psycopg_pool import ConnectionPool

    with ConnectionPool[Connection[DictRow]](
        _conninfo(address),
        min_size=1,
        max_size=_POOL_SIZE,
        kwargs=_settings(),
        check=ConnectionPool.check_connection,
        timeout=outage_s,
    ) as pool:
        yield PostgresSaver(pool, serde=serializer)


@asynccontextmanager
async def open_async_checkpointer(
    url: str | Path, *, allow: Iterable[type] = ()
) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """The same as :func:`open_checkpointer` for ``ainvoke`` and ``astream``, on the same files and tables."""
    address, serializer = parse_url(url), strict_serializer(allow)
    if address.get_backend_name() == "sqlite":
        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        _prepare_sqlite_file(address)
        async with aiosqlite.connect(sqlite_file(address), timeout=BUSY_SECONDS) as connection:
            await connection.execute("PRAGMA synchronous = NORMAL")
            await connection.execute("PRAGMA secure_delete = ON")
            yield AsyncSqliteSaver(connection, serde=serializer)
        return
    _prepare_postgres(address)
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg import AsyncConnection
    from psycopg.rows import DictRow
    from psycopg_pool import AsyncConnectionPool

    async with AsyncConnectionPool[AsyncConnection[DictRow]](
        _conninfo(address), min_size=1, max_size=_POOL_SIZE, kwargs=_settings()
    ) as pool:
        yield AsyncPostgresSaver(pool, serde=serializer)


def forget(saver: BaseCheckpointSaver[Any], thread_id: str) -> None:
    """Delete every checkpoint and pending write of one thread; nothing happens if there is none."""
    saver.delete_thread(thread_id)


def threads(saver: BaseCheckpointSaver[Any]) -> set[str]:
    """The ids of all threads that have checkpoints, of other programs too where they share the tables."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    query = "SELECT DISTINCT thread_id FROM checkpoints"
    if isinstance(saver, SqliteSaver):
        with saver.cursor(transaction=False) as cursor:
            return {row[0] for row in cursor.execute(query)}
    from langgraph.checkpoint.postgres import PostgresSaver
    from psycopg_pool import ConnectionPool

    if not isinstance(saver, PostgresSaver) or not isinstance(saver.conn, ConnectionPool):
        raise TypeError("not a saver of open_checkpointer")
    with saver.conn.connection() as connection:
        return {row["thread_id"] for row in connection.execute(query)}


@contextmanager
def checkpoint_errors(where: str) -> Iterator[None]:
    """Turns what the drivers of the savers raise into ``MemoryStoreError``."""
    try:
        yield
    except sqlite3.Error as error:
        raise MemoryStoreError(f"the checkpoints cannot be kept: {error}", where=where) from error
    except Exception as error:
        # No psycopg, no such error; importing it here would make it a need of SQLite users.
        if not type(error).__module__.startswith("psycopg"):
            raise
        reason = str(error).strip().partition("\n")[0]
        if is_away(error):
            raise MemoryAwayError(f"the checkpoint database is away: {reason}", where=where, fix=AWAY_FIX) from error
        raise MemoryStoreError(f"the checkpoint database refused: {reason}", where=where) from error


def _sqlite(address: URL) -> sqlite3.Connection:
    # The saver takes a lock around each use, so one connection may serve several threads.
    connection = sqlite3.connect(sqlite_file(address), timeout=BUSY_SECONDS, check_same_thread=False)
    prepare_sqlite(connection)
    return connection


def _prepare_sqlite_file(address: URL) -> None:
    """Switch the file to WAL and make its tables, with errors in our words, before the caller's own block begins."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    with store_errors(shown(address)), closing(_sqlite(address)) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'rolegen_schema'").fetchone():
            raise MemoryStoreError(
                "the loop memory's own file cannot hold the checkpoints",
                where=shown(address),
                fix="give the checkpoints a file of their own",
            )
        SqliteSaver(connection).setup()


def _prepare_postgres(address: URL) -> None:
    """Connect once, so that a wrong address fails here with its reason, and make the tables, one process at a time."""
    if find_spec("psycopg") is None:
        raise MissingExtraError("psycopg", "postgres")
    if find_spec("langgraph.checkpoint.postgres") is None:
        raise MissingExtraError("langgraph-checkpoint-postgres", "postgres")
    from langgraph.checkpoint.postgres import PostgresSaver
    from psycopg import Connection, Error
    from psycopg.rows import dict_row

    try:
        with Connection.connect(
            _conninfo(address), autocommit=True, connect_timeout=10, row_factory=dict_row
        ) as connection:

            def ours() -> bool:
                [found] = connection.execute("SELECT pg_try_advisory_lock(%s) AS ours", (_SETUP_LOCK,)).fetchall()
                return bool(found["ours"])

            # Asked again and again, not waited for: the setup builds indexes concurrently, which waits for every other
            # statement under way, and so for the waiting one, which waits for it. Freed when the connection closes.
            Retrying(retry=retry_if_result(lambda taken: not taken), wait=wait_fixed(0.05), stop=stop_after_delay(60))(
                ours
            )
            PostgresSaver(connection).setup()
    except Error as error:
        raise MemoryStoreError(
            f"the checkpoint database failed: {str(error).strip().partition(chr(10))[0]}",
            where=shown(address),
            fix="check that the server runs and that host, port, user and password are right",
        ) from error
    except RetryError as error:
        raise MemoryStoreError(
            "another program has been setting up the checkpoint tables for a minute",
            where=shown(address),
            fix="look at pg_stat_activity for who holds the advisory lock, or try again",
        ) from error


def _conninfo(address: URL) -> str:
    return address.set(drivername="postgresql").render_as_string(hide_password=False)


def _settings() -> dict[str, Any]:
    from psycopg.rows import dict_row

    # What the PostgreSQL saver asks of its connections.
    return {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row, "connect_timeout": 10}
