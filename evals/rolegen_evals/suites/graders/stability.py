r"""Stability: how far the roles stay the same when the same history is told again.

For each retelling (``repeat``: the same words; ``order``: events of one visit the other way round; ``paraphrase``: titles with
other capitals and order of words) the share of events, labelled in both readings, that got the same role, times the share of
events labelled in both among those labelled in either: :math:`|\{e: r_e = r'_e\}| / |L \cup L'|`. The mean over the retellings,
0 to 1, more is better. None where nothing was told again.
"""

from __future__ import annotations

from rolegen_graphs.words import Reading, Role

from .grade import Graded, Grader


def grade(graded: Graded) -> float | None:
    if not graded.again:
        return None
    first = _roles(graded.decision.rounds[0].reading)
    return sum(_same(first, _roles(reading)) for reading in graded.again.values()) / len(graded.again)


def _roles(reading: Reading) -> dict[int, Role]:
    return {one.event: one.parts.llm_role if one.parts is not None else one.role for one in reading.labels}


def _same(first: dict[int, Role], second: dict[int, Role]) -> float:
    either = first.keys() | second.keys()
    return sum(first.get(event) == second.get(event) for event in either) / len(either) if either else 1.0


GRADER = Grader("stability", grade, better=1)
