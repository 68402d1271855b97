"""Graders: each gives one number to one decision, or None where it has nothing to say. One file for each."""

from __future__ import annotations

from collections.abc import Mapping

from . import (
    collapse,
    cost,
    evidence_agreement,
    grounding_rate,
    latency,
    path_effect,
    recall,
    role_accuracy,
    stability,
    tokens,
    validity,
)
from .grade import Graded, Grader

GRADERS: Mapping[str, Grader] = {
    grader.name: grader
    for grader in (
        role_accuracy.GRADER,
        evidence_agreement.GRADER,
        stability.GRADER,
        validity.GRADER,
        grounding_rate.GRADER,
        collapse.GRADER,
        path_effect.GRADER,
        recall.GRADER,
        tokens.GRADER,
        cost.GRADER,
        latency.GRADER,
    )
}

__all__ = ["GRADERS", "Graded", "Grader"]
