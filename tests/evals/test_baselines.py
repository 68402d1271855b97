"""Baselines by hand on a tiny log, on the real one, and against leaks from the future."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from rolegen_agent.outcomes import first_order_baskets
from rolegen_errors import InputError
from rolegen_evals import frequency, popularity, scores

AT = datetime(2011, 9, 1, tzinfo=UTC)
Row = tuple[str, str, float, str, float, float | None]


def log(*rows: Row) -> pl.DataFrame:
    """Events from (user, item, days relative to AT, behaviour, quantity, price)."""
    return pl.DataFrame(
        {
            "event": range(len(rows)),
            "user": [r[0] for r in rows],
            "item": [r[1] for r in rows],
            "time": [AT + timedelta(days=r[2]) for r in rows],
            "behaviour": [r[3] for r in rows],
            "quantity": [r[4] for r in rows],
            "price": [r[5] for r in rows],
        },
        schema_overrides={"time": pl.Datetime("us", "UTC"), "quantity": pl.Float64, "price": pl.Float64},
    )


def order(user: str, item: str, day: float, quantity: float = 1.0, price: float | None = 1.0) -> Row:
    return (user, item, day, "order", quantity, price)


def test_popularity_counts_baskets_of_the_window_then_of_the_whole_history() -> None:
    events = log(
        order("u", "mug", -3),
        order("u", "mug", -2.9),  # the same basket: one user, one day
        order("v", "tray", -2),
        order("w", "tray", -20),
        order("u", "lamp", -100),
        order("v", "lamp", -90),
        order("w", "clock", -80),
        ("u", "clock", -1, "view", 1, 1.0),
    )
    assert popularity(events, AT, ["u", "x"], 10) == {user: ["tray", "mug", "lamp", "clock"] for user in ("u", "x")}
    assert popularity(events, AT, ["u"], 1, days=10) == {"u": ["tray"]}  # one each: all history decides
    assert popularity(events, AT, ["u"], 2, available=["lamp", "clock"]) == {"u": ["lamp", "clock"]}


def test_frequency_counts_days_then_prefers_the_latest_then_the_popular() -> None:
    events = log(
        order("u", "mug", -300),
        order("u", "mug", -200),
        order("u", "old", -250),
        order("u", "new", -100),
        order("v", "hit", -1),
        order("u", "hit2", -100),
        order("v", "hit2", -1),
        order("w", "hit2", -2),
    )
    slates = frequency(events, AT, ["u", "nobody"], 6)
    assert slates["u"] == ["mug", "hit2", "new", "old", "hit"]
    assert slates["nobody"] == popularity(events, AT, ["nobody"], 6)["nobody"]
    assert frequency(events, AT, ["u"], 2, available=["old", "hit"]) == {"u": ["old", "hit"]}


@pytest.mark.parametrize("baseline", [popularity, frequency])
def test_nothing_at_or_after_the_decision_reaches_a_slate(
    baseline: Callable[..., dict[str, list[str]]],
) -> None:
    past = log(order("u", "mug", -3), order("v", "tray", -2))
    marker = log(*[order(f"m{i}", "MARKER", 0) for i in range(9)], order("u", "MARKER", 0), order("u", "MARKER", 5))
    assert baseline(pl.concat([past, marker]), AT, ["u", "v"], 10) == baseline(past, AT, ["u", "v"], 10)


def test_a_basket_reads_nothing_before_the_decision_nor_after_the_horizon() -> None:
    events = log(
        order("u", "early", -0.001),
        order("u", "mug", 0),
        order("v", "late", 30),
        order("w", "edge", 29.999),
        order("stranger", "mug", 1),
    )
    baskets = first_order_baskets(events, AT, 30, ["v", "w", "u"])
    assert {user: basket.items for user, basket in baskets.items()} == {"w": ["edge"], "u": ["mug"]}
    assert baskets["u"].ordered_at == AT


def test_a_basket_is_the_whole_first_day_with_distinct_items() -> None:
    events = log(
        order("u", "mug", 2.5, 3, 2.0),
        order("u", "mug", 2.6, 1, 2.0),
        order("u", "tray", 2.7, 1, None),
        order("u", "lamp", 3.1, 1, 50.0),
    )
    assert first_order_baskets(events, AT, 30, ["u"]) == {"u": (AT + timedelta(days=2.5), ["mug", "tray"], 8.0)}


def test_refunds_undo_the_earliest_orders_of_the_horizon() -> None:
    def refund(user: str, item: str, day: float, quantity: float) -> Row:
        return (user, item, day, "refund", quantity, 1.0)

    events = log(
        # all of the first day comes back, so the second day is the first net order
        order("u", "mug", 1, 5),
        refund("u", "mug", 4, 5),
        order("u", "tray", 10),
        # part of a quantity comes back: the item stays, its value shrinks
        order("v", "mug", 1, 5, 2.0),
        refund("v", "mug", 4, 2),
        # the refund of something bought before the decision does not touch the order that follows
        refund("w", "mug", 1, 7),
        order("w", "mug", 2, 1),
        # everything comes back: no net order at all
        order("x", "mug", 1, 2),
        refund("x", "mug", 2, 1),
        refund("x", "mug", 3, 1),
        # a refund after the horizon is not known within it
        order("y", "mug", 1, 1),
        refund("y", "mug", 31, 1),
        # the refund is used up by the first order
        order("z", "mug", 1, 2),
        order("z", "mug", 5, 2, 3.0),
        refund("z", "mug", 6, 3),
    )
    found = first_order_baskets(events, AT, 30, list("uvwxyz"))
    assert {u: (b.ordered_at - AT).days for u, b in found.items()} == {"u": 10, "v": 1, "w": 2, "y": 1, "z": 5}
    assert found["v"].value == pytest.approx(6.0)
    assert found["z"].value == pytest.approx(3.0)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InputError, match=r"no time ?zone"):
        popularity(log(order("u", "mug", -1)), AT.replace(tzinfo=None), ["u"], 1)
    with pytest.raises(InputError, match=r"no time ?zone"):
        first_order_baskets(log(order("u", "mug", 1)), AT.replace(tzinfo=None), 30, ["u"])


def test_returns_after_dormancy_in_the_bundled_shop(shop_events: pl.DataFrame) -> None:
    """The figures of evals/LOG.md: they move only when a baseline, a metric or the data changes."""
    last = (
        shop_events.filter(pl.col("behaviour") == "order", pl.col("time") < AT)
        .group_by("user")
        .agg(pl.col("time").max())
    )
    users = last.filter(pl.col("time") < AT - timedelta(days=90))["user"].to_list()
    baskets = {user: b.items for user, b in first_order_baskets(shop_events, AT, 90, users).items()}
    assert (len(users), len(baskets)) == (3305, 928)
    by_popularity = scores(popularity(shop_events, AT, users, 10), baskets)
    by_frequency = scores(frequency(shop_events, AT, users, 10), baskets)
    assert by_popularity.hit1.mean() == pytest.approx(0.0808, abs=1e-4)
    assert by_frequency.hit1.mean() == pytest.approx(0.3416, abs=1e-4)
    assert by_frequency.recall.mean() == pytest.approx(0.2249, abs=1e-4)


def test_the_future_of_the_bundled_shop_changes_no_slate(shop_slice: pl.DataFrame) -> None:
    users = shop_slice["user"].unique(maintain_order=True).to_list()
    past = shop_slice.filter(pl.col("time") < AT)
    assert past.height < shop_slice.height
    for baseline in (popularity, frequency):
        assert baseline(shop_slice, AT, users, 10) == baseline(past, AT, users, 10)
