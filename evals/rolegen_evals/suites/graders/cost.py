"""Cost: US dollars of one decision at list prices, as if nothing came from a cache; 0 and up, less is better.

None where the price of a call is not known; 0 where the model was asked nothing.
"""

from __future__ import annotations

from .grade import Graded, Grader


def grade(graded: Graded) -> float | None:
    costs = [one.cost_usd for one in graded.asked]
    return None if None in costs else float(sum(cost for cost in costs if cost is not None))


GRADER = Grader("cost", grade, better=-1, unit="USD", high=float("inf"))
