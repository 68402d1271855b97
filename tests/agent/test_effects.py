"""Effects by intent state: right where a hidden cause misleads every simple count, and honest about what they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rolegen_agent.evidence import EvidenceOptions, compute_evidence
from rolegen_agent.evidence.effects import _Cells, _weighted_median, centred_error, effects
from rolegen_agent.evidence.log import read_log

START = datetime(2030, 1, 1, tzinfo=UTC)
AT = START + timedelta(days=60)
OPTIONS = EvidenceOptions(active_days=10, horizon_days=14)
ITEMS = ("good", "bait", "plain", "other")
TRUE = {"good": 0.15, "bait": 0.0, "plain": 0.0, "other": 0.0}
"""how much likelier showing an item makes an order within the horizon"""


USERS = 6000


@cache
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Who is eager, what they are shown and how likely that was, and whether they buy."""
    random = np.random.default_rng(5)
    eager = random.random(USERS) < 0.5
    chance = np.where(eager[:, None], [0.1, 0.6, 0.15, 0.15], [0.4, 0.1, 0.25, 0.25])
    item = (chance.cumsum(axis=1) < random.random(USERS)[:, None]).sum(axis=1)
    buys = random.random(USERS) < np.where(eager, 0.5, 0.1) + np.array(list(TRUE.values()))[item]
    return eager, item, chance[np.arange(USERS), item], buys


@cache
def confounded() -> tuple[pl.DataFrame, pl.DataFrame]:
    """One exposure for each user. The eager, which the log does not name, are shown the bait and buy anyway."""
    _, item, chance, buys = drawn()
    random = np.random.default_rng(6)
    seconds = random.uniform(0, 40 * 86_400, USERS)
    shown = pl.DataFrame(
        {
            "user": [f"u{n:05d}" for n in range(USERS)],
            "item": [ITEMS[i] for i in item],
            "time": [START + timedelta(seconds=float(s)) for s in seconds],
            "behaviour": ["expose"] * USERS,
            "propensity": chance,
        }
    )
    bought = shown.filter(pl.Series(buys)).with_columns(
        time=pl.col("time") + timedelta(days=2),
        behaviour=pl.lit("order"),
        item=pl.lit("plain"),
        propensity=pl.lit(None, pl.Float64),
    )
    events = (
        pl.concat([shown, bought])
        .sort("user", "time")
        .with_row_index("event")
        .with_columns(
            event=pl.col("event").cast(pl.Int64),
            quantity=pl.lit(1.0),
            price=pl.lit(2.0),
            session=pl.lit(None, pl.String),
        )
    )
    items = pl.DataFrame({"item": list(ITEMS), "title": list(ITEMS), "category": ["c"] * 4, "price": [2.0] * 4})
    return events, items


def of_order(events: pl.DataFrame) -> dict[str, dict[str, float]]:
    table, _ = effects(read_log(events, confounded()[1], at=AT), OPTIONS)
    rows = table.filter(pl.col("outcome") == "order", pl.col("state") == "none").iter_rows(named=True)
    return {row["item"]: row for row in rows}


def test_logged_propensities_undo_what_the_log_does_not_name() -> None:
    events, _ = confounded()
    bought = set(events.filter(pl.col("behaviour") == "order")["user"])
    shown = events.filter(pl.col("behaviour") == "expose").with_columns(hit=pl.col("user").is_in(bought))
    naive = dict(shown.group_by("item").agg(pl.col("hit").mean()).iter_rows())
    assert naive["bait"] > naive["good"], "a simple count takes the bait"
    found = of_order(events)
    assert found["good"]["kind"] == "dr"
    for item, true in TRUE.items():
        assert found[item]["low"] <= true <= found[item]["high"], item
    assert found["good"]["low"] > 0.05
    assert abs(found["bait"]["value"]) < 0.06


def test_without_logged_propensities_they_are_modelled_and_cannot_undo_it() -> None:
    found = of_order(confounded()[0].with_columns(propensity=pl.lit(None, pl.Float64)))
    assert found["good"]["kind"] == "dr"
    assert found["bait"]["value"] > found["good"]["value"], "what steered the exposures is not in the log"


def test_without_exposures_it_is_called_an_association() -> None:
    events = confounded()[0].with_columns(
        behaviour=pl.when(pl.col("behaviour") == "expose").then(pl.lit("view")).otherwise("behaviour")
    )
    evidence = compute_evidence(events, confounded()[1], at=AT, options=OPTIONS)
    assert set(evidence.tables["effects"]["kind"]) == {"association"}
    assert set(evidence.kinds.values()) == {"association"} and not evidence.shown


def test_nothing_from_the_decision_time_on_is_counted() -> None:
    events, items = confounded()
    later = events.with_columns(time=pl.col("time") + timedelta(days=90), user=pl.lit("later"))
    before, after = (effects(read_log(rows, items, at=AT), OPTIONS)[0] for rows in (events, pl.concat([events, later])))
    assert before.equals(after)


def test_units_whose_horizon_is_open_do_not_count_as_without_an_order() -> None:
    events, items = confounded()
    early = START + timedelta(days=20)
    table, counts = effects(read_log(events, items, at=early), OPTIONS)
    assert (
        counts["effect_units"]
        == events.filter(pl.col("behaviour") == "expose", pl.col("time") <= early - timedelta(days=14)).height
    )
    assert table["support"].sum() > 0


def test_econml_agrees() -> None:
    """LinearDRLearner, told who is eager, against ours, which knows the propensities instead."""
    from econml.dr import LinearDRLearner
    from sklearn.linear_model import LinearRegression, LogisticRegression

    eager, item, _, buys = drawn()
    oracle = LinearDRLearner(
        model_propensity=LogisticRegression(),
        model_regression=LinearRegression(),
        categories=list(range(4)),
        random_state=0,
    )
    order = [2, 0, 1, 3]  # plain first: it is the control
    oracle.fit(buys.astype(float), np.array(order).argsort()[item], X=None, W=eager[:, None].astype(float))
    expected = {name: float(oracle.intercept_(T=place)) for place, name in ((1, "good"), (2, "bait"), (3, "other"))}
    found = of_order(confounded()[0])
    for name, effect in expected.items():
        assert found[name]["raw"] - found["plain"]["raw"] == pytest.approx(effect, abs=0.04), name


def test_evidence_tells_states_and_kinds_and_survives_the_disk(tmp_path: Path) -> None:
    events, items = confounded()
    evidence = compute_evidence(events, items, at=AT, options=OPTIONS)
    assert evidence.shown
    statistic = evidence.statistic("trigger", "good")
    assert statistic is not None and statistic.kind == "dr" and statistic.neutral == 0
    assert evidence.kinds["replenishment"] == "association"
    table = evidence.item_table("good")
    assert {"state", "kind"} <= set(table.columns)
    row = table.filter(pl.col("statistic") == "effect.order", pl.col("state") == "none").row(0, named=True)
    assert row["kind"] == "dr" and row["low"] > 0 and row["support"] > 100
    folder = tmp_path / "evidence"
    evidence.save(folder)
    again = type(evidence).load(folder)
    assert again.kinds == evidence.kinds
    assert again.item_table("good").equals(table)
    assert again.category_table("c").height >= table.height


def test_the_lines_of_one_basket_do_not_follow_one_another() -> None:
    """In a log of orders alone everybody buys two things at once, and nobody ever comes back."""
    rows = [
        {"user": f"u{n}", "item": item, "time": START + timedelta(days=n % 30)}
        for n in range(60)
        for item in ("good", "plain")
    ]
    events = (
        pl.DataFrame(rows)
        .with_row_index("event")
        .with_columns(
            event=pl.col("event").cast(pl.Int64),
            behaviour=pl.lit("order"),
            quantity=pl.lit(1.0),
            price=pl.lit(2.0),
            session=pl.lit(None, pl.String),
        )
    )
    table, _ = effects(read_log(events, confounded()[1], at=AT), OPTIONS)
    assert set(table["state"]) == {"none"}, "no line of a basket was bought before another"
    assert table["base"].max() == 0.0, "no line of a basket is the order that followed another"  # type: ignore[operator]


def test_effects_that_count_from_their_median_carry_its_error() -> None:
    """Against draws: cells of different precision around different true effects."""
    random = np.random.default_rng(3)
    error = np.repeat([0.01, 0.02, 0.04], 20)
    true = np.tile(np.linspace(-0.04, 0.04, 20), 3)
    drawn = true + random.normal(0, 1, (4_000, len(error))) * error
    centred = drawn - np.array([_weighted_median(row, 1 / error) for row in drawn])[:, None]
    measured = centred.std(axis=0)
    told = centred_error(true - _weighted_median(true, 1 / error), error)
    assert np.abs(told / measured - 1).max() < 0.06
    precise = np.argmax(measured / error)
    assert error[precise] == 0.01 and measured[precise] > 1.02 * error[precise], "and that is more than their own error"


def test_a_user_who_carries_a_cell_makes_it_uncertain() -> None:
    random = np.random.default_rng(2)
    weight = np.r_[30.0, np.ones(19)]
    cells = _Cells.of(pl.DataFrame({"item": [0] * 20, "state": [0] * 20, "user": list(range(20))}), weight)
    squares = [cells.mean(random.normal(0, 1, 20))[1][0] ** 2 for _ in range(2_000)]
    true = np.sqrt((weight**2).sum()) / weight.sum()
    assert np.sqrt(np.mean(squares)) == pytest.approx(true, rel=0.1), "without the share it would be 0.6 of that"
