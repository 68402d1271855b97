"""The evidence reasoner: the loop's embedded default, its baseline and its fallback."""

from .reasoner import EvidenceReasoner

__all__ = ["EvidenceReasoner"]
