r"""Grounding rate: share of the wished items that the catalogue has.

Accepted specs count 1, mapped ones (a band or category was given up) 1/2, rejected ones 0; the mean over the specs of the last
round, 0 to 1, more is better. None without any spec.
"""

from __future__ import annotations

from .grade import Graded, Grader

WORTH = {"accepted": 1.0, "mapped": 0.5, "rejected": 0.0}


def grade(graded: Graded) -> float | None:
    candidates = graded.decision.rounds[-1].candidates
    return sum(WORTH[one.fate] for one in candidates) / len(candidates) if candidates else None


GRADER = Grader("grounding_rate", grade, better=1)
