"""The loop of RoleGen as a LangGraph: words, ports, nodes and the state machine. Free of torch, SQL and LLM clients.

Names load on first use, so that reading words and ports does not cost the import of LangGraph.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .decision_graph import create_decision_graph
    from .keys import decision_id
    from .llm import Asker, LlmReasoner
    from .outcome_graph import create_outcome_graph
    from .parts import LoopSettings, Parts
    from .ports import CallLog, Catalogue, Memory, Observer, Reasoner, Recommender
    from .state import DecisionInput, DecisionOutput, DecisionState

__all__ = [
    "Asker",
    "CallLog",
    "Catalogue",
    "DecisionInput",
    "DecisionOutput",
    "DecisionState",
    "LlmReasoner",
    "LoopSettings",
    "Memory",
    "Observer",
    "Parts",
    "Reasoner",
    "Recommender",
    "create_decision_graph",
    "create_outcome_graph",
    "decision_id",
]

_HOME = {
    "Asker": "llm",
    "CallLog": "ports",
    "Catalogue": "ports",
    "DecisionInput": "state",
    "DecisionOutput": "state",
    "DecisionState": "state",
    "LlmReasoner": "llm",
    "LoopSettings": "parts",
    "Memory": "ports",
    "Observer": "ports",
    "Parts": "parts",
    "Reasoner": "ports",
    "Recommender": "ports",
    "create_decision_graph": "decision_graph",
    "create_outcome_graph": "outcome_graph",
    "decision_id": "keys",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
