"""The state machine of one decision, uncompiled: the caller compiles it with a checkpointer of their own, or into a parent.

observe → reason → simulate → ground → execute → feedback → reflect, and from reflect back to reason or to the end.
"""

from __future__ import annotations

from langgraph.graph import START, StateGraph

from .nodes.execute import Execute
from .nodes.feedback import Feedback
from .nodes.ground import Ground
from .nodes.observe import Observe
from .nodes.reason import Reason
from .nodes.reflect import Reflect
from .nodes.simulate import Simulate
from .parts import LoopSettings, Parts
from .state import DecisionInput, DecisionOutput, DecisionState


def create_decision_graph(
    parts: Parts, *, settings: LoopSettings
) -> StateGraph[DecisionState, None, DecisionInput, DecisionOutput]:
    """Build the loop over ``parts``.

    Example:
        ``create_decision_graph(parts, settings=LoopSettings(run="today")).compile().invoke({"user": "13085", "at": at})``
    """
    graph = StateGraph(DecisionState, input_schema=DecisionInput, output_schema=DecisionOutput)
    graph.add_node("observe", Observe(parts, settings))
    graph.add_node("reason", Reason(parts, settings))
    graph.add_node("simulate", Simulate(parts, settings))
    graph.add_node("ground", Ground(parts, settings))
    graph.add_node("execute", Execute(parts, settings))
    graph.add_node("feedback", Feedback(settings))
    graph.add_node("reflect", Reflect(parts, settings), destinations=("reason", "__end__"))
    graph.add_edge(START, "observe")
    graph.add_edge("observe", "reason")
    graph.add_edge("reason", "simulate")
    graph.add_edge("simulate", "ground")
    graph.add_edge("ground", "execute")
    graph.add_edge("execute", "feedback")
    graph.add_edge("feedback", "reflect")
    return graph
