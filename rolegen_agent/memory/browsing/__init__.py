"""Typed reads for pages: lists of digests with filters, figures by day, and what else a trace page shows."""

from .lists import SORTS, BrowsingStore, Sort
from .records import Digest, DigestPage, Figures, Filters, LessonEvidence, Pair, PromptUse

__all__ = [
    "SORTS",
    "BrowsingStore",
    "Digest",
    "DigestPage",
    "Figures",
    "Filters",
    "LessonEvidence",
    "Pair",
    "PromptUse",
    "Sort",
]
