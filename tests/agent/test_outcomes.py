"""What users did after a decision, on logs small enough to know the answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from rolegen_agent.outcomes import first_order_baskets, outcomes_of
from rolegen_errors import InputError

AT = datetime(2024, 5, 1, tzinfo=UTC)
Row = tuple[str, str, float, str, float, float | None]


def log(*rows: Row) -> pl.DataFrame:
    """Rows of (user, item, days after AT, behaviour, quantity, price)."""
    return pl.DataFrame(
        [
            (user, item, AT + timedelta(days=days), what, pieces, price)
            for user, item, days, what, pieces, price in rows
        ],
        schema={
            "user": pl.String,
            "item": pl.String,
            "time": pl.Datetime("us", "UTC"),
            "behaviour": pl.String,
            "quantity": pl.Float64,
            "price": pl.Float64,
        },
        orient="row",
    )


def test_the_first_order_day_counts_with_all_that_was_bought_on_it() -> None:
    events = log(
        ("ann", "cup", 3.4, "order", 2, 5.0),
        ("ann", "mug", 3.5, "order", 1, 3.0),
        ("ann", "pan", 9, "order", 1, 30.0),
        ("bob", "cup", 3, "view", 1, 5.0),
    )
    found = first_order_baskets(events, AT, 90, ["ann", "bob"])
    assert list(found) == ["ann"]
    assert found["ann"] == (AT + timedelta(days=3.4), ["cup", "mug"], 13.0)


@pytest.mark.parametrize(("days", "counts"), [(-0.001, False), (0, True), (89.999, True), (90, False)])
def test_the_horizon_begins_at_the_decision_and_ends_before_its_last_moment(days: float, counts: bool) -> None:
    found = first_order_baskets(log(("ann", "cup", days, "order", 1, 1.0)), AT, 90, ["ann"])
    assert ("ann" in found) is counts


def test_what_was_refunded_was_not_bought() -> None:
    events = log(
        ("ann", "cup", 2, "order", 2, 5.0),
        ("ann", "mug", 2, "order", 2, 4.0),
        ("ann", "cup", 5, "refund", 2, 5.0),
        ("ann", "mug", 5, "refund", 1, 4.0),
    )
    assert first_order_baskets(events, AT, 90, ["ann"])["ann"] == (AT + timedelta(days=2), ["mug"], 4.0)


def test_a_day_that_was_refunded_whole_is_no_order_and_the_next_one_counts() -> None:
    events = log(
        ("ann", "cup", 2, "order", 1, 5.0),
        ("ann", "cup", 4, "refund", 1, 5.0),
        ("ann", "pan", 7, "order", 1, None),
    )
    assert first_order_baskets(events, AT, 90, ["ann"])["ann"] == (AT + timedelta(days=7), ["pan"], 0.0)


def test_a_refund_of_something_bought_before_the_decision_takes_nothing_away() -> None:
    events = log(
        ("ann", "cup", -5, "order", 1, 5.0),
        ("ann", "cup", 1, "refund", 1, 5.0),
        ("ann", "cup", 6, "order", 1, 5.0),
    )
    assert first_order_baskets(events, AT, 90, ["ann"])["ann"].items == ["cup"]


def test_no_order_is_final_only_when_the_log_reaches_the_end_of_the_horizon() -> None:
    events = log(("ann", "cup", 2, "order", 1, 5.0), ("bob", "cup", 2, "view", 1, 5.0))
    keys = {"ann": "d1", "bob": "d2"}
    early = outcomes_of(events, keys, AT, 90, AT + timedelta(days=30))
    assert [(o.decision, o.user, o.final, o.items) for o in early] == [
        ("d1", "ann", True, ("cup",)),
        ("d2", "bob", False, ()),
    ]
    late = outcomes_of(events, keys, AT, 90, AT + timedelta(days=90))
    assert [o.final for o in late] == [True, True] and late[1].ordered_at is None


def test_an_order_that_was_given_back_says_when_and_stays_open_within_the_horizon() -> None:
    events = log(
        ("ann", "cup", 2, "order", 1, 5.0), ("ann", "cup", 4, "refund", 1, 5.0), ("bob", "cup", 4, "refund", 1, 5.0)
    )
    ann, bob = outcomes_of(events, {"ann": "d1", "bob": "d2"}, AT, 90, AT + timedelta(days=30))
    assert (ann.ordered_at, ann.final, ann.refunded_at) == (None, False, AT + timedelta(days=4))
    assert ann.known_at == AT + timedelta(days=30)
    assert bob.refunded_at is None, "he gave back what he had bought before"


def test_what_was_engaged_with_counts_up_to_the_order_and_only_where_the_log_watches() -> None:
    events = log(
        ("ann", "mug", -1, "view", 1, None),
        ("ann", "cup", 1, "view", 1, None),
        ("ann", "pan", 2, "expose", 1, None),
        ("ann", "cup", 3, "order", 1, 5.0),
        ("ann", "lid", 4, "view", 1, None),
        ("bob", "lid", 4, "cart", 1, None),
    )
    keys = {"ann": "d1", "bob": "d2", "cid": "d3"}
    seen = outcomes_of(events, keys, AT, 90, AT + timedelta(days=90), watched=True)
    assert [one.engaged for one in seen] == [("cup",), ("lid",), ()]
    blind = outcomes_of(events, keys, AT, 90, AT + timedelta(days=90))
    assert [one.engaged for one in blind] == [None, None, None]


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(InputError, match="no time zone"):
        first_order_baskets(log(), AT.replace(tzinfo=None), 90, ["ann"])
