"""What updates are made from and what became of them, on real SQLite and real PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rolegen_agent.memory import Memory
from rolegen_agent.memory.records import Promotion
from rolegen_errors import InputError
from rolegen_graphs.words import Outcome
from tests.support.decisions import AT, make_decision

pytest_plugins = ["tests.support.postgres"]

DAY = timedelta(days=1)


def came(memory: Memory, seed: int, *, ordered_after: int | None, final: bool = True) -> str:
    """A recorded decision and its outcome."""
    decision = make_decision(seed=seed, user=f"user {seed}")
    memory.record(decision)
    ordered = None if ordered_after is None else decision.at + ordered_after * DAY
    items = ("I1",) if ordered else ()
    memory.record_outcome(
        Outcome(decision=decision.decision, user=decision.user, ordered_at=ordered, items=items, value=1.0, final=final)
    )
    return decision.decision


def test_an_outcome_counts_from_when_it_was_known(memory: Memory) -> None:
    early, late, never = (came(memory, seed, ordered_after=days) for seed, days in ((1, 5), (2, 30), (3, None)))
    came(memory, 4, ordered_after=2, final=False)
    memory.record(make_decision(seed=5, user="user 5"))

    def known(days: float) -> set[str]:
        return {one.decision for one in memory.experiences(AT + timedelta(days=days))}

    assert known(0) == known(5) == set(), "an order at the very moment is not known before it"
    assert known(5.1) == {early}
    assert known(31) == {early, late}
    assert known(89.9) == {early, late}, "no order is no fact until the horizon is over"
    assert known(90) == {early, late, never}


def test_an_experience_is_the_last_round_with_the_paths_that_were_used(memory: Memory) -> None:
    decision_id = came(memory, 7, ordered_after=3)
    decision = memory.get(decision_id)
    [one] = memory.experiences(AT + 10 * DAY)
    last = decision.rounds[-1]
    used = {choice.path for choice in last.choices if choice.chosen}
    assert one.labels == last.reading.labels
    assert one.candidates == tuple(c for c in last.candidates if c.item is not None and c.path in used)
    assert (one.user, one.at, one.reasoner, one.run) == (decision.user, decision.at, decision.reasoner, decision.run)
    assert one.outcome.items == ("I1",) and one.outcome.ordered_at == decision.at + 3 * DAY


def test_promotions_come_back_in_order_and_once(memory: Memory) -> None:
    first = Promotion(
        at=AT,
        from_fingerprint="aaaa",
        wanted="w1",
        to_fingerprint="bbbb",
        verdict="promoted",
        reason="not worse",
        held_from=AT - 30 * DAY,
        figures={"value": {"old": 0.1, "new": 0.2}, "returned": 40},
    )
    second = first.model_copy(update={"at": AT + DAY, "from_fingerprint": "bbbb", "verdict": "rolled_back"})
    for one in (second, first, first):
        memory.record_promotion(one)
    assert memory.promotions() == (first, second)
    with pytest.raises(InputError, match="without a time zone"):
        memory.record_promotion(first.model_copy(update={"held_from": AT.replace(tzinfo=None)}))
