"""Who is at work on what: locks by name that all programs on one memory see, and that end with the process that holds them.

On PostgreSQL they are advisory locks of one connection, on SQLite locks on files beside the database. The system frees both
when a process dies, however it dies, so that nobody waits for a lease to run out.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError


class Claims(Protocol):
    """Locks by name. A name that is held cannot be taken again, not even by its holder."""

    def take(self, key: str) -> bool:
        """Hold ``key``; False if it is held already."""
        ...

    def give(self, key: str) -> None:
        """Free ``key``, which the caller holds."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class FileClaims:
    """Locks on files in the folder ``<database>-claims``, which is there while somebody holds one."""

    def __init__(self, database: Path) -> None:
        self._folder = database.with_name(f"{database.name}-claims")
        self._held: dict[str, FileLock] = {}
        self._swept = False

    def take(self, key: str) -> bool:
        if not self._swept:
            self._swept = True
            self._sweep()
        lock = FileLock(self._folder / f"{key}.lock", blocking=False, thread_local=False)
        while True:
            try:
                self._folder.mkdir(exist_ok=True)
                lock.acquire()
            except Timeout:
                return False
            except (FileNotFoundError, FileExistsError):  # who closed last has removed the folder in between
                if self._folder.is_file():
                    raise
                continue
            self._held[key] = lock
            return True

    def give(self, key: str) -> None:
        lock = self._held.pop(key)
        # Before the release: who has opened the file meanwhile finds it gone and makes a new one, as the library sees to.
        with suppress(PermissionError):  # Windows lets no open file be removed; the next sweep does it
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

    def close(self) -> None:
        for key in list(self._held):
            self.give(key)
        with suppress(OSError):  # another program's locks lie there, or there is no folder
            self._folder.rmdir()

    def _sweep(self) -> None:
        """Remove the files that killed processes left behind."""
        for file in self._folder.glob("*.lock"):
            if self.take(file.stem):
                self.give(file.stem)


_KEEPALIVE = (
    "SELECT set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', '10', false),"
    " set_config('tcp_keepalives_count', '3', false)"
)
"""a machine that loses its power says nothing: within a minute the server notices, instead of the system's two hours"""


class ServerClaims:
    """Advisory locks of one connection. ``connect`` opens it, and again when it was lost, with its locks taken anew."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._guard = threading.Lock()
        self._held: set[str] = set()
        self._connection: Connection | None = None

    def take(self, key: str) -> bool:
        with self._guard:
            if key in self._held:  # the server would let its own connection take it twice
                return False
            if not self._ask("SELECT pg_try_advisory_lock(:key)", key):
                return False
            self._held.add(key)
            return True

    def give(self, key: str) -> None:
        with self._guard:
            self._held.discard(key)
            if self._connection is not None:
                # A lost connection has freed it already.
                with suppress(_LostError):
                    self._execute(self._connection, "SELECT pg_advisory_unlock(:key)", key)

    def close(self) -> None:
        with self._guard:
            self._held.clear()
            if self._connection is not None:
                self._connection.invalidate()  # closed, not given back to the pool with locks on it
                self._connection.close()
                self._connection = None

    def _ask(self, statement: str, key: str) -> bool:
        if self._connection is not None:
            with suppress(_LostError):
                return self._execute(self._connection, statement, key)
        self._connection = connection = self._connect()
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text(_KEEPALIVE))
        for held in self._held:  # where another program was faster, both go on: what they record is the same row
            self._execute(connection, "SELECT pg_try_advisory_lock(:key)", held)
        return self._execute(connection, statement, key)

    def _execute(self, connection: Connection, statement: str, key: str) -> bool:
        try:
            return bool(connection.execute(text(statement), {"key": _number(key)}).scalar_one())
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            connection.close()
            self._connection = None
            raise _LostError from error


class _LostError(Exception):
    """The connection that held the locks is gone."""


def _number(key: str) -> int:
    """The 64 bits by which PostgreSQL names an advisory lock."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8, person=b"rolegen").digest(), signed=True)
