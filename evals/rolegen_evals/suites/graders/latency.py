"""Latency: seconds that one decision waited for the model, one question after the other; 0 and up, less is better.

None where an answer came from a cache, and where the model was asked nothing.
"""

from __future__ import annotations

from .grade import Graded, Grader


def grade(graded: Graded) -> float | None:
    waited = [one.latency_s for one in graded.asked]
    return sum(waited) if waited and all(waited) else None


GRADER = Grader("latency", grade, better=-1, unit="s", high=float("inf"))
