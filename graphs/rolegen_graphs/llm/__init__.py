"""The LLM reasoner: renders what was observed, asks through a small port, and believes only what it could check."""

from __future__ import annotations

from .asker import Asker
from .reasoner import LlmReasoner
from .trajectory import Statistics

__all__ = ["Asker", "LlmReasoner", "Statistics"]
