"""A run that was killed between two nodes goes on from its checkpoint: only that node runs again, nothing is paid twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path as File

import pytest
from langchain_core.runnables import RunnableConfig

from rolegen_agent.memory.checkpoints import open_async_checkpointer, open_checkpointer
from rolegen_graphs import create_decision_graph
from rolegen_graphs.ports import NO_CHANGES
from rolegen_graphs.words import Candidate, Decision, Effect, ItemSpec, Observation, PathChoice, Slate, Worth
from tests.support.ports import AT, Log, Notebook, Ranker, Shelf, Thinker, parts, steering

THREAD: RunnableConfig = {"configurable": {"thread_id": "one"}}


class Killed(BaseException):
    """As hard as Ctrl-C: nothing in the loop may catch it."""


@dataclass
class FragileShelf(Shelf):
    """Dies on its first question."""

    alive: bool = False

    def ground(self, specs: Sequence[tuple[int, int, ItemSpec]], seen: Observation) -> tuple[Candidate, ...]:
        if not self.alive:
            self.alive = True
            raise Killed
        return super().ground(specs, seen)


@dataclass
class FragileRanker(Ranker):
    """Dies when it is first asked for an effect."""

    alive: bool = False

    def rollout(
        self,
        user: str,
        at: datetime,
        paths: Sequence[tuple[int, Sequence[str]]],
        changes: Mapping[int, tuple[int, str | None]] = NO_CHANGES,
    ) -> tuple[Effect, ...]:
        if not self.alive:
            self.alive = True
            raise Killed
        return super().rollout(user, at, paths, changes)


@dataclass
class FragileNotebook(Notebook):
    """Dies after its first write, before the graph hears of it."""

    alive: bool = False

    def record(self, decision: Decision) -> None:
        super().record(decision)
        if not self.alive:
            self.alive = True
            raise Killed


@pytest.mark.parametrize(
    ("fragile", "waiting"),
    [
        ({"catalogue": FragileShelf()}, "ground"),
        ({"recommender": FragileRanker()}, "execute"),
        ({"memory": FragileNotebook()}, "reflect"),
    ],
)
def test_a_killed_run_goes_on_with_the_node_that_was_killed(
    tmp_path: File, fragile: dict[str, object], waiting: str
) -> None:
    asked: Log = []
    filled = parts(**{"reasoner": Thinker(log=asked)} | fragile)
    with open_checkpointer(tmp_path / "checkpoints.sqlite") as saver:
        graph = create_decision_graph(filled, settings=steering()).compile(checkpointer=saver)
        with pytest.raises(Killed):
            graph.invoke({"user": "ann", "at": AT}, THREAD, durability="sync")
    # Another process: nothing but the file is left.
    with open_checkpointer(tmp_path / "checkpoints.sqlite") as saver:
        graph = create_decision_graph(filled, settings=steering()).compile(checkpointer=saver)
        assert graph.get_state(THREAD).next == (waiting,)
        steps = [node for step in graph.stream(None, THREAD, stream_mode="updates", durability="sync") for node in step]
        decision = graph.get_state(THREAD).values["decision"]
    assert steps[0] == waiting and steps[-1] == "reflect"
    assert [entry[1] for entry in asked] == ["reason", "simulate"], "no question was put twice"
    undisturbed = create_decision_graph(parts(), settings=steering()).compile().invoke({"user": "ann", "at": AT})
    assert decision == undisturbed["decision"]
    notebook = filled.memory
    assert isinstance(notebook, Notebook) and notebook.decisions == {decision.decision: decision}


def test_everything_in_the_state_comes_back_from_a_strict_checkpoint_as_it_was(tmp_path: File) -> None:
    with open_checkpointer(tmp_path / "checkpoints.sqlite") as saver:
        filled = parts(fallback=Thinker(name="evidence"))
        graph = create_decision_graph(filled, settings=steering()).compile(checkpointer=saver)
        graph.invoke({"user": "ann", "at": AT}, THREAD, durability="sync")
        history = list(graph.get_state_history(THREAD))
    last = history[0].values
    assert isinstance(last["observation"], Observation) and isinstance(last["baseline"], Slate)
    assert isinstance(last["decision"], Decision) and last["decision"].rounds == tuple(last["rounds"])
    assert last["at"] == AT and last["at"].tzinfo is not None
    assert [type(candidate) for candidate in last["candidates"]] == [Candidate, Candidate]
    assert isinstance(last["worth"], Worth) and [type(one) for one in last["choices"]] == [PathChoice, PathChoice]


@pytest.mark.parametrize("granted", [{"ann": 1}, {}])
def test_a_resumed_decision_keeps_what_the_gate_said_before_it_was_killed(
    tmp_path: File, granted: dict[str, int]
) -> None:
    asked: Log = []
    filled = parts(catalogue=FragileShelf(), reasoner=Thinker(log=asked), fallback=Thinker(name="evidence"))
    first = create_decision_graph(filled, settings=steering(granted=granted))
    # The process that goes on was told otherwise: what is under way is still finished as it was begun.
    later = create_decision_graph(filled, settings=steering(granted={"ann": 2} if not granted else {}))
    with open_checkpointer(tmp_path / "checkpoints.sqlite") as saver:
        with pytest.raises(Killed):
            first.compile(checkpointer=saver).invoke({"user": "ann", "at": AT}, THREAD, durability="sync")
        decision = later.compile(checkpointer=saver).invoke(None, THREAD, durability="sync")["decision"]
    assert decision.worth is not None and decision.worth.rounds == len(granted)
    assert decision.reasoner == ("llm:thinker" if granted else "evidence") and bool(asked) == bool(granted)


async def test_the_loop_runs_on_the_async_checkpointer(tmp_path: File) -> None:
    shelf = FragileShelf()
    async with open_async_checkpointer(tmp_path / "checkpoints.sqlite") as saver:
        graph = create_decision_graph(parts(catalogue=shelf), settings=steering()).compile(checkpointer=saver)
        with pytest.raises(Killed):
            await graph.ainvoke({"user": "ann", "at": AT}, THREAD, durability="sync")
        shelf.alive = True
        decision = (await graph.ainvoke(None, THREAD, durability="sync"))["decision"]
    assert isinstance(decision, Decision) and shelf.log == [("shelf", "ground", "bulb", "cup")]
