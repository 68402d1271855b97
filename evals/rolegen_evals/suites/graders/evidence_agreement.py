r"""Agreement with evidence: the probability that the log gives to the roles that the model claimed.

Mean of :math:`p_{log}(r_e)` over labelled events of which the log says anything, 0 to 1, more is better. Of a fused label the
model's own claim counts. Where the log is wrong, a better model agrees less: read it beside role accuracy. None where the
log says nothing about any labelled event.
"""

from __future__ import annotations

from .grade import Graded, Grader


def grade(graded: Graded) -> float | None:
    found = []
    for label in graded.decision.rounds[-1].reading.labels:
        if beliefs := graded.beliefs.get(label.event):
            claimed = label.parts.llm_role if label.parts is not None else label.role
            belief = beliefs.get(claimed)
            found.append(belief.probability if belief is not None else 0.0)
    return sum(found) / len(found) if found else None


GRADER = Grader("evidence_agreement", grade, better=1)
