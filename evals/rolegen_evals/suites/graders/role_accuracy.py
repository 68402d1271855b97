r"""Role accuracy: share of labelled events whose role is the planted one.

:math:`|\{e \in L \cap T: r_e = t_e\}| / |L \cap T|` over the labelled events :math:`L` and those with a planted role :math:`T`;
0 to 1, more is better. None where no planted role is known or none of those events was labelled.
"""

from __future__ import annotations

from .grade import Graded, Grader


def grade(graded: Graded) -> float | None:
    labels = [one for one in graded.decision.rounds[-1].reading.labels if one.event in graded.case.roles]
    if not labels:
        return None
    return sum(one.role == graded.case.roles[one.event] for one in labels) / len(labels)


GRADER = Grader("role_accuracy", grade, better=1)
