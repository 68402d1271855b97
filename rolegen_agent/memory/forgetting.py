"""Checkpoints of a person: found by the decisions that they belong to, and by whom their state names.

A program that is killed between recording a decision and deleting its checkpoint leaves one behind, and so does one that is
killed before anything was recorded.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from rolegen_errors import MemoryStoreError

from .checkpoints import forget, open_checkpointer
from .database import parse_url, prepare_sqlite, shown, store_errors

_OURS = re.compile("[0-9a-f]{32}")
"""a thread is named like its decision; a server database may hold threads of other programs too"""


def erase_checkpoints(url: str | Path, user: str, decisions: Iterable[str]) -> int:
    """Delete the checkpoints of ``decisions`` and of every other decision under way on ``user``; returns how many threads.

    Raises:
        MemoryStoreError: the database fails, or another program keeps SQLite's log of it from being emptied.
    """
    address = parse_url(url)
    file = Path(address.database or "") if address.get_backend_name() == "sqlite" else None
    if file is not None and not file.exists():
        return 0
    with open_checkpointer(url) as saver:
        wanted, threads = set(decisions), set()
        for thread, named in _threads(saver):
            if thread in wanted or named == user:
                threads.add(thread)
        for thread in threads:
            forget(saver, thread)
    if file is not None:
        with store_errors(shown(address)), closing(sqlite3.connect(file)) as connection:
            prepare_sqlite(connection)
            if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise MemoryStoreError(
                    "the checkpoints are deleted, but another program reads the file, so that its log still holds them",
                    where=shown(address),
                    fix="end the other program and run the same command again",
                )
    return len(threads)


def _threads(saver: BaseCheckpointSaver[Any]) -> Iterator[tuple[str, str | None]]:
    """Our threads with the user that a checkpoint names: in its state, or in the input that waits for the first node."""
    for found in saver.list(None):
        thread = str(found.config.get("configurable", {}).get("thread_id", ""))
        if _OURS.fullmatch(thread):
            values = found.checkpoint["channel_values"]
            given = values.get("__start__")
            named = values.get("user", given.get("user") if isinstance(given, dict) else None)
            yield thread, named if isinstance(named, str) else None
