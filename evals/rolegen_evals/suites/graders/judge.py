r"""Judge: share of the rubric's criteria that another model sees met.

:math:`|\{k: c_k\}| / |K|` over the criteria :math:`K` of the rubric (prompt ``judge``); 0 to 1, more is better. None where no judge
was asked. A judge is a measuring instrument of unknown quality: ``rolegen eval judge`` measures how far it agrees with labelled
examples, and each run that asks one keeps that beside its results.
"""

from __future__ import annotations

from .grade import Graded, Grader


def grade(graded: Graded) -> float | None:
    return sum(graded.judged.values()) / len(graded.judged) if graded.judged else None


GRADER = Grader("judge", grade, better=1)
