"""Off-policy estimates: numbers worked out by hand, probabilities that were enumerated, and truths that are known."""

from __future__ import annotations

from itertools import permutations
from math import prod

import numpy as np
import pytest

from rolegen_agent.value import crossfit, estimate_value, place_probabilities
from rolegen_errors import InputError
from rolegen_graphs.exploration import chances
from rolegen_graphs.words import Draw


def test_the_formulas_on_four_decisions() -> None:
    weight = np.array([[0.0], [1.0], [3.0], [4.0]])
    reward = np.array([[1.0], [1.0], [0.0], [1.0]])
    found = estimate_value(
        weight,
        reward,
        list("abcd"),
        model_logged=np.full((4, 1), 0.5),
        model_target=np.full((4, 1), 0.6),
    )
    assert found.logged.value == pytest.approx(3 / 4)
    assert found.estimates["ips"].value == pytest.approx(5 / 4)
    assert found.estimates["clipped"].value == pytest.approx((1 + 2) / 4)  # 4 is cut at sqrt(4)
    assert found.clipped == pytest.approx(2 / 4)
    assert found.estimates["snips"].value == pytest.approx(5 / 8)
    assert found.estimates["dr"].value == pytest.approx(0.6 + (1 * 0.5 - 3 * 0.5 + 4 * 0.5) / 4)
    assert found.effective == (pytest.approx(64 / 26),)
    for one in found.estimates.values():
        assert one.low is not None and one.high is not None and one.low <= one.value <= one.high


def test_places_add_up_and_each_is_normalised_by_itself() -> None:
    weight = np.array([[2.0, 0.0], [0.0, 4.0]])
    reward = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = estimate_value(weight, reward, ["a", "b"])
    assert found.estimates["ips"].value == pytest.approx((2 + 4) / 2)
    assert found.estimates["snips"].value == pytest.approx(1 + 1)
    assert "dr" not in found.estimates and found.effective == (1.0, 1.0)


def test_a_users_decisions_are_drawn_together() -> None:
    """Ten decisions of one user say no more than one: the interval must not shrink by repetition."""
    reward = np.array([[1.0], [0.0]] * 10)
    alone = estimate_value(np.ones((20, 1)), reward, [str(n % 2) for n in range(20)]).estimates["ips"]
    apart = estimate_value(np.ones((20, 1)), reward, [str(n) for n in range(20)]).estimates["ips"]
    assert (alone.low, alone.high) == (0.0, 1.0)
    assert apart.low is not None and apart.low > 0.2


@pytest.mark.parametrize(
    ("weight", "reward"),
    [
        (np.ones((2, 1)), np.ones((2, 2))),
        (np.ones((0, 1)), np.ones((0, 1))),
        (-np.ones((2, 1)), np.ones((2, 1))),
        (np.full((2, 1), np.inf), np.ones((2, 1))),
    ],
)
def test_what_cannot_be_estimated_is_refused(weight: np.ndarray, reward: np.ndarray) -> None:
    with pytest.raises(InputError):
        estimate_value(weight, reward, ["u"] * len(weight))


@pytest.mark.parametrize("late", [(), ("x",)])
def test_probabilities_of_places_are_those_of_all_slates_together(late: tuple[str, ...]) -> None:
    draw, size = Draw(temperature=0.8, items=tuple("abxcd"), late=late), 4
    exact = np.zeros((5, size))
    for order in permutations(draw.items, size):
        p = prod(chances(draw, order[:place], size).get(item, 0.0) for place, item in enumerate(order))
        for place, item in enumerate(order):
            exact[draw.items.index(item), place] += p
    found = place_probabilities(draw, size)
    assert found.sum(axis=0) == pytest.approx(np.ones(size))
    assert np.abs(found - exact).max() < 0.01
    assert found[:, 0] == pytest.approx(exact[:, 0])
    assert (found[2, :2] == 0).all() == bool(late)


def test_the_reward_model_never_saw_whom_it_guesses_for() -> None:
    """Each user's reward is their own secret: a model that saw it would know it, one that did not cannot."""
    random = np.random.default_rng(0)
    users = [f"u{n // 6}" for n in range(600)]
    secret = np.repeat(random.integers(0, 2, 100), 6).astype(np.float64)
    facts = np.column_stack([np.repeat(np.arange(100), 6), random.normal(size=600)]).astype(np.float64)
    guess, would = crossfit(facts, secret, users, facts, np.arange(600))
    assert abs(np.corrcoef(guess, secret)[0, 1]) < 0.25
    assert guess == pytest.approx(would)


def test_the_reward_model_learns_what_items_are_worth() -> None:
    random = np.random.default_rng(1)
    item = random.integers(0, 5, 2000)
    reward = (random.random(2000) < np.array([0.05, 0.1, 0.3, 0.6, 0.8])[item]).astype(np.float64)
    facts = np.column_stack([item, np.zeros(2000)]).astype(np.float64)
    guess, _ = crossfit(facts, reward, [str(n) for n in range(2000)], facts, np.arange(2000))
    assert np.diff([guess[item == one].mean() for one in range(5)]).min() > 0
    few, _ = crossfit(facts[:9], np.zeros(9), [str(n) for n in range(9)], facts[:9], np.arange(9))
    assert few == pytest.approx(np.zeros(9))
