"""The loop of RoleGen as a LangGraph: words, ports, nodes and the state machine. Free of torch, SQL and LLM clients."""

from .decision_graph import create_decision_graph
from .keys import decision_id
from .parts import LoopSettings, Parts
from .ports import CallLog, Catalogue, Memory, Observer, Reasoner, Recommender
from .state import DecisionInput, DecisionOutput, DecisionState

__all__ = [
    "CallLog",
    "Catalogue",
    "DecisionInput",
    "DecisionOutput",
    "DecisionState",
    "LoopSettings",
    "Memory",
    "Observer",
    "Parts",
    "Reasoner",
    "Recommender",
    "create_decision_graph",
    "decision_id",
]
