"""Checkpoints: the words of the loop survive a killed run as themselves, and nothing foreign is rebuilt."""

from __future__ import annotations

import logging
import pickle
import sqlite3
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel

from rolegen_agent.memory import open_memory
from rolegen_agent.memory.checkpoints import forget, open_async_checkpointer, open_checkpointer, strict_serializer
from rolegen_errors import MemoryStoreError
from rolegen_graphs.words import Decision, Observation, Round, Slate, Trajectory
from tests.support.decisions import make_decision

pytest_plugins = ["tests.support.postgres"]

CONFIG: Any = {"configurable": {"thread_id": "t1"}}


class Foreign(BaseModel):
    text: str


class State(TypedDict, total=False):
    observation: Observation
    trajectory: Trajectory
    rounds: tuple[Round, ...]
    slate: Slate
    decision: Decision
    foreign: Foreign
    answer: str


def build(saver: BaseCheckpointSaver[Any]) -> Any:
    made = make_decision(rounds=1)

    def fill(state: State) -> State:
        return {
            "observation": made.observation,
            "trajectory": made.observation.trajectory,
            "rounds": made.rounds,
            "slate": made.slate,
            "decision": made,
        }

    def wait(state: State) -> State:
        return {"answer": interrupt("go on?")}

    graph = StateGraph(State)
    graph.add_node("fill", fill)
    graph.add_node("wait", wait)
    graph.add_edge(START, "fill")
    graph.add_edge("fill", "wait")
    graph.add_edge("wait", END)
    return graph.compile(checkpointer=saver)


@pytest.fixture(params=["sqlite", "postgresql"])
def checkpoint_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "checkpoints.db")
    return str(request.getfixturevalue("postgres_url")).replace("postgresql+psycopg", "postgresql")


def check(values: dict[str, Any]) -> None:
    made = make_decision(rounds=1)
    assert values["trajectory"] == made.observation.trajectory
    assert type(values["trajectory"]) is Trajectory
    assert values["observation"] == made.observation and type(values["observation"]) is Observation
    assert tuple(values["rounds"]) == made.rounds and all(type(each) is Round for each in values["rounds"])
    assert values["decision"] == made and type(values["decision"].rounds[0].candidates) is tuple


def test_words_come_back_as_themselves_after_reopening(checkpoint_url: str) -> None:
    with open_checkpointer(checkpoint_url) as saver:
        build(saver).invoke({"answer": ""}, CONFIG)
    with open_checkpointer(checkpoint_url) as saver:
        graph = build(saver)
        waiting = graph.get_state(CONFIG)
        assert waiting.next == ("wait",)
        check(waiting.values)
        assert graph.get_state(CONFIG).values["slate"].items[0].parts.keys() == {"decoder", "candidate"}
        forget(saver, "t1")
        assert graph.get_state(CONFIG).values == {}
        forget(saver, "t1")


async def test_async_runs_share_the_same_checkpoints(checkpoint_url: str) -> None:
    async with open_async_checkpointer(checkpoint_url) as saver:
        await build(saver).ainvoke({"answer": ""}, CONFIG)
        check((await build(saver).aget_state(CONFIG)).values)
    with open_checkpointer(checkpoint_url) as saver:
        check(build(saver).get_state(CONFIG).values)
        forget(saver, "t1")


def test_foreign_types_stay_data_unless_allowed(caplog: pytest.LogCaptureFixture) -> None:
    stored = strict_serializer().dumps_typed(Foreign(text="x"))
    with caplog.at_level(logging.WARNING):
        assert strict_serializer().loads_typed(stored) == {"text": "x"}
    assert "Foreign" in caplog.text
    assert strict_serializer([Foreign]).loads_typed(stored) == Foreign(text="x")


def test_nothing_is_unpickled() -> None:
    with pytest.raises(NotImplementedError, match="pickle"):
        strict_serializer().loads_typed(("pickle", pickle.dumps("harmless")))
    with pytest.raises(TypeError):
        strict_serializer().dumps_typed(object())


def test_checkpoints_on_sqlite_use_wal(tmp_path: Path) -> None:
    with open_checkpointer(tmp_path / "c.db") as saver:
        build(saver).invoke({"answer": ""}, CONFIG)
    connection = sqlite3.connect(tmp_path / "c.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_memory_and_checkpoints_do_not_share_a_file(tmp_path: Path) -> None:
    open_memory(tmp_path / "m.db").close()
    with pytest.raises(MemoryStoreError, match="a file of their own"), open_checkpointer(tmp_path / "m.db"):
        pass


@pytest.mark.parametrize(
    "url", ["postgresql://me:s3cret@127.0.0.1:1/none", "postgresql://127.0.0.1:1/x?password=s3cret"]
)
def test_an_unreachable_server_is_told_without_the_password(url: str) -> None:
    with pytest.raises(MemoryStoreError, match="checkpoint database failed") as caught, open_checkpointer(url):
        pass
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__!r}"


def test_the_callers_own_errors_pass_through(checkpoint_url: str) -> None:
    with pytest.raises(sqlite3.OperationalError, match="mine"), open_checkpointer(checkpoint_url):
        raise sqlite3.OperationalError("mine")
