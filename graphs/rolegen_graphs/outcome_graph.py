"""A graph that decides, shows, and waits for the outcome: the decision graph as one node, and ``await_outcome`` behind it.

It may wait for months: compile it with a checkpointer that lasts, give each decision a thread of its own, and resume that.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from .nodes.await_outcome import AwaitOutcome, OutcomeSink
from .state import DecisionInput
from .words import Decision, Outcome


class OutcomeState(TypedDict, total=False):
    """A decision and what came of it."""

    user: str
    """id as in the log"""
    at: datetime | str
    """decision time"""
    decision: Decision
    """set before the graph waits"""
    outcome: Outcome
    """set when it has ended"""


def create_outcome_graph(
    decision_graph: StateGraph[Any, Any, Any, Any], *, sink: OutcomeSink
) -> StateGraph[OutcomeState, None, DecisionInput, OutcomeState]:
    """``decision_graph`` (uncompiled, as :func:`create_decision_graph` gives it), followed by the wait for its outcome.

    Example:
        ``graph.invoke({"user": …, "at": …}, thread)``, and later ``graph.invoke(Command(resume={"ordered_at": None}), thread)``
    """
    graph = StateGraph(OutcomeState, input_schema=DecisionInput, output_schema=OutcomeState)
    graph.add_node("decide", decision_graph.compile())
    graph.add_node("await_outcome", AwaitOutcome(sink))
    graph.add_edge(START, "decide")
    graph.add_edge("decide", "await_outcome")
    graph.add_edge("await_outcome", END)
    return graph
