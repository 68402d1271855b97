"""The value of slates from another policy's log, and the weight that effects of showing get by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from rolegen_agent.evidence import compute_evidence
from rolegen_agent.improve import weighing
from rolegen_agent.improve.build import sample
from rolegen_agent.outlook import Outlook
from rolegen_agent.settings import DormancySettings, Settings
from rolegen_agent.showing import Needs, Showing, contexts_of
from rolegen_agent.value.exposures import Exposures, Policy, difference, value_of
from rolegen_errors import FutureError
from rolegen_evals.worlds import WORLDS, Knobs, Planted, plant
from rolegen_evals.worlds.log import START

ITEMS = 6
MEAN = np.array([[0.1, 0.3, 0.1, 0.2, 0.1, 0.1], [0.2, 0.05, 0.5, 0.2, 0.2, 0.2]])
"""chance of an order by context and item shown"""
CHANCE = np.array([[0.3, 0.1, 0.1, 0.1, 0.2, 0.2], [0.05, 0.35, 0.1, 0.2, 0.2, 0.1]])
"""of the logging policy"""
CONTEXTS = [(-1, 0), (0, 1)]


def logged(seed: int, count: int = 4_000) -> Exposures:
    random = np.random.default_rng(seed)
    context = (random.random(count) < 0.7).astype(int)
    item = np.array([random.choice(ITEMS, p=CHANCE[row]) for row in context])
    reward = (random.random(count) < MEAN[context, item]).astype(float)
    key = np.array([Exposures.key(one) for one in CONTEXTS])[context]
    return Exposures(item, key, np.arange(count) // 4, 1 / CHANCE[context, item], reward)


def policy(slates: Sequence[Sequence[int]], contexts: Sequence[int]) -> Policy:
    return Policy.of(slates, [{CONTEXTS[k]: 1.0} for k in contexts], ITEMS)


def test_a_policy_is_what_its_places_show_by_context() -> None:
    made = policy([[0, 1, 2], [0, 2, 1], [3, 4, 5]], [0, 0, 1])
    place = 1 / np.log2([2, 3, 4])
    place /= place.sum()
    assert made.mass[Exposures.key(CONTEXTS[0])] == pytest.approx(
        [place[0], place[1:].mean(), place[1:].mean(), 0, 0, 0]
    )
    assert made.share == pytest.approx({Exposures.key(CONTEXTS[0]): 2 / 3, Exposures.key(CONTEXTS[1]): 1 / 3})


def test_the_value_is_that_of_the_other_policy_and_its_interval_holds_it() -> None:
    new, old = policy([[2, 3, 0], [1, 3, 0]], [1, 0]), policy([[0, 4, 5], [0, 4, 5]], [1, 0])
    place = 1 / np.log2([2, 3, 4])
    place /= place.sum()
    truth = [
        sum(0.5 * place @ MEAN[context, slate] for context, slate in slates)
        for slates in (((1, [2, 3, 0]), (0, [1, 3, 0])), ((1, [0, 4, 5]), (0, [0, 4, 5])))
    ]
    held = 0
    for seed in range(60):
        seen = logged(seed, 2_000)
        values = value_of(new, seen), value_of(old, seen)
        gap = difference(*values, 0.95)
        assert [one.value for one in values] == pytest.approx(truth, abs=0.12)
        assert difference(values[0], values[0], 0.95).value == 0
        held += gap.low <= truth[0] - truth[1] <= gap.high
    assert held >= 48, "two one-sided 95 % bounds hold in 90 %: 54 of 60"
    assert value_of(new, logged(0)).effective < 4_000
    naive = logged(0, 20_000)
    shown = np.isin(naive.item, [2, 3, 0])
    assert abs(naive.reward[shown].mean() - truth[0]) > 0.02, "without propensities the answer is another one"


def test_nothing_shown_in_common_is_said_to_be_unknown() -> None:
    seen = logged(0, 50)
    only = replace(seen, item=np.zeros(50, np.int64))
    found = value_of(policy([[5]], [0]), only)
    assert np.isnan(found.value) and found.effective == 0


@pytest.fixture(scope="module")
def world() -> Planted:
    return plant(WORLDS["staged"].open(3, Knobs(pace=3.0)), 1_500, seed=3)


SETTINGS = Settings(dormancy=DormancySettings(days=30))
AT = START + timedelta(days=230)


class Guessing:
    """Stands for a backbone whose probabilities know nothing: its slates are what the bonus makes of them."""

    def __init__(self, _backbone: object, _market: object, _settings: object, showing: Showing) -> None:
        self.showing = showing

    def make(self, users: Sequence[str], at: datetime, reasoned: Mapping[str, Any] | None = None) -> list[list[int]]:
        random = np.random.default_rng(0)
        return [
            np.argsort(-(random.normal(0, 2, len(self.showing.category)) + self.showing.bonus(user, at)))[:10].tolist()
            for user in users
        ]

    def policy(
        self, slates: Sequence[Sequence[int]], users: Sequence[str], at: datetime, needs: Needs, ahead: Any
    ) -> Policy:
        contexts = [contexts_of(ahead, needs.of_user(user, at)) for user in users]
        return Policy.of(slates, contexts, len(self.showing.category))


def choose(planted: Planted, events: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> weighing.Weighing:
    events, items = events.filter(pl.col("time") < AT), planted.items.sort("item")
    monkeypatch.setattr(weighing, "Slates", Guessing)
    evidence = compute_evidence(events, items, at=AT)
    backbone: Any = SimpleNamespace(items=items)
    outlook = Outlook.of(events, items, AT, evidence.options, 60)
    return weighing.choose_weight(backbone, evidence, events, sample(events, AT, SETTINGS), AT, SETTINGS, outlook)


def test_effects_are_given_weight_where_showing_them_brought_orders(
    world: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = choose(world, world.events, monkeypatch)
    assert found.weight in SETTINGS.improve.effect_weights
    assert max(one["low"] for one in found.tried) > 0


def test_effects_get_no_weight_where_what_was_shown_had_nothing_to_do_with_what_came(
    world: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = pl.col("behaviour") == "expose"
    spoilt = world.events.sample(fraction=1.0, shuffle=True, seed=1)
    swapped = world.events.with_columns(
        item=pl.when(shown).then(spoilt["item"]).otherwise("item"),
        propensity=pl.when(shown).then(pl.lit(1 / 72)).otherwise("propensity"),
    )
    assert choose(world, swapped, monkeypatch).weight == 0
    bare = world.events.filter(~shown)
    found = choose(world, bare, monkeypatch)
    assert found.weight == 0 and "does not say what was shown" in found.reason


def test_the_state_of_a_user_is_that_of_the_evidence_and_knows_no_future(world: Planted) -> None:
    events, items = world.events.filter(pl.col("time") < AT), world.items.sort("item")
    needs = Needs.of(world.events, items, AT, compute_evidence(events, items, at=AT).options)
    last = {user: time for user, _, _, time in [(u, *rest) for u, rest in needs.last.items()]}
    assert max(last.values()) < AT
    user = next(iter(last))
    with pytest.raises(FutureError):
        needs.of_user(user, AT - timedelta(days=1))
    assert needs.of_user(user, AT + timedelta(days=400)) == (-1, 0) == needs.of_user("nobody", AT)


def test_what_lies_ahead_is_where_users_like_these_were_shown_things(world: Planted) -> None:
    items = world.items.sort("item")
    names = items["category"].unique().sort().to_list()
    options = compute_evidence(world.events.filter(pl.col("time") < AT), items, at=AT).options
    outlook = Outlook.of(world.events, items, AT, options, 60)
    ahead = outlook.ahead(names)
    assert all(sum(shares.values()) == pytest.approx(1) for shares in ahead.values())
    browsing = ahead[0, 1]
    assert browsing[0, 1] == max(browsing.values()), "most stay where they are"
    assert any(need == 0 and stage > 1 for need, stage in browsing), "some go on"
    now = Outlook.of(world.events, items, AT, options, 0.01).ahead(names)
    assert all(shares[context] == pytest.approx(1) for context, shares in now.items()), "at once, all is as it is"
    empty = Outlook.of(world.events.filter(pl.col("behaviour") != "expose"), items, AT, options, 60)
    assert empty.ahead(names) == {}
