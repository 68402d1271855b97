"""What it costs to have the loop as a graph, and as a node of somebody's graph, against calling its nodes by hand.

The three ways decide on the same users in turn, so that whatever else the machine does meets all of them; a difference is
between two times of the same user.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from rolegen_graphs import LoopSettings, Parts, create_decision_graph
from rolegen_graphs.nodes.execute import Execute
from rolegen_graphs.nodes.feedback import Feedback
from rolegen_graphs.nodes.ground import Ground
from rolegen_graphs.nodes.observe import Observe
from rolegen_graphs.nodes.reason import Reason
from rolegen_graphs.nodes.reflect import Reflect
from rolegen_graphs.nodes.simulate import Simulate
from rolegen_graphs.state import DecisionState
from rolegen_graphs.words import Decision

from .shop import AT, SLATE, MadeUpUsers, PlainReasoner, Ranker, Shelf, user_name

WARM = 10
"""decisions before the clock counts"""
Way = Callable[[str], Decision]


class Campaign(DecisionState, total=False):
    """A parent's state: what it shares with the loop, and something of its own."""

    budget: float


def subgraph_cost(*, users: int) -> dict[str, float]:
    """Milliseconds of a decision by hand, as a graph, and as a node of a parent graph; and the medians of the differences."""
    parts = Parts(observer=MadeUpUsers(None), reasoner=PlainReasoner(), catalogue=Shelf(), recommender=Ranker())
    settings = LoopSettings(run="overhead", slate_size=SLATE)
    loop = create_decision_graph(parts, settings=settings).compile()
    parent = StateGraph(Campaign)
    parent.add_node("choose", lambda state: {"budget": state.get("budget", 0.0) + 1})
    parent.add_node("awaken", loop)
    parent.add_edge(START, "choose")
    parent.add_edge("choose", "awaken")
    parent.add_edge("awaken", END)
    nested = parent.compile()
    ways: dict[str, Way] = {
        "by_hand": by_hand(parts, settings),
        "graph": lambda user: cast("Decision", loop.invoke({"user": user, "at": AT})["decision"]),
        "subgraph": lambda user: cast("Decision", nested.invoke({"user": user, "at": AT})["decision"]),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(WARM + users):
        user = user_name(number)
        for name, way in ways.items():
            started = time.perf_counter()
            way(user)
            taken[name].append(1000 * (time.perf_counter() - started))
    times = {name: np.array(found[WARM:]) for name, found in taken.items()}
    return {
        **{f"subgraph.ms_per_decision.{name}": float(np.median(found)) for name, found in times.items()},
        **{
            f"subgraph.overhead_ms.{name}": float(np.median(times[name] - times["by_hand"]))
            for name in ("graph", "subgraph")
        },
    }


def by_hand(parts: Parts, settings: LoopSettings) -> Way:
    """The nodes one after the other, as a program without LangGraph would call them."""
    observe, reason, simulate = Observe(parts, settings), Reason(parts, settings), Simulate(parts, settings)
    ground, execute, feedback = Ground(parts, settings), Execute(parts, settings), Feedback(settings)
    reflect = Reflect(parts, settings)

    def decide(user: str) -> Decision:
        state: Any = {"user": user, "at": AT}
        state |= observe(state)
        while True:
            for node in (reason, simulate, ground, execute, feedback):
                state |= node(state)
            ended: Command[Any] = reflect(state)
            state |= ended.update
            if ended.goto != "reason":
                return cast("Decision", state["decision"])

    return decide
