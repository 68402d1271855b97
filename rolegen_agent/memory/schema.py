"""The version of the database's schema: is it ours, is it current, and how to bring it up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, inspect, text

from rolegen_errors import MemoryStoreError

from .database import writing
from .digests import fill as fill_digests

VERSION_TABLE = "rolegen_schema"
"""not Alembic's usual name: a server database may serve other programs that use Alembic too"""
REVISIONS: tuple[str, ...] = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
"""all revisions in order; kept here so that opening a current database does not import Alembic (0.3 s)"""
_UPGRADE_LOCK = 0x726F6C65
"""key of the PostgreSQL advisory lock that lets one process migrate at a time"""


def current_revision(connection: Connection) -> str | None:
    """The revision stored in the database, or None for one without our tables."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return None if found is None else str(found)


def ensure_schema(engine: Engine, *, upgrade: bool, where: str) -> None:
    """Bring the schema to the newest revision if ``upgrade``; otherwise raise ``MemoryStoreError`` unless it is there.

    Safe when several processes open a new database at once: one migrates, the others wait and find it done.
    """
    with engine.connect() as connection:
        revision = _known(current_revision(connection), where)
        if revision == REVISIONS[-1]:
            return
        if revision is None and engine.dialect.name == "sqlite":
            _refuse_foreign_file(connection, where)
    if not upgrade:
        state = "has no RoleGen tables yet" if revision is None else f"has the older schema {revision}"
        raise MemoryStoreError(
            f"the memory database {state} (this version needs {REVISIONS[-1]})",
            where=where,
            fix="run `rolegen memory upgrade`",
        )
    with writing(engine).connect() as connection, _cascades_off(connection), connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        # Another process may have migrated while this one waited for the lock.
        if _known(current_revision(connection), where) != REVISIONS[-1]:
            _migrate(connection)
            fill_digests(connection)


@contextmanager
def _cascades_off(connection: Connection) -> Iterator[None]:
    """A migration that rebuilds a SQLite table drops the old one, which would take all rows below it along."""
    driver = connection.connection.driver_connection
    if connection.dialect.name != "sqlite" or not isinstance(driver, sqlite3.Connection):
        yield
        return
    driver.execute("PRAGMA foreign_keys = OFF")  # before the transaction: within one it does nothing
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys = ON")


def _known(revision: str | None, where: str) -> str | None:
    if revision is not None and revision not in REVISIONS:
        raise MemoryStoreError(
            f"the memory database has schema {revision}, which is newer than this version of rolegen-agent knows"
            f" ({REVISIONS[-1]})",
            where=where,
            fix="upgrade rolegen-agent: pip install -U rolegen-agent",
        )
    return revision


def _refuse_foreign_file(connection: Connection, where: str) -> None:
    tables = inspect(connection).get_table_names()
    if tables:
        raise MemoryStoreError(
            f"the SQLite file belongs to another program: it holds {', '.join(tables[:3])} and no RoleGen schema",
            where=where,
            fix="give another path for the memory",
        )


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "rolegen_agent.memory:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
