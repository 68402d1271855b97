"""Role evidence: what the log says about the functional roles of items, with support, shrinkage and interval."""

from .compute import Update, compute_evidence, update_evidence
from .ledger import Ledger
from .market import Market
from .options import EvidenceOptions
from .store import Evidence

__all__ = ["Evidence", "EvidenceOptions", "Ledger", "Market", "Update", "compute_evidence", "update_evidence"]
