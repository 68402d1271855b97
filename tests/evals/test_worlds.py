"""Planted worlds: what is planted is what happens, and what the log tells is what a shop would know."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from rolegen_agent.evidence import EvidenceOptions
from rolegen_agent.evidence.log import read_log
from rolegen_agent.evidence.states import with_states
from rolegen_evals.reasoning.effects import one_seed, options_of
from rolegen_evals.reasoning.roles import read_roles
from rolegen_evals.worlds import EASY, PLANTED, WORLDS, Knobs, plant, true_effects
from rolegen_evals.worlds.shop import DRAWS
from rolegen_evals.worlds.truth import follow

SMALL = Knobs(categories=3, days=60)


@pytest.mark.parametrize("world", WORLDS)
def test_a_seed_is_a_world(world: str) -> None:
    first, again, other = (plant(WORLDS[world].open(seed, SMALL), 60, seed=seed) for seed in (1, 1, 2))
    assert first.events.equals(again.events) and first.roles.equals(again.roles)
    assert not first.events.equals(other.events)
    assert set(first.roles["role"]) <= set(PLANTED)
    assert first.events["time"].max() < first.end + timedelta(days=3)  # type: ignore[operator]


@pytest.mark.parametrize("world", WORLDS)
def test_logged_propensities_are_those_of_the_policy(world: str) -> None:
    planted = plant(WORLDS[world].open(3, SMALL), 1500, seed=3)
    shown = planted.events.filter(pl.col("behaviour") == "expose")
    weights = shown.group_by("item").agg(total=(1 / pl.col("propensity")).sum())["total"].to_numpy()
    # Each item's inverse propensities add up to the number of exposures, whoever was shown what.
    assert weights / shown.height == pytest.approx(np.ones(len(planted.items)), abs=0.25)
    assert np.mean(weights / shown.height) == pytest.approx(1, abs=0.02)
    assert shown["propensity"].is_between(0, 1, closed="right").all()


@pytest.mark.parametrize("world", WORLDS)
def test_the_state_that_the_policy_knew_is_the_one_that_the_evidence_reads_off_the_log(world: str) -> None:
    shop = WORLDS[world].open(4, SMALL)
    planted = plant(shop, 80, seed=9)
    log = read_log(planted.events, planted.items, at=planted.end)
    options: EvidenceOptions = options_of(shop)
    # An order that was given back is none for the evidence, but at the time nobody knew.
    sent_back = planted.events.filter(pl.col("behaviour") == "refund")["user"].unique()
    keeps = planted.events["user"].unique().sort().to_frame().with_row_index("number")
    keeps = keeps.filter(~pl.col("user").is_in(sent_back.implode()))["number"]
    read = with_states(log.exposed, log.engaged, options).group_by("user", "stage").len().sort("user", "stage")
    read = read.filter(pl.col("user").is_in(keeps.implode()))
    assert read.height > 100
    # The same users step by step, as the simulation keeps them.
    random = np.random.default_rng([9, 3])
    crowd, number, counted = shop.newcomers(80, random), np.arange(80), []
    while len(number):
        uniform = random.random((DRAWS, len(number)))
        shown, _ = shop.show(crowd, uniform)
        before = crowd.take(np.arange(len(number)))
        happened = shop.act(before.mind, before.day, shown, uniform)
        for kind, item in shop.trail(shown, happened)[:2]:  # what stands in the log before the exposure
            before.seen.engage(item >= 0, item, shop.goods.category[item], kind, before.day, shop.active_days)
        stage = before.seen.state(before.day, shop.active_days)[1]
        counted.append(pl.DataFrame({"user": number, "stage": stage}).filter(pl.Series(shown >= 0)))
        shop.step(crowd, shown, uniform)
        crowd.day = crowd.day + shop.gap(uniform)
        still = np.flatnonzero(crowd.day < shop.days)
        crowd, number = crowd.take(still), number[still]
    kept = pl.concat(counted).with_columns(
        user=pl.col("user").rank("dense").cast(pl.UInt32) - 1, stage=pl.col("stage").cast(pl.Int8)
    )
    kept = kept.filter(pl.col("user").is_in(keeps.implode()))
    assert kept.group_by("user", "stage").len().sort("user", "stage").equals(read)


def test_doing_nothing_twice_is_the_same_twice_and_dispositions_act_in_their_states() -> None:
    shop = WORLDS["staged"].open(5, SMALL)
    random = np.random.default_rng(1)
    crowd = shop.newcomers(200, random)
    draws = [random.random((DRAWS, 200)) for _ in range(10)]
    nothing = np.full(200, -1)
    first, second = (follow(shop, crowd, nothing, draws).futures(shop.goods, np.zeros(200, np.int64)) for _ in range(2))
    assert np.array_equal(first.order, second.order) and np.array_equal(first.entry, second.entry)
    truth = true_effects(shop, moments=150, seed=5)

    def mean(role: str, state: str, outcome: str) -> float:
        rows = truth.filter(pl.col("role") == role, pl.col("state") == state, pl.col("outcome") == outcome)
        return float(rows["effect"].mean())  # type: ignore[arg-type]

    assert mean("trigger", "none", "entry") > 0.05 > abs(mean("incidental", "none", "entry"))
    assert mean("target", "deciding", "itself") > 0.1
    assert mean("comparison", "comparing", "order") > 0.01 > 0 > mean("comparison", "deciding", "order")
    assert abs(mean("incidental", "comparing", "order")) < 0.03


def test_doubly_robust_effects_rank_better_than_what_shops_commonly_count() -> None:
    found = one_seed("staged", 6, 4000, 100, replace(Knobs(), categories=3))
    ours = found["spearman", "dr"]
    assert ours > 0.45
    for rival in ("naive", "last_touch", "click_rate", "markov_removal", "permuted"):
        assert ours > found["spearman", rival] + 0.1, rival
    assert found["sign_accuracy", "dr"] > 0.8
    assert found["incidental_covers_0", "dr"] > 0.75


def test_roles_are_read_from_what_followed_and_from_what_items_do_to_everybody() -> None:
    truth, said = read_roles(plant(WORLDS["staged"].open(8, replace(EASY, categories=3)), 3000, seed=8), 200)
    right = {
        role: np.mean([s == role for t, s in zip(truth, said, strict=True) if t == role])
        for role in ("target", "incidental", "comparison")
    }
    assert min(right.values()) > 0.6
    assert np.mean([t == s for t, s in zip(truth, said, strict=True)]) > 0.7
