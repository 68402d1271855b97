"""Kill -9 at random points of a batch, again and again, and then look whether the memory shows it.

A life is a process that runs the same batch as the one before it until it is killed or done. Processes are forked from a
server that has imported everything, so that a life begins in milliseconds; the batch in it opens its memory, its
checkpoints and its LLM client anew, as a command does.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import create_engine, func, select
from sqlalchemy.exc import DBAPIError

from rolegen_agent.batch import awaken, under_way
from rolegen_agent.memory import open_memory
from rolegen_agent.memory.checkpoints import open_checkpointer, threads
from rolegen_agent.memory.database import parse_url
from rolegen_agent.memory.models import Base, LlmCallRow, SpendingRow

from ..endpoint import CHAT, Asked, Endpoint, Heard, Reply, completion, models
from .processes import forks
from .shop import AT, mind, open_shop, user_name

CONCURRENCY = 4
MOST_REQUESTS = 12
"""a life is killed shortly after so many requests of it at most; counted in work and not in time, since machines differ"""
START_S, SHORTLY_S = 0.5, 0.1
"""a life that is to make no request is killed within the first of these, the others within the second after theirs"""
_CHANGING = frozenset({"recorded_at", "begun_at", "latency_s", "retries", "created", "seconds"})
"""columns that tell when or how long, which no two runs share"""
Rows = Mapping[str, list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Job:
    """One batch: all that a process needs to run it."""

    memory: str
    checkpoints: str
    endpoint: str
    run: str
    first: int
    users: int
    outage_s: float = 60.0

    def names(self) -> list[str]:
        return [user_name(self.first + number) for number in range(self.users)]


@dataclass(frozen=True)
class Survived:
    """What a sweep saw."""

    kills: int
    batches: int
    requests: int
    repeated: int
    """requests beyond one for each question: those that were under way at a kill"""
    repeated_finished: int
    """of these: questions whose answer was in the memory when the process was killed"""
    resumed: int
    """kills after which the next life found decisions half way"""
    threads_left: int
    """checkpoint threads after the last life"""
    begun_left: int
    unspent: int
    """requests that the budget's sums do not know of"""
    differing_rows: int
    """rows that are in one memory and not in the other, against an undisturbed run"""
    seconds: float


def live(job: Job) -> None:
    """One life: the batch from wherever the one before it was killed."""
    with open_memory(job.memory, upgrade=True, outage_s=job.outage_s) as memory:
        shop = open_shop(memory, job.run, endpoint=job.endpoint, concurrency=CONCURRENCY)
        report = awaken(
            shop,
            memory,
            job.names(),
            AT,
            workers=under_way(CONCURRENCY),
            checkpoints=job.checkpoints,
        )
    if report.left:
        raise RuntimeError(f"{report.left} users are left")


def _await(process: Any, llm: CountingLlm, luck: random.Random) -> None:
    """Wait for the moment at which a life is to end, or for its own end."""
    more = luck.randint(0, MOST_REQUESTS)
    goal = llm.arrived + more
    while llm.arrived < goal and process.is_alive():
        process.join(0.002)
    process.join(luck.uniform(0, SHORTLY_S if more else START_S))


class CountingLlm:
    """A scripted LLM that remembers which questions arrived, and which of them should not have come again."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.settled: frozenset[str] = frozenset()
        """questions whose answers are kept: none of them may come again"""
        self.arrived = self.violations = 0
        self.server = Endpoint(self._respond)

    def _respond(self, heard: Heard) -> Reply:
        if heard.path != CHAT:
            return Reply(models("scripted"))
        key = question([(one["role"], str(one["content"])) for one in heard.body["messages"]])
        with self._lock:
            self.asked[key] += 1
            self.arrived += 1
            self.violations += key in self.settled
        self.server.over.wait(self._delay_s)
        return Reply(completion(heard, json.dumps(mind(Asked.of(heard.body)))))


def question(messages: list[tuple[str, str]]) -> str:
    """What makes two requests the same question."""
    return hashlib.sha256(json.dumps(messages).encode()).hexdigest()


def sweep(job: Job, *, kills: int, delay_s: float, seed: int, progress: Callable[[int, int], None]) -> Survived:
    """Run batches of ``job``'s size until ``kills`` lives were killed, and compare with ``undisturbed`` runs of them.

    Args:
        job: the first batch; the following ones have other users. ``endpoint`` is filled in here.
        delay_s: how long the LLM takes.
    """
    started, luck = time.perf_counter(), random.Random(seed)
    llm, context = CountingLlm(delay_s), forks()
    killed = resumed = batches = 0
    with llm.server as server:
        while killed < kills:
            batch = replace(job, endpoint=server.url, run=f"{job.run}-{batches}", first=job.first + batches * job.users)
            batches += 1
            while True:
                process = context.Process(target=live, args=(batch,))
                process.start()
                if killed < kills:
                    _await(process, llm, luck)
                else:
                    process.join()
                if not process.is_alive():
                    if process.exitcode:
                        raise RuntimeError(f"a life ended by itself with {process.exitcode}")
                    break
                process.kill()
                process.join()
                killed += 1
                progress(killed, kills)
                llm.settled = frozenset(answered(batch.memory))
                resumed += bool(_threads(batch))
    rows = dump(job.memory)
    wanted = undisturbed(job, [f"{job.run}-{number}" for number in range(batches)])
    return Survived(
        kills=killed,
        batches=batches,
        requests=llm.asked.total(),
        repeated=llm.asked.total() - len(llm.asked),
        repeated_finished=llm.violations,
        resumed=resumed,
        threads_left=len(_threads(job)),
        begun_left=len(rows["begun"]),
        unspent=max(0, llm.asked.total() - spent(job.memory)),
        differing_rows=len(differences(rows, wanted)),
        seconds=time.perf_counter() - started,
    )


def undisturbed(job: Job, runs: Sequence[str]) -> Rows:
    """The rows of the same batches when nobody is killed, from a memory of its own on SQLite."""
    with TemporaryDirectory() as folder, CountingLlm(0.0).server as server:
        twin = replace(
            job,
            memory=str(Path(folder) / "memory.db"),
            checkpoints=str(Path(folder) / "checkpoints.db"),
            endpoint=server.url,
        )
        for number, run in enumerate(runs):
            live(replace(twin, run=run, first=job.first + number * job.users))
        return dump(twin.memory)


def dump(memory: str) -> Rows:
    """Every row of every table without what tells the time, in an order of its own. ``llm_spending`` is left out: what was
    reserved for a request that a kill cut off stays spent, see ``Survived.unspent``."""
    engine = create_engine(parse_url(memory))
    found = {}
    with engine.connect() as connection:
        for name, table in Base.metadata.tables.items():
            columns = [column for column in table.columns if column.name not in _CHANGING]
            if name == "llm_spending":
                continue
            if name == "llm_calls":
                columns.remove(table.columns["at"])
            found[name] = sorted((tuple(row) for row in connection.execute(select(*columns))), key=repr)
    engine.dispose()
    return found


def differences(one: Rows, other: Rows) -> list[str]:
    """Rows that only one of the two has, with their table."""
    found = []
    for name in one:
        ours, theirs = Counter(map(repr, one[name])), Counter(map(repr, other[name]))
        found += [f"{name}: {row}" for row in ((ours - theirs) + (theirs - ours)).elements()]
    return found


def answered(memory: str) -> set[str]:
    """The questions whose answers are in the memory; none while it has no tables yet."""
    engine = create_engine(parse_url(memory))
    try:
        with engine.connect() as connection:
            texts = connection.execute(select(LlmCallRow.messages).where(LlmCallRow.error == "")).scalars().all()
    except DBAPIError:
        return set()
    finally:
        engine.dispose()
    return {question([(one["role"], one["content"]) for one in json.loads(text)]) for text in texts}


def spent(memory: str) -> int:
    """Requests that the budgets of all runs have counted."""
    engine = create_engine(parse_url(memory))
    with engine.connect() as connection:
        whole = select(func.sum(SpendingRow.calls)).where(SpendingRow.decision == "")
        found = connection.execute(whole).scalar()
    engine.dispose()
    return int(found or 0)


def _threads(job: Job) -> set[str]:
    with open_checkpointer(job.checkpoints) as saver:
        return threads(saver)
