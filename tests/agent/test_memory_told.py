"""Events that servers were told, and the decisions that stand, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import update

from rolegen_agent.memory import Memory, ToldEvent, open_memory
from rolegen_agent.memory.models import ToldEventRow
from rolegen_agent.memory.told import told_key
from tests.support.decisions import make_decision

pytest_plugins = ["tests.support.postgres"]
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def event(user: str = "7", minutes: int = 0, item: str = "mug", event_id: str | None = None) -> ToldEvent:
    at = NOON + timedelta(minutes=minutes)
    key = told_key(user, at, item, "view", event_id=event_id)
    return ToldEvent(told=key, user=user, at=at, item=item, behaviour="view", event_id=event_id)


def test_an_event_counts_once_however_often_it_is_told(memory: Memory) -> None:
    hostile = "'; DROP TABLE told_events; --\u202e"
    rows = [event(minutes=3), event(), event(user=hostile, item=hostile), event(minutes=9, event_id="e1")]
    assert memory.record_told(rows) == 4
    again = rows[3].model_copy(update={"at": NOON + timedelta(minutes=10)})  # the shop's own id says what is the same
    assert memory.record_told([*rows, again, event(minutes=5)]) == 1
    found, received = memory.told_events(["7", "8"], NOON - timedelta(days=1), limit=10)["7"]
    assert [one.at.minute for one in found] == [0, 3, 5, 9]
    assert memory.told_events([hostile], NOON - timedelta(days=1), limit=10)[hostile][0] == (rows[2],)
    latest = memory.told_events(["7"], NOON - timedelta(days=1), limit=2)["7"][0]
    assert [one.at.minute for one in latest] == [5, 9]
    assert [one.at.minute for one in memory.told_events(["7"], NOON, limit=10)["7"][0]] == [3, 5, 9]
    assert memory.told_since(received) == {"7": received}
    assert memory.record_told([]) == 0


def test_told_events_are_erased_pruned_exported_and_verified(memory: Memory, tmp_path: Path) -> None:
    memory.record_told([event(), event(user="8"), event(user="9")])
    assert list(memory.verify()) == []
    assert memory.erase("7")["told_events"] == 1
    assert memory.told_events(["7"], NOON - timedelta(days=1), limit=9) == {}
    assert memory.latest_removal() is not None
    assert memory.export(tmp_path / "out", "jsonl")["told_events"] == 2
    with memory._write() as connection:
        connection.execute(update(ToldEventRow).where(ToldEventRow.user_id == "8").values(item="another"))
    assert [(one.check, one.table) for one in memory.verify()] == [("told events", "told_events")]
    before = datetime.now(UTC) + timedelta(seconds=1)
    assert memory.prune(before, dry_run=True)["told_events"] == 2
    assert memory.prune(before)["told_events"] == 2
    assert memory.told_since(NOON - timedelta(days=999)) == {}


def test_the_decision_that_stands_is_the_latest_one_that_is_not_of_the_future(memory: Memory) -> None:
    first = make_decision()
    user, at = first.user, first.at
    memory.record(first)
    assert memory.standing([user], at - timedelta(seconds=1)) == ({}, {user: at})
    found, following = memory.standing([user, "nobody"], at)
    assert following == {}
    standing = found[user]
    assert (standing.decision, standing.at, standing.reasoner) == (first.decision, at, first.reasoner)
    assert standing.slate == first.slate
    last = first.rounds[-1]
    used = {choice.path for choice in last.choices if choice.chosen} or {path.path for path in last.paths}
    grounded = [one for one in last.candidates if one.item is not None and one.path in used]
    assert [one[:4] for one in standing.candidates] == [(one.item, one.role, one.path, one.score) for one in grounded]
    assert list(standing.labels) == [(one.event, one.role, one.confidence) for one in last.reading.labels]
    whys = {path.path: path.why for path in last.paths}
    assert all(one.why == whys[one.path] for one in standing.candidates)
    # The end of the horizon is the end of the decision.
    assert memory.standing([user], standing.horizon_end) == ({}, {})
    assert memory.standing([user], standing.horizon_end - timedelta(seconds=1))[0][user].decision == first.decision
    # Of another run: not asked for.
    assert memory.standing([user], at, run="another") == ({}, {})
    assert memory.standing_users(at, limit=5) == [user]
    assert memory.standing_users(at - timedelta(seconds=1), limit=5) == []
    assert set(memory.decided_since(datetime.now(UTC) - timedelta(minutes=5))) == {first.decision}


def test_what_is_told_survives_in_the_file(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.db") as one, open_memory(tmp_path / "m.db") as other:
        one.record_told([event()])
        assert other.told_events(["7"], NOON - timedelta(days=1), limit=9)["7"][0] == (event(),)
