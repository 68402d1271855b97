"""One point of the scale curve: so many decisions by so many workers, on a database of its own, in legs that can be repeated.

A leg is a command's worth of decisions. What it did is read from the database: decisions from the first to the last that were
recorded, so that the start of workers does not count, and what the server wrote. A point whose benchmark was stopped goes on
with the leg that was under way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal

from sqlalchemy import Connection, create_engine, text

from rolegen_agent.memory import open_memory
from rolegen_agent.memory.database import parse_url

from ..endpoint import CHAT, Asked, Endpoint, Heard, Reply, completion, models
from ..load.processes import run_in_forks
from ..load.shop import AT, mind, user_name
from .shop import ScriptedOpening, Share, decide_share

Kind = Literal["processes", "ray"]
RUN = "scale"
LEG = 10_000
"""decisions of a leg"""
CHUNK = 64
"""users that an actor of Ray takes at a time"""


@dataclass(frozen=True)
class Point:
    """What is measured."""

    kind: Kind
    workers: int
    decisions: int

    @property
    def name(self) -> str:
        """As figures are named by: ``2.10000`` or ``ray2.10000``."""
        return f"{'ray' if self.kind == 'ray' else ''}{self.workers}.{self.decisions}"


@dataclass(frozen=True)
class Leg:
    """What a leg did."""

    decided: int
    seconds: float
    """from its first decision to its last"""
    start_s: float
    """from the command to its first decision"""
    calls: int
    tokens: int
    commits: int
    """of the whole server for this database, those of the reads here included"""
    wal_bytes: int


def measure(point: Point, database: str, kept: Path, progress: Callable[[int, int], None]) -> dict[str, float]:
    """The figures of a point by metric.

    Args:
        database: an address of PostgreSQL, empty at first.
        kept: a file for the legs that were done.
    """
    with open_memory(database, upgrade=True):
        pass
    told: dict[str, Any] = (
        json.loads(kept.read_text("utf-8")) if kept.exists() else {"empty_bytes": database_size(database), "legs": []}
    )
    legs = [Leg(**leg) for leg in told["legs"]]
    done = LEG * len(legs)
    while done < point.decisions:
        progress(done, point.decisions)
        legs.append(_leg(point, database, done, min(done + LEG, point.decisions)))
        done += LEG
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({**told, "legs": [asdict(leg) for leg in legs]}), "utf-8")
    progress(point.decisions, point.decisions)
    decided = sum(leg.decided for leg in legs)
    with open_memory(database) as memory:
        found = len(memory.finished(RUN))
    return {
        "decisions_per_s": decided / sum(leg.seconds for leg in legs),
        "start_s": legs[-1].start_s,
        "calls_per_decision": sum(leg.calls for leg in legs) / decided,
        "tokens_per_decision": sum(leg.tokens for leg in legs) / decided,
        "bytes_per_decision": (database_size(database) - told["empty_bytes"]) / found,
        "wal_bytes_per_decision": sum(leg.wal_bytes for leg in legs) / decided,
        "commits_per_decision": sum(leg.commits for leg in legs) / decided,
        "missing": float(point.decisions - found),
    }


def _leg(point: Point, database: str, low: int, high: int) -> Leg:
    users = tuple(user_name(number) for number in range(low, high))
    before = counters(database)
    with Endpoint(_respond) as server:
        opening = ScriptedOpening(database, server.url, RUN)
        began = time.time()
        if point.kind == "ray":
            _by_ray(opening, users, point.workers)
        else:
            run_in_forks(
                decide_share, [Share(opening, users[first :: point.workers], AT) for first in range(point.workers)]
            )
    time.sleep(1.1)  # the server tells its counters once a second
    after = counters(database)
    engine = create_engine(parse_url(database))
    times = text(
        "SELECT count(*), extract(epoch FROM min(recorded_at)), extract(epoch FROM max(recorded_at)) FROM decisions"
        " WHERE recorded_at >= to_timestamp(:began)"
    )
    with engine.connect() as connection:
        decided, first, last = connection.execute(times, {"began": began}).one()
    engine.dispose()
    return Leg(
        decided=int(decided),
        seconds=max(float(last) - float(first), 1e-3),
        start_s=float(first) - began,
        **{name: after[name] - before[name] for name in before},
    )


def _by_ray(opening: ScriptedOpening, users: tuple[str, ...], workers: int) -> None:
    from rolegen_agent.batch import AwakenReport
    from rolegen_agent.cluster.actors import decide_in_actors
    from rolegen_agent.cluster.connection import LOCAL, again, connected
    from rolegen_agent.cluster.desk import Desk

    with connected(LOCAL) as nodes:
        desk = Desk.on(nodes)
        with desk.watched(lambda words: None, Event()):
            for found in decide_in_actors(opening, users, AT, desk, size=CHUNK, actors=workers):
                if not isinstance(found, AwakenReport):
                    raise again(found)


def counters(database: str) -> dict[str, int]:
    """Calls and tokens of the LLM, transactions and bytes of the server's log, up to now."""
    engine = create_engine(parse_url(database))
    with engine.connect() as connection:
        calls, tokens = connection.execute(
            text("SELECT coalesce(sum(calls), 0), coalesce(sum(tokens), 0) FROM llm_spending WHERE decision = ''")
        ).one()
        found = {
            "calls": int(calls),
            "tokens": int(tokens),
            "commits": _number(
                connection, "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            ),
            "wal_bytes": _number(connection, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"),
        }
    engine.dispose()
    return found


def database_size(database: str) -> int:
    """Bytes, indexes included."""
    engine = create_engine(parse_url(database))
    with engine.connect() as connection:
        found = _number(connection, "SELECT pg_database_size(current_database())")
    engine.dispose()
    return found


def _number(connection: Connection, query: str) -> int:
    return int(connection.execute(text(query)).scalar_one())


def _respond(heard: Heard) -> Reply:
    if heard.path != CHAT:
        return Reply(models("scripted"))
    return Reply(completion(heard, json.dumps(mind(Asked.of(heard.body)))))
