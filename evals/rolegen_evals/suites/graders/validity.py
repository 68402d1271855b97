r"""Validity: share of the loop's questions that the model answered within schema and facts at once.

A question counts 1 when its first answer was used, 1/2 when one repair was needed, 0 when the fallback had to answer. The mean
over the questions of the decision, 0 to 1, more is better. None where the model was asked nothing.
"""

from __future__ import annotations

from .grade import Graded, Grader


def grade(graded: Graded) -> float | None:
    answers = [one for done in graded.decision.rounds for one in done.answers]
    own = sum(one.reasoner.startswith("llm:") for one in answers)
    repairs = sum(one.prompt == "repair" for one in graded.asked)
    first = [one for one in graded.asked if one.prompt != "repair"]
    if not first:
        return None
    # A repair belongs to a question that was answered after it, or to one that nobody could answer: the latter counts 0.
    failed = len(first) - own
    mended = max(0, repairs - failed)
    return max(0.0, (own - mended / 2) / len(first))


GRADER = Grader("validity", grade, better=1)
