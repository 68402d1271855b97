"""Role evidence: what the log says about the functional roles of items, with support, shrinkage and interval."""

from .compute import compute_evidence
from .market import Market
from .options import EvidenceOptions
from .store import Evidence

__all__ = ["Evidence", "EvidenceOptions", "Market", "compute_evidence"]
