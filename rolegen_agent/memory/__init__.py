"""The loop memory: what every decision saw, reasoned, showed and led to, in SQLite or PostgreSQL.

The graph's checkpoints are another thing in another file: see :mod:`rolegen_agent.memory.checkpoints`.
"""

from rolegen_graphs.keys import decision_id

from .records import Artefact, DeadLetter, DecisionSummary, PromptText, RunSummary, Span, Standing, ToldEvent, Usage
from .repository import Memory, open_memory
from .store import DEFAULT_HORIZON_DAYS

__all__ = [
    "DEFAULT_HORIZON_DAYS",
    "Artefact",
    "DeadLetter",
    "DecisionSummary",
    "Memory",
    "PromptText",
    "RunSummary",
    "Span",
    "Standing",
    "ToldEvent",
    "Usage",
    "decision_id",
    "open_memory",
]
