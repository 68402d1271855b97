"""Whom an LLM is asked about: worth in its range, and higher where thinking can change more."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rolegen_graphs.fusion import Fusion
from rolegen_graphs.gate import Gate, Think, within_budget, worth_of
from rolegen_graphs.words import Observation, Role, RoleBelief, Slate, Worth
from tests.support.ports import AT, ListedUsers


def seen(value: float | None = None) -> Observation:
    found = ListedUsers().observe("ann", AT)
    return found.model_copy(update={"trajectory": found.trajectory.model_copy(update={"value": value})})


def support(count: int) -> dict[int, dict[Role, RoleBelief]]:
    return {7: {"target": RoleBelief(probability=0.9, support=count)}}


def worth(
    entropy: float = 2.0,
    count: int = 0,
    value: float | None = None,
    *,
    think: Think = "uncertain",
    rounds: int = 2,
    gate: Gate | None = None,
) -> Worth:
    return worth_of(
        seen(value),
        Slate(items=(), entropy=entropy),
        support(count) if count else {},
        gate=gate or Gate(),
        fusion=Fusion(k=20.0),
        think=think,
        rounds=rounds,
    )


def test_the_worth_by_hand() -> None:
    found = worth(entropy=6.0, count=20, value=3.0)
    assert (found.uncertainty, found.thinness, found.value) == (0.75, 0.5, 0.75)
    assert found.worth == pytest.approx((0.75 * 0.5 * 0.75) ** (1 / 3), abs=1e-4)
    assert "uncertainty 0.75, thin evidence 0.50, value 0.75" in found.why


def test_each_part_moves_the_worth_its_way() -> None:
    for rising in (
        [worth(entropy=one).worth for one in (0.0, 0.5, 2.0, 8.0)],
        [worth(count=one).worth for one in (1000, 50, 5, 0)],
        [worth(value=one).worth for one in (0.0, 0.3, 1.0, 50.0)],
    ):
        assert rising == sorted(set(rising)) and rising[0] >= 0 and rising[-1] <= 1
    assert worth(value=None).worth == worth(value=1.0).worth, "an unknown value is that of the median customer"
    assert worth(entropy=0.0, value=99.0).rounds == 0, "a sure recommender needs nobody, however dear the user"


@pytest.mark.parametrize(("entropy", "rounds"), [(0.1, 0), (0.4, 1), (8.0, 2), (50.0, 2)])
def test_rounds_grow_with_the_worth(entropy: float, rounds: int) -> None:
    found = worth(entropy=entropy, value=5.0, rounds=2)
    assert found.rounds == rounds
    told = "not above 0.40, so no LLM is asked" if not rounds else f"so {rounds} LLM round"
    assert told in found.why


def test_always_means_everybody_and_still_says_what_they_are_worth() -> None:
    found = worth(entropy=0.1, think="always", rounds=3)
    assert found.rounds == 3 and found.worth < 0.4 and "every user" in found.why


def test_a_budget_takes_rounds_away_and_gives_none() -> None:
    wanted = worth(entropy=8.0, value=5.0)
    assert within_budget(wanted, 2) == wanted and within_budget(wanted, 1).rounds == 1
    left = within_budget(wanted, 0)
    assert left.rounds == 0 and "higher worth" in left.why
    nobody = worth(entropy=0.1)
    assert within_budget(nobody, 2).rounds == 0 and "budget" not in within_budget(nobody, 0).why


def test_a_gate_that_cannot_open_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be above ask_from"):
        Gate(ask_from=0.8)
