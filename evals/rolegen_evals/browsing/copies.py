"""A memory of as many decisions as wanted, from a few originals, by INSERT … SELECT within the database.

What is generated: every copy has a run, user, decision time, cohort and outcome of its own and the id that belongs to them,
its own items and titles in the slate, its digest and the sums by day, and for an LLM's decision its calls with their whole text.
One copy of :data:`DETAILED_EVERY` has all that hangs below its round as well (labels, paths, candidates, effects, choices,
signals, the slate without reasoning): only the page of that one decision reads those, and they are most of the bytes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Double,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSON

from rolegen_agent.memory import models
from rolegen_agent.memory.digests import KNOWN_OUTCOMES, SPENT
from rolegen_graphs.keys import decision_id

from .originals import originals

RUN_SIZE = 5_000
LLM_EVERY = 10
"""one run of so many was made with an LLM"""
DETAILED_EVERY = 10
SHIFTS = 20
"""variants of each of the 240 made-up items"""
COHORTS = tuple(
    f"lapsed/{orders} orders/{days} days" for orders in ("1", "2-3", "4+") for days in ("90-180", "180-365", "365+")
)
START = datetime(2012, 1, 1, tzinfo=UTC)
CHUNK = 20_000

own = MetaData()
COPIES = Table(
    "bench_copies",
    own,
    Column("decision", Text, primary_key=True),
    Column("original", Text),
    Column("was", Text),
    Column("run", Text),
    Column("user_id", Text),
    Column("at", DateTime(timezone=True)),
    Column("spoken", Text),
    Column("recorded_at", DateTime(timezone=True)),
    Column("horizon_end", DateTime(timezone=True)),
    Column("cohort", Text),
    Column("shift", Text),
    Column("detailed", Boolean),
    Column("outcome", Text),
    Column("value", Double),
    Column("ordered_at", DateTime(timezone=True)),
    Column("bought", Text),
)
"""the copies of the chunk under way"""
DONE = Table("bench_done", own, Column("chunk", Integer, primary_key=True))

HEADS: tuple[Any, ...] = (models.DecisionRow, models.RoundRow, models.SlateRow, models.DigestRow, models.LlmCallRow)
DETAILS: tuple[Any, ...] = (
    models.RoleLabelRow,
    models.PathRow,
    models.CandidateRow,
    models.EffectRow,
    models.PathChoiceRow,
    models.SignalRow,
    models.CorrectionRow,
)


class Copy(NamedTuple):
    """Which decision a number stands for."""

    decision: str
    number: int


def run_of(number: int) -> tuple[str, str, datetime]:
    """Kind, name and decision time of the run that a copy belongs to."""
    run = number // RUN_SIZE
    kind = "llm" if run % LLM_EVERY == LLM_EVERY - 1 else "evidence"
    at = START + timedelta(days=3 * (run % 240))
    return kind, f"{at:%Y-%m-%d}/{'llm:scripted' if kind == 'llm' else kind}/{run:08x}", at


def user_of(number: int) -> str:
    run, place = divmod(number, RUN_SIZE)
    return f"user-{(run * 1_500 + place) % 300_000:07}"


def make_copies(engine: Engine, decisions: int, progress: Callable[[int, int], None]) -> None:
    """Fill the database up to ``decisions`` copies; a stopped one goes on with the chunk that it was at."""
    own.create_all(engine)
    with engine.begin() as connection:
        done = set(connection.execute(select(DONE.c.chunk)).scalars())
        sources = originals(connection)
    wanted = -(-decisions // CHUNK)
    if len(done) == wanted:
        return
    # In the order of their keys, so that the large indexes grow at their end.
    numbered = sorted(Copy(decision_id(run_of(n)[1], user_of(n), run_of(n)[2]), n) for n in range(decisions))
    for chunk in range(wanted):
        if chunk not in done:
            with _loading(engine) as connection:
                _make(connection, numbered[chunk * CHUNK : (chunk + 1) * CHUNK], sources)
                connection.execute(insert(DONE).values(chunk=chunk))
        progress(min(decisions, (chunk + 1) * CHUNK), decisions)
    with _loading(engine) as connection:
        _sum_up(connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE"))


@contextmanager
def _loading(engine: Engine) -> Iterator[Connection]:
    """A transaction without checks of foreign keys: all rows are made from rows that fulfil them."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            with connection.begin():
                connection.execute(text("SET LOCAL session_replication_role = replica"))
                connection.execute(text("SET LOCAL synchronous_commit = off"))
                yield connection
        else:
            driver: Any = connection.connection.driver_connection
            for setting in ("foreign_keys = OFF", "synchronous = OFF", "cache_size = -400000"):
                driver.execute(f"PRAGMA {setting}")
            with connection.begin():
                yield connection


def _make(connection: Connection, copies: list[Copy], sources: dict[str, list[tuple[str, str]]]) -> None:
    connection.execute(delete(COPIES))
    connection.execute(insert(COPIES), [_values(copy, sources) for copy in copies])
    c: Any = COPIES.c
    for row in HEADS:
        _copy(connection, row, row.decision == c.original)
    item: Any = models.SlateItemRow
    _copy(connection, item, item.decision == c.original, (item.policy == "rolegen") | c.detailed)
    for row in DETAILS:
        _copy(connection, row, row.decision == c.original, c.detailed)
    _outcomes(connection)


def _values(copy: Copy, sources: dict[str, list[tuple[str, str]]]) -> dict[str, Any]:
    luck = random.Random(hashlib.sha256(copy.decision.encode()).digest())
    kind, run, at = run_of(copy.number)
    original, was = luck.choice(sources[kind])
    word = luck.choices(("ordered", "not_ordered", "open", "unknown"), (12, 55, 8, 25))[0]
    shift = str(min(luck.randrange(SHIFTS), luck.randrange(SHIFTS)))
    ordered = word == "ordered"
    return {
        "decision": copy.decision,
        "original": original,
        "was": was,
        "run": run,
        "user_id": user_of(copy.number),
        "at": at,
        "spoken": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "recorded_at": at + timedelta(milliseconds=40 * (copy.number % RUN_SIZE)),
        "horizon_end": at + timedelta(days=90),
        "cohort": luck.choice(COHORTS),
        "shift": shift,
        "detailed": copy.number % DETAILED_EVERY == 0,
        "outcome": word,
        "value": round(luck.lognormvariate(3, 1), 2) if ordered else 0.0,
        "ordered_at": at + timedelta(days=luck.uniform(0.1, 89)) if ordered else None,
        "bought": f'["item-{shift}-{luck.randrange(240):03}"]' if ordered else "[]",
    }


def _copy(connection: Connection, row: Any, *conditions: Any) -> None:
    c: Any = COPIES.c
    values = {column.name: _value(connection, row, column) for column in row.__table__.columns}
    chosen = select(*values.values()).select_from(COPIES).join(row, conditions[0]).where(*conditions[1:])
    connection.execute(insert(row.__table__).from_select(list(values), chosen.order_by(c.decision)))


def _value(connection: Connection, row: Any, column: Any) -> Any:
    """What stands in one column of a copy."""
    c: Any = COPIES.c
    match row.__tablename__, column.name:
        case _, "decision" | "run" | "user_id" | "recorded_at" | "horizon_end" | "cohort" | "outcome" | "value" if (
            column.name in c and not (row is models.SignalRow and column.name == "value")
        ):
            return c[column.name]
        case "decisions" | "digests", "at":
            return c.at
        case "llm_calls", "at":
            return c.recorded_at
        case "llm_calls", "request_hash":
            return func.substr(column, 33).op("||")(c.decision)
        case "decisions", "observation":
            told = _told(column, '"user":"', c.was, c.user_id)
            told = _told(told, '"cohort":"', literal("lapsed"), c.cohort)
            return _document(connection, func.replace(told, "2011-09-01T00:00:00Z", c.spoken))
        case "rounds", "slate":
            return _document(connection, _shifted(_shifted(cast(column, Text), "item-"), "article "))
        case "candidates" | "slate_items", "item":
            return _shifted(column, "item-")
        case "candidates" | "slate_items" | "digests", "title" | "top" | "words":
            return _shifted(column, "article ")
        case _:
            return column


def _shifted(text_: Any, word: str) -> Any:
    """Another item, or its title: ``item-017`` becomes ``item-3-017``."""
    return func.replace(text_, word, literal(word).op("||")(COPIES.c.shift).op("||")("-"))


def _told(document: Any, before: str, was: Any, now: Any) -> Any:
    return func.replace(cast(document, Text), literal(before).op("||")(was), literal(before).op("||")(now))


def _document(connection: Connection, told: Any) -> Any:
    return cast(told, JSON) if connection.dialect.name == "postgresql" else told


def _outcomes(connection: Connection) -> None:
    c: Any = COPIES.c
    values = {
        "decision": c.decision,
        "user_id": c.user_id,
        "ordered_at": c.ordered_at,
        "items": _document(connection, c.bought),
        "value": c.value,
        "final": c.outcome != "open",
        "recorded_at": c.horizon_end,
        "known_at": c.horizon_end,
    }
    chosen = select(*values.values()).where(c.outcome != "unknown").order_by(c.decision)
    connection.execute(insert(models.OutcomeRow).from_select(list(values), chosen))


def _sum_up(connection: Connection) -> None:
    """The sums by day, from digests and calls: what the product keeps with every write."""
    d: Any = models.DigestRow
    met = {
        "decisions": func.count(),
        "known": func.sum(case((d.outcome.in_(KNOWN_OUTCOMES), 1), else_=0)),
        "awakened": func.sum(case((d.outcome == "ordered", 1), else_=0)),
    }
    key: dict[str, Any] = {"day": d.at, "run": d.run, "cohort": d.cohort, "reasoner": d.reasoner}
    days = key | met | {"collapsed": func.sum(case((d.collapsed, 1), else_=0)), "value": func.sum(d.value)}
    days |= {name: func.sum(getattr(d, name)) for name in SPENT}
    connection.execute(delete(models.DecisionDayRow))
    connection.execute(
        insert(models.DecisionDayRow).from_select(list(days), select(*days.values()).group_by(*key.values()))
    )
    call: Any = models.LlmCallRow
    paid = call.cached.is_(False)
    key = {"day": d.at, "run": d.run} | {
        name: getattr(call, name) for name in ("prompt", "prompt_version", "prompt_hash", "model")
    }
    of_calls = {
        "calls": func.count(),
        "cached": func.sum(case((call.cached, 1), else_=0)),
        "failed": func.sum(case((call.error != "", 1), else_=0)),
        "retries": func.sum(call.retries),
        "input_tokens": func.sum(case((paid, call.input_tokens), else_=0)),
        "output_tokens": func.sum(case((paid, call.output_tokens), else_=0)),
        "cost_usd": func.sum(case((paid, func.coalesce(call.cost_usd, 0.0)), else_=0.0)),
        "unpriced": func.sum(case((paid & call.cost_usd.is_(None), 1), else_=0)),
        "seconds": func.sum(case((paid, call.latency_s), else_=0.0)),
    }
    counted = {
        "decisions": func.count(call.decision.distinct()),
        "known": func.count(case((d.outcome.in_(KNOWN_OUTCOMES), call.decision)).distinct()),
        "awakened": func.count(case((d.outcome == "ordered", call.decision)).distinct()),
    }
    asked = key | counted | of_calls
    chosen = select(*asked.values()).join(d, d.decision == call.decision).group_by(*key.values())
    connection.execute(delete(models.PromptDayRow))
    connection.execute(insert(models.PromptDayRow).from_select(list(asked), chosen))
