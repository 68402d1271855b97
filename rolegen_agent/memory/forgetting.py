"""Checkpoints of a person: found by the decisions that they belong to, and by whom their state names.

Threads of a graph that waits for an outcome, or of one that ours is a part of, are called what their owners call them. In a file
of ours every thread is looked at; on a server, which may hold threads of other programs, those that hold words of the loop.

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
from rolegen_graphs.words import Decision, Observation, Record, Trajectory

from .checkpoints import forget, open_checkpointer
from .database import parse_url, prepare_sqlite, shown, store_errors

_OURS = re.compile("[0-9a-f]{32}")
"""a batch's thread is named like its decision"""


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
        for thread, names in _threads(saver, everything=file is not None):
            if thread in wanted or user in names:
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


def _threads(saver: BaseCheckpointSaver[Any], *, everything: bool) -> Iterator[tuple[str, set[str]]]:
    """Our threads, once for each checkpoint, with the users that it names: in its state, or in the input that waits for the
    first node."""
    for found in saver.list(None):
        thread = str(found.config.get("configurable", {}).get("thread_id", ""))
        values = found.checkpoint["channel_values"]
        if everything or _OURS.fullmatch(thread) or any(isinstance(value, Record) for value in values.values()):
            given = values.get("__start__")
            named = [values.get("user"), given.get("user") if isinstance(given, dict) else None]
            for value in values.values():
                if isinstance(value, Decision | Trajectory):
                    named.append(value.user)
                elif isinstance(value, Observation):
                    named.append(value.trajectory.user)
            yield thread, {one for one in named if isinstance(one, str)}
