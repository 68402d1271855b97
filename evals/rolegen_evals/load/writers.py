"""Many writers on one memory: how fast, how long a single write waits, and whether everything is there afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from rolegen_agent.batch import awaken, under_way
from rolegen_agent.memory import Memory, open_memory
from rolegen_agent.memory.database import OUTAGE_SECONDS

from ..endpoint import CHAT, Asked, Endpoint, Heard, Reply, completion, models
from .processes import run_in_forks
from .shop import AT, mind, open_shop, user_name

RUN = "load"
CONCURRENCY = 2
"""requests of one writer at a time"""


class TimedMemory(Memory):
    """The memory, with the seconds that each write took from its wish to its commit."""

    def __init__(self, url: str) -> None:
        super().__init__(url, outage_s=OUTAGE_SECONDS)
        self.seconds: list[float] = []

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._timed(), super()._write() as connection:
            yield connection

    @contextmanager
    def _write_once(self) -> Iterator[Connection]:
        with self._timed(), super()._write_once() as connection:
            yield connection

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds.append(time.perf_counter() - began)


@dataclass(frozen=True)
class Writer:
    """One process: every ``step``-th user from ``first`` on."""

    memory: str
    checkpoints: str
    endpoint: str
    first: int
    step: int
    users: int

    def names(self) -> list[str]:
        return [user_name(number) for number in range(self.first, self.users, self.step)]


@dataclass(frozen=True)
class Wrote:
    """What one writer did."""

    decided: int
    writes_s: list[float]
    began: float
    ended: float


def write(order: Writer) -> Wrote:
    """Decide on the writer's users."""
    with TimedMemory(order.memory) as memory:
        shop = open_shop(memory, RUN, endpoint=order.endpoint, concurrency=CONCURRENCY)
        began = time.time()
        report = awaken(shop, memory, order.names(), AT, workers=under_way(CONCURRENCY), checkpoints=order.checkpoints)
        return Wrote(report.decided, memory.seconds, began, time.time())


def load(database: str, memory: str, checkpoints: str, *, writers: int, users: int) -> dict[str, float]:
    """``writers`` processes decide on ``users`` users in all, with a scripted LLM that answers at once.

    Figures end in ``database``. ``missing`` and ``doubled`` count what is not there once; ``differences`` is what
    ``rolegen memory verify`` finds afterwards.
    """
    with open_memory(memory, upgrade=True):
        pass
    with Endpoint(_respond) as server:
        orders = [Writer(memory, checkpoints, server.url, first, writers, users) for first in range(writers)]
        done = run_in_forks(write, orders)
    seconds = max(one.ended for one in done) - min(one.began for one in done)
    waits = np.concatenate([one.writes_s for one in done])
    decided = sum(one.decided for one in done)
    with open_memory(memory) as opened:
        found = len(opened.finished(RUN))
        begun = sum(run.begun for run in opened.runs())
        checking = time.perf_counter()
        differences = sum(1 for _ in opened.verify())
        verified_s = time.perf_counter() - checking
    return {
        f"load.writers.{database}": float(writers),
        f"load.decisions.{database}": float(decided),
        f"load.decisions_per_s.{database}": decided / seconds,
        f"load.writes_per_s.{database}": len(waits) / seconds,
        f"load.write_p50_ms.{database}": 1000 * float(np.quantile(waits, 0.5)),
        f"load.write_p99_ms.{database}": 1000 * float(np.quantile(waits, 0.99)),
        f"load.write_worst_ms.{database}": 1000 * float(waits.max()),
        f"load.missing.{database}": float(users - found),
        f"load.doubled.{database}": float(decided - found),
        f"load.unfinished.{database}": float(begun),
        f"load.differences.{database}": float(differences),
        f"load.verified_per_s.{database}": found / verified_s,
    }


def _respond(heard: Heard) -> Reply:
    if heard.path != CHAT:
        return Reply(models("scripted"))
    return Reply(completion(heard, json.dumps(mind(Asked.of(heard.body)))))
