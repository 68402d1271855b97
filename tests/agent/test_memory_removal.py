"""What is erased is gone from every table, checkpoint and file; what is pruned goes whole; what is exported is all there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict

import polars as pl
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from sqlalchemy import MetaData, create_engine, update

from rolegen_agent import RoleGen
from rolegen_agent.llm.usage import Spending
from rolegen_agent.memory import Memory, decision_id, open_memory
from rolegen_agent.memory.checkpoints import open_checkpointer
from rolegen_agent.memory.models import Base, BegunRow, DeadLetterRow, DecisionRow
from rolegen_agent.memory.records import DeadLetter
from rolegen_agent.project import write_project_file
from rolegen_errors import InputError
from rolegen_graphs.words import Decision, Lesson, Outcome, Trajectory
from tests.support.decisions import AT, make_call, make_decision, make_slate
from tests.support.shop import Line

pytest_plugins = ["tests.support.postgres"]

PERSON, TITLE, OTHER = "person-of-interest", "MARKER TITLE OF A TEAPOT", "somebody-else"
DAY = timedelta(days=1)
IMPERSONAL = {"prompts", "artefacts", "promotions", "removals", "lessons", "decision_days", "prompt_days"}
"""tables without a column of a user or a decision; of lessons those of one user are erased by their scope"""


@pytest.fixture
def opened(memory_url: str, tmp_path: Path) -> Iterator[RoleGen]:
    """A project on each database."""
    write_project_file(tmp_path / "shop")
    with RoleGen.open(tmp_path / "shop", overrides={"memory": {"url": memory_url}}) as shop:
        yield shop


class State(TypedDict, total=False):
    user: str
    at: str
    trajectory: Trajectory
    answer: str


class Shown(TypedDict, total=False):
    number: int
    decision: Decision
    answer: str


def leave_checkpoint(shop: RoleGen, decision: Decision, run: str = "demo") -> None:
    """What a program leaves that is killed half way."""
    graph = StateGraph(State)
    graph.add_node("observe", lambda state: {"trajectory": decision.observation.trajectory})
    graph.add_node("wait", lambda state: {"answer": interrupt("killed here")})
    graph.add_edge(START, "observe")
    graph.add_edge("observe", "wait")
    graph.add_edge("wait", END)
    config: Any = {"configurable": {"thread_id": decision_id(run, decision.user, decision.at)}}
    with open_checkpointer(shop._checkpoints()) as saver:
        compiled = graph.compile(checkpointer=saver)
        compiled.invoke({"user": decision.user, "at": decision.at.isoformat()}, config, durability="sync")


def threads(shop: RoleGen) -> set[str]:
    with open_checkpointer(shop._checkpoints()) as saver:
        return {str(found.config.get("configurable", {})["thread_id"]) for found in saver.list(None)}


def with_marker(decision: Decision) -> Decision:
    seen = decision.observation.trajectory
    first = seen.events[0].model_copy(update={"title": TITLE})
    trajectory = seen.model_copy(update={"events": (first, *seen.events[1:])})
    return decision.model_copy(
        update={"observation": decision.observation.model_copy(update={"trajectory": trajectory})}
    )


def traces(shop: RoleGen, url: str) -> list[str]:
    """Where the person, or what they saw, can still be read: files on SQLite, rows of any table on PostgreSQL."""
    words = (PERSON, TITLE)
    if url.startswith("sqlite"):
        files = [file for file in shop.project.root.parent.rglob("*") if file.is_file()]
        return [f"{word} in {file.name}" for file in files for word in words if word.encode() in file.read_bytes()]
    found, engine = [], create_engine(url)
    there = MetaData()
    with engine.connect() as connection:
        there.reflect(connection)  # the checkpoints' tables too
        for table in there.sorted_tables:
            for row in connection.execute(table.select()):
                said = "".join(repr(bytes(cell) if isinstance(cell, memoryview) else cell) for cell in row)
                found += [f"{word} in {table.name}" for word in words if word in said]
    engine.dispose()
    return found


def test_an_erased_person_leaves_no_trace(opened: RoleGen, memory_url: str) -> None:
    memory = opened.memory
    gone, kept = with_marker(make_decision(PERSON)), make_decision(OTHER)
    for decision in (gone, kept):
        memory.record(decision)
        memory.record_slate(decision.decision, "popularity", make_slate(1))
        memory.record_outcome(Outcome(decision=decision.decision, user=decision.user, ordered_at=None))
        memory.record_call(make_call(decision.decision, messages=f"{TITLE if decision is gone else 'CUP'} bought"))
        memory.spend("demo", decision.decision, Spending(1, 120, 0.25))
        leave_checkpoint(opened, decision)  # killed between recording and deleting the checkpoint
    begun = memory.begin("demo", PERSON, AT + DAY)
    memory.record_call(make_call(begun, request_hash="h2", messages=TITLE))
    never = with_marker(make_decision(PERSON, AT + 2 * DAY))
    leave_checkpoint(opened, never, run="another")  # of a decision that the memory never heard of
    memory.record_lesson(Lesson(lesson="l", scope="user", scope_key=PERSON, text=TITLE, learnt_at=AT))
    assert len(traces(opened, memory_url)) > 3
    counts = opened.erase(PERSON)
    assert traces(opened, memory_url) == []
    assert (counts["decisions"], counts["begun"], counts["llm_calls"], counts["checkpoints"]) == (1, 1, 2, 2)
    assert memory.get(kept.decision) == kept and threads(opened) == {kept.decision}
    assert len(memory.calls()) == 1 and memory.spent("demo") == Spending(2, 240, 0.5), "what was paid stays known"
    assert {one.check for one in memory.verify()}.isdisjoint(
        {"orphans", "calls of nobody", "spending of runs", "spending of decisions"}
    )
    assert sum(opened.erase(PERSON).values()) == 0
    assert [kind for _, kind in memory.removals()] == ["erase"]


def test_a_graph_that_waits_under_a_name_of_its_own_is_erased_too(opened: RoleGen, memory_url: str) -> None:
    waiting = [with_marker(make_decision(user)) for user in (PERSON, OTHER)]
    graph = StateGraph(Shown)
    graph.add_node("decide", lambda state: {"decision": waiting[state["number"]]})
    graph.add_node("wait", lambda state: {"answer": interrupt("until the order comes")})
    graph.add_edge(START, "decide")
    graph.add_edge("decide", "wait")
    graph.add_edge("wait", END)
    with open_checkpointer(opened._checkpoints()) as saver:
        for number in range(2):
            config: Any = {"configurable": {"thread_id": f"order {number}"}}
            graph.compile(checkpointer=saver).invoke({"number": number}, config)
    assert opened.erase(PERSON)["checkpoints"] == 1
    assert threads(opened) == {"order 1"}
    assert not any(PERSON in found for found in traces(opened, memory_url))


def test_every_table_says_whose_it_is() -> None:
    """A table that names a user or a decision is erased and pruned by it; any other must be on the list above."""
    silent = {table.name for table in Base.metadata.sorted_tables if not {"decision", "user_id"} & {*table.c.keys()}}
    assert silent == IMPERSONAL


def grow_old(url: str, row: type[DecisionRow] | type[BegunRow], decision: str) -> None:
    column = "recorded_at" if row is DecisionRow else "begun_at"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            update(row).where(row.decision == decision).values({column: datetime(2020, 1, 1, tzinfo=UTC)})
        )
    engine.dispose()


def test_pruning_takes_what_is_old_with_all_below_it(memory: Memory, memory_url: str) -> None:
    old, new = make_decision("old"), make_decision("new")
    for decision in (old, new):
        memory.record(decision)
        memory.record_outcome(Outcome(decision=decision.decision, user=decision.user, ordered_at=None))
        memory.record_call(make_call(decision.decision, request_hash=decision.user, at=datetime.now(UTC)))
        memory.spend("demo", decision.decision, Spending(1, 120, 0.25))
    stale, waiting = memory.begin("demo", "stale", AT), memory.begin("demo", "waiting", AT)
    for decision_key in (stale, waiting, "nobody"):
        memory.record_call(make_call(decision_key, request_hash=decision_key))
    grow_old(memory_url, DecisionRow, old.decision)
    grow_old(memory_url, BegunRow, stale)
    letters = [
        DeadLetter(letter=one, source="", row=1, reason="", payload="", complete=True, user=one, decision=None)
        for one in "xy"
    ]
    memory.settle([], letters)
    engine = create_engine(memory_url)
    with engine.begin() as connection:
        aged = update(DeadLetterRow).where(DeadLetterRow.letter == "x")
        connection.execute(aged.values(received_at=datetime(2020, 1, 1, tzinfo=UTC)))
    engine.dispose()
    before = datetime(2021, 1, 1, tzinfo=UTC)
    would = memory.prune(before, dry_run=True)
    assert memory.get(old.decision) == old, "a dry run deletes nothing"
    calls: list[tuple[int, int]] = []
    did = memory.prune(before, progress=lambda *call: calls.append(call))
    assert did == would and calls[-1] == (3, 3)
    assert (did["decisions"], did["outcomes"], did["begun"], did["llm_calls"], did["slates"]) == (1, 1, 1, 3, 2)
    assert did["candidates"] == 30 and did["llm_spending"] == 1
    assert did["dead_letters"] == 1 and [one.letter for one in memory.dead_letters()] == ["y"]
    assert memory.get(new.decision) == new and memory.finished("demo") == {("new", AT)}
    assert memory.find_call("old") is None and memory.find_call("new") is not None and memory.find_call(waiting)
    assert memory.spent("demo").calls == 2, "budgets of the run still hold"
    assert {one.check for one in memory.verify()}.isdisjoint({"spending of runs", "spending of decisions", "orphans"})
    assert sum(memory.prune(before).values()) == 0
    with pytest.raises(InputError, match="time zone"):
        memory.prune(datetime(2021, 1, 1))


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_an_export_holds_everything_and_says_what_it_is(memory: Memory, tmp_path: Path, format: Any) -> None:
    decision = make_decision("a\x00\ud800b")
    memory.record(decision)
    memory.record_call(make_call(decision.decision, messages="žofie 💥"))
    (tmp_path / ".out.part").mkdir()  # of an export that was killed
    counts = memory.export(tmp_path / "out", format)
    assert counts["decisions"] == 1 and counts["candidates"] == 30 and counts["outcomes"] == 0
    about = json.loads((tmp_path / "out" / "schema.json").read_text("utf-8"))
    tables = {table["name"]: table for table in about["tables"]}
    assert set(tables) == set(Base.metadata.tables) and about["rows"] == counts
    found: dict[str, list[dict[str, Any]]] = {}
    for name, table in tables.items():
        parts = sorted((tmp_path / "out" / name).glob(f"part-*.{format}"))
        if format == "parquet":
            found[name] = [row for part in parts for row in pl.read_parquet(part).to_dicts()]
        else:
            found[name] = [json.loads(line) for part in parts for line in part.read_text("ascii").splitlines()]
        assert len(found[name]) == counts[name]
        for row in found[name]:
            assert list(row) == [column["name"] for column in table["columns"]]
    [head], [call] = found["decisions"], found["llm_calls"]
    assert call["messages"] == "žofie 💥" and call["cost_usd"] == 0.25 and call["cached"] is False
    if format == "parquet":
        assert head["at"] == AT and head["user_id"] == "a\x100000\x10d800b"
        assert json.loads(found["rounds"][0]["intent"])["stage"] == decision.rounds[0].reading.intent.stage
    else:
        assert head["at"] == AT.isoformat() and head["user_id"] == "a\x00\ud800b"
        assert found["rounds"][0]["intent"]["stage"] == decision.rounds[0].reading.intent.stage
    with pytest.raises(InputError, match="not empty"):
        memory.export(tmp_path / "out", format)
    assert not list(tmp_path.glob(".out*")), "nothing half-written is left"


def test_the_commands_say_what_they_did(line: Line, tmp_path: Path) -> None:
    project = str(tmp_path / "shop")
    write_project_file(tmp_path / "shop")
    with RoleGen.open(project) as shop, open_memory(shop.project.memory_url) as memory:
        memory.record(make_decision("1"))
        memory.record_call(make_call("nobody"))
    told = line("memory", "prune", "--older-than", "400d", "--dry-run", "--project", project)
    assert told.returncode == 0 and "1 from llm_calls" in told.stdout and "decisions" not in told.stdout
    for wrong in ("soon", "0d", "999999d"):
        assert line("memory", "prune", "--older-than", wrong, "--project", project).returncode == 2
    told = line("memory", "export", "out", "--format", "jsonl", "--project", project)
    assert told.returncode == 0 and "1 from decisions" in told.stdout
    assert (tmp_path / "out" / "schema.json").exists()
    told = line("memory", "erase", "1", "--yes", "--project", project)
    assert told.returncode == 0 and "1 from decisions" in told.stdout
    assert "1 LLM calls belong to no decision" in told.stderr
    told = line("memory", "prune", "--older-than", "400d", "--yes", "--project", project)
    assert "1 from llm_calls" in told.stdout
    told = line("memory", "verify", "--project", project)
    assert told.returncode == 0
