"""Opening a database for the memory: addresses, SQLite settings, and driver errors in the project's words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError, StatementError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential
from tenacity.stop import stop_base

from rolegen_errors import MemoryAwayError, MemoryStoreError, MissingExtraError, RoleGenError

from .columns import dump_json

BUSY_SECONDS = 60.0
"""how long a SQLite writer waits for the others; a write takes milliseconds"""
OUTAGE_SECONDS = 60.0
"""how long a server that went away is waited for: a restart takes seconds"""
_WRITES = "rolegen_writes"
_AWAY_CODES = ("08", "57P", "53300")
"""SQLSTATE of a lost connection, of a server that stops or starts, and of one without a free connection"""


def parse_url(url: str | Path) -> URL:
    """A file path or database URL as one of the two supported dialects. No error shows the URL's password."""
    if isinstance(url, Path) or "://" not in url:
        return URL.create("sqlite", database=str(url))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text may hold a password, so the message cannot quote it, and the cause is cut off.
        raise MemoryStoreError(
            "the database address is not a URL", fix="write sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME"
        ) from None
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return parsed.set(drivername="sqlite")
    raise MemoryStoreError(
        f"the database '{parsed.drivername}' is not supported",
        where=shown(parsed),
        fix="use sqlite:///FILE or postgresql://…",
    )


def shown(url: URL) -> str:
    """The address as it may appear in errors and logs: no password, and no query, which can carry one too."""
    return url.set(query={}).render_as_string(hide_password=True)


def sqlite_file(url: URL) -> Path:
    """The file of a SQLite address, its folder made if need be; refuses in-memory databases, which keep nothing."""
    name = url.database
    if not name or name == ":memory:" or name.startswith("file:"):
        raise MemoryStoreError(
            "the memory needs a file: a SQLite database in RAM forgets and is not shared between threads",
            where=shown(url),
            fix="give a path, for instance memory.db",
        )
    file = Path(name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MemoryStoreError(f"the folder cannot be made: {error}", where=str(file.parent)) from error
    return file


def prepare_sqlite(connection: sqlite3.Connection) -> None:
    """WAL (readers and a writer do not block each other), waiting instead of failing, and enforced foreign keys."""
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    deadline = time.monotonic() + BUSY_SECONDS
    # SQLite does not wait by itself when two processes switch a new file to WAL at once.
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Decisions are spread over the whole file by their digests, so rare, large checkpoints write far less: 32 MB of log.
    connection.execute("PRAGMA wal_autocheckpoint = 8000")
    # An erased user must not linger in free pages.
    connection.execute("PRAGMA secure_delete = ON")


def connect(url: URL) -> Engine:
    """An engine for ``url``; nothing is sent yet. Use :func:`writing` and :func:`reading` of it."""
    common: dict[str, Any] = {"json_serializer": dump_json, "hide_parameters": True}
    if url.get_backend_name() == "sqlite":
        sqlite_file(url)
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_timeout=BUSY_SECONDS, **common)
        _sqlite_events(engine)
        return engine
    if find_spec("psycopg") is None:
        raise MissingExtraError("psycopg", "postgres")
    arguments = {} if "connect_timeout" in url.query else {"connect_timeout": 10}
    return create_engine(url, connect_args=arguments, pool_pre_ping=True, **common)


def writing(engine: Engine) -> Engine:
    """The same pool; each transaction takes the write lock at its start, so it never fails half way on SQLite."""
    return engine.execution_options(**{_WRITES: True})


def reading(engine: Engine) -> Engine:
    """The same pool; each transaction sees one unchanging state of the database."""
    if engine.dialect.name == "sqlite":
        return engine  # a deferred transaction in WAL mode is a snapshot
    return engine.execution_options(isolation_level="REPEATABLE READ")


def alone(engine: Engine) -> Engine:
    """The same pool of a server; each statement is a transaction of its own, in one message."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _sqlite_events(engine: Engine) -> None:
    """SQLAlchemy's recipe for pysqlite: the driver starts no transactions of its own, we emit BEGIN."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        prepare_sqlite(connection)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def is_away(error: BaseException) -> bool:
    """Whether a database error means that the server cannot be reached now, so that the same may succeed later."""
    if isinstance(error, MemoryAwayError):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or (error.orig is not None and is_away(error.orig))
    if find_spec("psycopg") is None:
        return False
    from psycopg import OperationalError

    # Without a code the server said nothing: it could not be reached, the line was cut, or a pool waited in vain.
    return isinstance(error, OperationalError) and (error.sqlstate is None or error.sqlstate.startswith(_AWAY_CODES))


def until_back(seconds: float, *, also: stop_base | None = None) -> Retrying:
    """Repeats what failed because the server is away, for ``seconds`` at most or until ``also`` says stop; then the
    last error passes."""
    stop = stop_after_delay(seconds)
    return Retrying(
        retry=retry_if_exception(is_away),
        stop=stop if also is None else stop | also,
        wait=wait_random_exponential(multiplier=0.1, max=2.0),
        reraise=True,
    )


@contextmanager
def store_errors(where: str) -> Iterator[None]:
    """Turns what SQLAlchemy and the drivers raise into ``MemoryStoreError``, without parameters or passwords."""
    try:
        yield
    except StatementError as error:
        if isinstance(error.orig, RoleGenError):  # a column type refused a value
            raise error.orig from None
        reason = str(error.orig or error).strip().partition("\n")[0]
        if is_away(error):
            raise MemoryAwayError(f"the memory database is away: {reason}", where=where, fix=AWAY_FIX) from error
        raise MemoryStoreError(f"the memory database refused: {reason}", where=where, fix=_advice(reason)) from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        reason = str(error).partition("\n")[0]
        raise MemoryStoreError(f"the memory database failed: {reason}", where=where) from error
    except OverflowError as error:
        raise MemoryStoreError("a number is too large for the memory database (64 bits)", where=where) from error


AWAY_FIX = "check that the server runs and that host, port, user and password are right, then give the same command: it goes on"


def _advice(reason: str) -> str | None:
    lowered = reason.lower()
    hints = {
        "not a database": "the file is no SQLite database; give another path",
        "unable to open": "check that the file is writable and its folder exists",
        "readonly": "make the database file and its folder writable",
        "disk is full": "free some disk space; finished decisions are safe",
        "disk full": "free some disk space; finished decisions are safe",
        "locked": "another program holds the database file; close it",
    }
    return next((hint for sign, hint in hints.items() if sign in lowered), None)
