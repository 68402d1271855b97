"""Credit for an order: the axioms of Shapley, and credits that add up to the order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolegen_graphs.attribution import attribute, order_shares
from rolegen_graphs.ports import NO_CHANGES
from rolegen_graphs.shapley import coalitions, shapley
from rolegen_graphs.words import Candidate, Decision, Effect, ItemSpec, Outcome, PathChoice, Slate, SlateItem
from tests.support.decisions import AT, make_decision
from tests.support.ports import Ranker

DAY = timedelta(days=1)


@given(st.integers(1, 4).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.floats(0, 1), min_size=16, max_size=16))))
def test_the_values_add_up_to_what_all_add(game: tuple[int, list[float]]) -> None:
    players, worths = game
    worth = {group: worths[place] for place, group in enumerate([(), *coalitions(players)])}
    everybody = tuple(range(players))
    assert sum(shapley(players, worth)) == pytest.approx(worth[everybody] - worth[()])


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_equals_get_equal_values_and_a_null_player_nothing(by_size: list[float]) -> None:
    alike = {group: by_size[len(group)] for group in [(), *coalitions(3)]}
    values = shapley(3, alike)
    assert values == pytest.approx([values[0]] * 3)
    idle = {group: by_size[len([one for one in group if one != 2])] for group in [(), *coalitions(3)]}
    assert shapley(3, idle)[2] == pytest.approx(0, abs=1e-12)


def test_a_pair_of_gloves() -> None:
    """One left glove, two right ones: the known solution is 2/3, 1/6, 1/6."""
    worth = {group: float(0 in group and len(group) > 1) for group in [(), *coalitions(3)]}
    assert shapley(3, worth) == pytest.approx([2 / 3, 1 / 6, 1 / 6])


@dataclass
class Table(Ranker):
    """A recommender whose rollout is a table from sets of items to probabilities; what it lacks is 0.1."""

    chance: Mapping[str, float] | None = None

    def rollout(
        self,
        user: str,
        at: datetime,
        paths: Sequence[tuple[int, Sequence[str]]],
        changes: Mapping[int, tuple[int, str | None]] = NO_CHANGES,
    ) -> tuple[Effect, ...]:
        return tuple(
            Effect(path=path, probability_without=0.1, probability_with=p, change=p - 0.1, low=0, high=1)
            for path, items in paths
            for p in ((self.chance or {}).get("".join(items), 0.1),)
        )


def decision(*steps: tuple[int, int, str], shown: str = "abcd") -> Decision:
    """One with candidates (path, step, item), all of them of used paths, and a slate."""
    made = make_decision(rounds=1)
    spec = ItemSpec(role="target")
    paths = {path for path, _, _ in steps}
    last = made.rounds[-1].model_copy(
        update={
            "candidates": tuple(
                Candidate(path=path, step=step, role="target", spec=spec, fate="accepted", reason="", item=item)
                for path, step, item in steps
            ),
            "choices": tuple(PathChoice(path=path, chosen=path < 9, reason="") for path in sorted(paths)),
        }
    )
    items = tuple(SlateItem(rank=n, item=item, title="", score=0.1) for n, item in enumerate(shown, 1))
    return made.model_copy(update={"rounds": (last,), "slate": Slate(items=items)})


def outcome(**more: Any) -> Outcome:
    return Outcome(decision=make_decision().decision, user="17850", **({"ordered_at": AT + DAY} | more))


def test_an_order_is_split_as_the_rollout_says() -> None:
    chance = {"a": 0.3, "b": 0.1, "ab": 0.5}
    found = attribute(decision((1, 0, "a"), (1, 2, "b")), outcome(), Table(chance=chance))
    by_step = {part.step: part for part in found}
    assert by_step[0].effect == pytest.approx(0.3) and by_step[2].effect == pytest.approx(0.1)
    assert [by_step[key].credit for key in (None, 0, 2)] == pytest.approx([0.2, 0.6, 0.2])
    assert sum(part.credit for part in found) == pytest.approx(1)
    assert (by_step[2].path, by_step[2].item) == (1, "b")


def test_a_step_that_moves_nothing_gets_nothing_and_one_that_harms_less() -> None:
    chance = {"a": 0.4, "b": 0.1, "ab": 0.4, "c": 0.05}
    found = attribute(decision((1, 0, "a"), (1, 1, "b"), (2, 0, "c")), outcome(), Table(chance=chance))
    credit = {part.item: part.credit for part in found}
    assert credit["b"] == pytest.approx(0, abs=1e-12) and credit["a"] > 0 > credit["c"]
    assert sum(credit.values()) == pytest.approx(1)


def test_only_what_was_shown_used_and_engaged_with_can_have_a_part() -> None:
    steps = ((1, 0, "a"), (1, 1, "z"), (2, 0, "b"), (9, 0, "c"))
    everything = attribute(decision(*steps), outcome(), Table(chance={"a": 0.2, "b": 0.2}))
    assert {part.item for part in everything} == {None, "a", "b"}  # z was not shown, path 9 not used
    engaged = outcome(engaged=("d",), items=("b",))
    assert {part.item for part in attribute(decision(*steps), engaged, Table(chance={"b": 0.2}))} == {None, "b"}
    nothing = attribute(decision(*steps), outcome(engaged=()), Table())
    assert [(part.item, part.credit) for part in nothing] == [(None, 1.0)]


def test_no_order_no_credit_and_repeating_changes_nothing() -> None:
    made = decision((1, 0, "a"))
    assert attribute(made, outcome(ordered_at=None), Table()) == ()
    assert attribute(made, outcome(), Table()) == attribute(made, outcome(), Table())
    assert sum(part.credit for part in attribute(made, outcome(), Table(chance={"a": 0.2}), 0.5)) == pytest.approx(0.5)


def test_an_order_counts_for_the_latest_decision_that_holds_it() -> None:
    spans = [("early", AT, AT + 90 * DAY), ("late", AT + 30 * DAY, AT + 120 * DAY), ("twin", AT, AT + 90 * DAY)]
    assert order_shares(spans, AT + 50 * DAY) == {"early": 0.0, "late": 1.0, "twin": 0.0}
    assert order_shares(spans, AT + 10 * DAY) == {"early": 0.5, "late": 0.0, "twin": 0.5}
    assert order_shares(spans, AT + 119 * DAY) == {"early": 0.0, "late": 1.0, "twin": 0.0}
    assert sum(order_shares(spans, AT + 120 * DAY).values()) == 0
