"""A queue simulation of a fleet that decides: cores, an endpoint with a rate limit, one database, and nodes that die.

Discrete events in time order. Every worker has one core (Python works on one thing at a time) and so many requests under way;
all share the endpoint's rate and the database's transactions. A decision is work on the core, then its questions one after the
other, each with its transactions, then the record. A node that dies takes its decisions back to their start, but answers that
were recorded are not asked for again: that is the product's own rule, held against kills by ``rolegen bench durability``.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

At = Callable[[float, int, str], None]
"""at a time, to a slot, what happens"""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What decides."""

    nodes: int
    workers_per_node: int
    concurrency: int
    """requests of one worker at a time"""
    llm_per_s: float
    """requests that the endpoint takes a second, from all workers together"""
    llm_s: float
    """median seconds of an answer"""
    llm_spread: float = 0.5
    """standard deviation of the logarithm of that time"""
    commits_per_s: float
    """transactions that the database takes a second"""
    failures_per_hour: float = 0.0
    """nodes that die, over the whole fleet"""
    away_s: float = 60.0
    """from a node's death until its work is taken up again"""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one decision takes."""

    llm_share: float
    """of decisions that ask at all"""
    calls: float
    """mean questions of one that asks"""
    cpu_s: float
    """of a decision without its questions"""
    cpu_s_per_call: float
    commits: float
    """of a decision without its questions"""
    commits_per_call: float


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What was seen between warm-up and end."""

    decisions_per_s: float
    calls_per_s: float
    commits_per_s: float
    cores_busy: float
    """share of the time, over all workers"""
    endpoint_busy: float
    """share of the rate limit that was used"""
    database_busy: float
    seconds_p50: float
    """of a decision, from its begin to its record"""
    seconds_p99: float
    failures: int
    repeated_calls: int
    """questions whose request was under way when a node died, and was put again"""
    redone: int
    """decisions that were taken back to their start"""


@dataclass
class _Slot:
    """One decision under way after the other; ``life`` grows when its node dies, so that old events are void."""

    worker: int
    life: int = 0
    began: float = 0.0
    calls: int = 0
    answered: int = 0
    asking: bool = False


@dataclass
class _Rate:
    """A server of so many pieces a second, first come, first served."""

    per_s: float
    free: float = 0.0
    served: float = 0.0

    def take(self, now: float, pieces: float = 1.0) -> float:
        """When the pieces that come now are through."""
        self.free = max(self.free, now) + pieces / self.per_s
        self.served += pieces
        return self.free


@dataclass
class _Tally:
    decided: int = 0
    calls: int = 0
    seconds: list[float] = field(default_factory=list)
    failures: int = 0
    repeated: int = 0
    redone: int = 0


def simulate(fleet: Fleet, work: Decision, *, seconds: float, warm_up_s: float, seed: int) -> Simulated:
    """Let ``fleet`` decide for ``seconds`` after a warm-up; the same seed gives the same."""
    luck = random.Random(seed)
    workers = fleet.nodes * fleet.workers_per_node
    per_worker = fleet.concurrency + max(2, fleet.concurrency // 2) if work.llm_share else 1
    slots = [_Slot(worker) for worker in range(workers) for _ in range(per_worker)]
    cores = [_Rate(1.0) for _ in range(workers)]
    lines = [[0.0] * fleet.concurrency for _ in range(workers)]
    endpoint, database = _Rate(fleet.llm_per_s), _Rate(fleet.commits_per_s)
    tally, end = _Tally(), warm_up_s + seconds
    events: list[tuple[float, int, int, str, int]] = []
    number = 0

    def at(when: float, slot: int, what: str) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, slot, what, slots[slot].life if slot >= 0 else 0))

    def begin(slot: int, now: float) -> None:
        one = slots[slot]
        one.began, one.answered, one.asking = now, 0, False
        one.calls = _poisson_at_least_one(luck, work.calls) if luck.random() < work.llm_share else 0
        at(cores[one.worker].take(now, work.cpu_s), slot, "next")

    for slot in range(len(slots)):
        begin(slot, luck.random())
    if fleet.failures_per_hour:
        at(luck.expovariate(fleet.failures_per_hour / 3600), -1, "death")
    measured_from = {"core": 0.0, "endpoint": 0.0, "database": 0.0}
    warm = False
    while events:
        now, _, slot, what, life = heapq.heappop(events)
        if now > end:
            break
        if not warm and now >= warm_up_s:
            warm, tally = True, _Tally()
            measured_from = {
                "core": sum(core.served for core in cores),
                "endpoint": endpoint.served,
                "database": database.served,
            }
        if what == "death":
            tally.failures += 1
            _die(luck.randrange(fleet.nodes), fleet, slots, lines, tally, now, at)
            at(now + luck.expovariate(fleet.failures_per_hour / 3600), -1, "death")
            continue
        one = slots[slot]
        if life != one.life:
            continue
        if what == "next" and one.answered < one.calls:
            line = lines[one.worker]
            if line[0] > now:  # all requests of this worker are under way
                at(line[0], slot, "next")
                continue
            back = endpoint.take(now) + fleet.llm_s * math.exp(luck.gauss(0.0, fleet.llm_spread))
            heapq.heapreplace(line, back)
            one.asking = True
            tally.calls += 1
            at(back, slot, "answer")
        elif what == "answer":
            one.asking = False
            one.answered += 1
            at(database.take(now, work.commits_per_call), slot, "stored")
        elif what == "stored":
            at(cores[one.worker].take(now, work.cpu_s_per_call), slot, "next")
        elif what == "again":
            at(cores[one.worker].take(now, work.cpu_s), slot, "next")
        elif what == "next":
            at(database.take(now, work.commits), slot, "recorded")
        else:
            tally.decided += 1
            tally.seconds.append(now - one.began)
            begin(slot, now)
    ordered = sorted(tally.seconds) or [0.0]
    return Simulated(
        decisions_per_s=tally.decided / seconds,
        calls_per_s=tally.calls / seconds,
        commits_per_s=(database.served - measured_from["database"]) / seconds,
        cores_busy=min(1.0, (sum(core.served for core in cores) - measured_from["core"]) / seconds / workers),
        endpoint_busy=min(1.0, (endpoint.served - measured_from["endpoint"]) / seconds / fleet.llm_per_s),
        database_busy=min(1.0, (database.served - measured_from["database"]) / seconds / fleet.commits_per_s),
        seconds_p50=ordered[len(ordered) // 2],
        seconds_p99=ordered[int(0.99 * (len(ordered) - 1))],
        failures=tally.failures,
        repeated_calls=tally.repeated,
        redone=tally.redone,
    )


def _die(
    node: int, fleet: Fleet, slots: list[_Slot], lines: list[list[float]], tally: _Tally, now: float, at: At
) -> None:
    """Take back what the node had under way; its answers stay recorded."""
    first, last = node * fleet.workers_per_node, (node + 1) * fleet.workers_per_node
    for worker in range(first, last):
        lines[worker] = [now + fleet.away_s] * fleet.concurrency
    for number, slot in enumerate(slots):
        if first <= slot.worker < last:
            slot.life += 1
            tally.redone += 1
            tally.repeated += slot.asking
            slot.asking = False
            at(now + fleet.away_s, number, "again")


def _poisson_at_least_one(luck: random.Random, mean: float) -> int:
    """One, and a Poisson number of more, with this mean."""
    left, count = math.exp(-max(mean - 1.0, 0.0)), 1
    product = luck.random()
    while product > left:
        count += 1
        product *= luck.random()
    return count
