"""Digests and their sums by day: equal to what follows from decisions, calls and outcomes, whatever happened before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from rolegen_agent.memory import Memory
from rolegen_agent.memory.digests import fill
from rolegen_agent.memory.models import Base
from rolegen_graphs.words import Outcome
from tests.support.decisions import AT, make_call, make_decision

pytest_plugins = ["tests.support.postgres"]


def outcome(user: str, ordered: bool = True, **more: Any) -> Outcome:
    decision = make_decision(user).decision
    return Outcome(
        decision=decision, user=user, ordered_at=AT + timedelta(days=1) if ordered else None, value=12.5, **more
    )


def sums(url: str, table: str) -> list[dict[str, Any]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(Base.metadata.tables[table].select()).mappings()]
    engine.dispose()
    return rows


def faults(memory: Memory) -> list[str]:
    return [str(found) for found in memory.verify() if found.check == "digests"]


CHANGES: dict[str, Callable[[Memory], object]] = {
    "recorded": lambda memory: None,
    "recorded again otherwise": lambda memory: memory.record(make_decision("1", seed=5, rounds=1)),
    "a call that came late": lambda memory: memory.record_call(
        make_call(make_decision("1").decision, request_hash="x")
    ),
    "ordered": lambda memory: memory.record_outcomes([outcome("1"), outcome("2", ordered=False)]),
    "erased": lambda memory: memory.erase("1"),
    "pruned": lambda memory: memory.prune(AT + timedelta(days=36500)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_sums_follow_every_change(memory: Memory, memory_url: str, change: str) -> None:
    for user in ("1", "2", "3"):
        memory.record_call(make_call(make_decision(user).decision, request_hash=user, retries=2))
        memory.record(make_decision(user))
    memory.record_outcome(outcome("1"))
    memory.record_outcome(Outcome(decision=make_decision("1").decision, user="1", ordered_at=None, refunded_at=AT))
    CHANGES[change](memory)
    assert faults(memory) == []
    days, prompts = sums(memory_url, "decision_days"), sums(memory_url, "prompt_days")
    left = {"erased": 2, "pruned": 0}.get(change, 3)
    assert sum(row["decisions"] for row in days) == left
    assert sum(row["decisions"] for row in prompts) == left
    calls = left + (change == "a call that came late")
    assert sum(row["calls"] for row in days) == sum(row["calls"] for row in prompts) == calls
    assert sum(row["cost_usd"] for row in prompts) == pytest.approx(0.25 * calls)
    if change == "pruned":
        assert days == [] and prompts == [], "a day without decisions is no day"


def test_a_digest_says_what_a_list_needs(memory: Memory, memory_url: str) -> None:
    decision = make_decision("1", rounds=2)
    memory.record_call(make_call(decision.decision, retries=2))
    memory.record(decision)
    memory.record_outcome(outcome("1"))
    (row,) = sums(memory_url, "digests")
    last = decision.rounds[-1]
    assert row["roles"].split() == sorted({label.role for label in last.reading.labels})
    assert row["prompts"] == " reason@1 "
    assert (row["accepted"], row["mapped"], row["rejected"]) == tuple(
        sum(one.fate == fate for one in last.candidates) for fate in ("accepted", "mapped", "rejected")
    )
    without = {item.item for item in decision.slate_without_reasoning.items}
    assert row["fresh"] == sum(item.item not in without for item in decision.slate.items)
    assert row["top"] == decision.slate.items[0].title
    assert (row["outcome"], row["value"], row["retries"], row["rounds"]) == ("ordered", 12.5, 2, 2)


def test_decisions_from_before_digests_get_theirs(memory: Memory, memory_url: str) -> None:
    for user in ("1", "2"):
        memory.record_call(make_call(make_decision(user).decision, request_hash=user))
        memory.record(make_decision(user))
    tables = ("digests", "decision_days", "prompt_days")
    before = {name: sums(memory_url, name) for name in tables}
    engine = create_engine(memory_url)
    with engine.begin() as connection:
        for name in tables:
            connection.execute(text(f"DELETE FROM {name}"))  # noqa: S608
    assert [one.count("has none") for one in faults(memory)] == [1, 1], "both digests are missing"
    with engine.begin() as connection:
        fill(connection)
        fill(connection)
    engine.dispose()
    assert {name: sums(memory_url, name) for name in tables} == before
    assert faults(memory) == []


def test_a_tampered_sum_is_found(memory: Memory, memory_url: str) -> None:
    memory.record(make_decision("1"))
    engine = create_engine(memory_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE decision_days SET awakened = 7"))
        connection.execute(text("UPDATE digests SET shown = 99"))
    engine.dispose()
    found = faults(memory)
    assert any("awakened is 7, its decisions add up to 0" in one for one in found)
    assert any("shown is 99" in one for one in found)
