r"""Recall of the final slate: share of what the user then bought that was shown.

:math:`|S \cap B| / \min(|S|, |B|)` for the slate :math:`S` and the items :math:`B` of the first net order within the horizon; 0 to 1,
more is better. None for users who did not come back, or of whom it is not known yet.
"""

from __future__ import annotations

from ...metrics import recall_at
from .grade import Graded, Grader


def grade(graded: Graded) -> float | None:
    if not graded.case.bought:
        return None
    slate = [one.item for one in graded.decision.slate.items]
    return recall_at(slate, graded.case.bought, k=max(1, len(slate)))


GRADER = Grader("recall", grade, better=1)
