"""Baselines, metrics, protocols and benchmarks: what judges RoleGen."""

from __future__ import annotations

from .baselines import frequency, popularity
from .metrics import (
    Interval,
    Scores,
    catalogue_coverage,
    category_coverage,
    category_entropy,
    gini,
    hit_at_1,
    interval,
    ndcg_at,
    paired_difference,
    recall_at,
    scores,
)
from .results import Result, commit, machine

__all__ = [
    "Interval",
    "Result",
    "Scores",
    "catalogue_coverage",
    "category_coverage",
    "category_entropy",
    "commit",
    "frequency",
    "gini",
    "hit_at_1",
    "interval",
    "machine",
    "ndcg_at",
    "paired_difference",
    "popularity",
    "recall_at",
    "scores",
]
