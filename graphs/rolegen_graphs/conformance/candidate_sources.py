"""The rules of a :class:`~rolegen_graphs.ports.CandidateSource`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..ports import CandidateSource
from ..words import Intent, Observation, Reading
from .rules import Rules

LONGEST_NAME = 100
NOTHING_READ = Reading(labels=(), intent=Intent(stage="none"))


def check_candidate_source(source: CandidateSource, *, seen: Sequence[Observation], items: Collection[str]) -> None:
    """Hold a source against its rules, on observations such as :func:`check_observer` returns.

    - It has a name of one line, which will stand in every trace.
    - It answers also where nothing was read of a user.
    - It puts an item forward once.
    - At least one of all its items exists; what does not is rejected by the loop, and told.
    - The same question has the same answer: a decision that is resumed asks again.

    Args:
        items: ids of everything that may be shown at those times.

    Raises:
        ConformanceError: with every rule that does not hold.
    """
    with Rules(source) as rules:
        name = rules.ask("for its name", lambda: source.name) or ""
        rules.hold("has a name of one line", 0 < len(name) <= LONGEST_NAME and "\n" not in name, name)
        told: list[str] = []
        for one in seen:
            found = rules.ask(f"for user {one.trajectory.user!r}", source.propose, one, NOTHING_READ)
            if found is None:
                continue
            mine = [proposal.item for proposal in found]
            told += mine
            rules.hold("puts an item forward once", len(set(mine)) == len(mine), mine)
            again = rules.ask("twice", source.propose, one, NOTHING_READ)
            rules.hold("the same question has the same answer", again is None or list(again) == list(found))
        rules.hold("puts forward at least one item that exists", any(item in items for item in told), told[:5])
