"""The loop as a part of somebody else's graph: own state, own nodes, and what streams out of it."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from rolegen_graphs import create_decision_graph
from rolegen_graphs.words import Decision
from tests.support.ports import AT, parts, steering


class Campaign(TypedDict, total=False):
    """The parent's state: it shares the keys of the loop's input and output and has others of its own."""

    user: str
    at: Any
    budget: int
    decision: Decision
    letter: str


def campaign() -> StateGraph[Campaign]:
    def choose(state: Campaign) -> Campaign:
        return {"user": "ann", "at": AT}

    def write(state: Campaign) -> Campaign:
        return {"letter": f"Dear {state['user']}, have a look at {state['decision'].slate.items[0].title}"}

    graph = StateGraph(Campaign)
    graph.add_node("choose", choose)
    graph.add_node("awaken", create_decision_graph(parts(), settings=steering()).compile())
    graph.add_node("write", write)
    graph.add_edge(START, "choose")
    graph.add_edge("choose", "awaken")
    graph.add_edge("awaken", "write")
    graph.add_edge("write", END)
    return graph


def test_the_parent_gets_the_decision_and_nothing_else_of_the_loop() -> None:
    done = campaign().compile().invoke({"budget": 3})
    assert done["letter"] == "Dear ann, have a look at Bulb"
    assert set(done) == {"user", "at", "budget", "decision", "letter"}


def test_the_nodes_of_the_loop_stream_through_the_parent() -> None:
    seen = [
        (bool(where), node)
        for where, step in campaign().compile().stream({"budget": 3}, stream_mode="updates", subgraphs=True)
        for node in step
    ]
    inner = ["observe", "reason", "simulate", "ground", "execute", "feedback", "reflect"]
    assert seen == [(False, "choose"), *((True, node) for node in inner), (False, "awaken"), (False, "write")]


async def test_values_and_updates_stream_together_without_blocking() -> None:
    graph = create_decision_graph(parts(), settings=steering()).compile()
    modes = [mode async for mode, _ in graph.astream({"user": "ann", "at": AT}, stream_mode=["updates", "values"])]
    assert modes.count("updates") == 7 and modes.count("values") >= 7
    values = [state async for state in graph.astream({"user": "ann", "at": AT}, stream_mode="values")]
    assert values[-1]["decision"].user == "ann"


@pytest.mark.parametrize("at", [AT, "2011-09-01T00:00:00+00:00"])
def test_the_answer_is_the_output_schema_and_nothing_else(at: object) -> None:
    answer = create_decision_graph(parts(), settings=steering()).compile().invoke({"user": "ann", "at": at})
    assert set(answer) == {"decision"}
