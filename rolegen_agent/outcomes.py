"""What users did after a decision, from the log: the facts that a slate is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl

from rolegen_errors import InputError
from rolegen_graphs.words import Outcome


class Basket(NamedTuple):
    """The first net order of a user: the time of its first row, its distinct items, and its net value."""

    ordered_at: datetime
    items: list[str]
    value: float


def first_order_baskets(
    events: pl.DataFrame, at: datetime, horizon_days: float, users: Sequence[str]
) -> dict[str, Basket]:
    """What each user bought on the first day with a net order in ``[at, at + horizon_days)``; who did not is absent.

    Refunds of the horizon are set against the user's orders of that item in the horizon, earliest order day first,
    unless they are older than all of these orders (then they undo a purchase from before ``at``). An item whose whole
    quantity of that day was refunded is left out; a day on which nothing is left is no order, and the next day counts.
    ``value`` is quantity times price of what was kept, in the log's currency; rows without a price add nothing.
    """
    if at.tzinfo is None:
        raise InputError(f"the decision time {at} has no time zone", fix="pass an aware datetime")
    window = events.filter(
        pl.col("user").is_in(list(users)),
        pl.col("time") >= at,
        pl.col("time") < at + timedelta(days=horizon_days),
    )
    ordered = (
        window.filter(pl.col("behaviour") == "order")
        .with_columns(pl.col("time").dt.truncate("1d").alias("day"))
        .group_by("user", "item", "day")
        .agg(
            pl.col("time").min().alias("first"),
            pl.col("quantity").sum(),
            (pl.col("quantity") * pl.col("price").fill_null(0.0)).sum().alias("value"),
        )
    )
    refunded = (
        window.filter(pl.col("behaviour") == "refund")
        .join(ordered.group_by("user", "item").agg(pl.col("first").min()), on=["user", "item"])
        .filter(pl.col("time") >= pl.col("first"))
        .group_by("user", "item")
        .agg(pl.col("quantity").sum().alias("refunded"))
    )
    kept = (
        ordered.join(refunded, on=["user", "item"], how="left")
        .sort("user", "item", "day")
        .with_columns(
            (pl.col("quantity").cum_sum().over("user", "item") - pl.col("quantity")).alias("before"),
            pl.col("refunded").fill_null(0.0),
        )
        .with_columns((pl.col("quantity") - (pl.col("refunded") - pl.col("before")).clip(0.0)).clip(0.0).alias("kept"))
        .filter(pl.col("kept") > 0.0)
    )
    first_day = (
        kept.filter(pl.col("day") == pl.col("day").min().over("user"))
        .sort("user", "first", "item")
        .group_by("user", maintain_order=True)
        .agg(pl.col("first").min(), pl.col("item"), (pl.col("value") * pl.col("kept") / pl.col("quantity")).sum())
    )
    found = {user: Basket(first, items, value) for user, first, items, value in first_day.iter_rows()}
    return {user: found[user] for user in users if user in found}


def outcomes_of(
    events: pl.DataFrame,
    decisions: Mapping[str, str],
    at: datetime,
    horizon_days: float,
    log_end: datetime,
    *,
    watched: bool = False,
) -> list[Outcome]:
    """The outcome of each decision at ``at``, as far as the log goes.

    Args:
        events: at least the events from ``at`` on of these users.
        decisions: user -> decision id.
        log_end: time of the log's last event. Where it lies before the end of the horizon, "no order" is not final: it
            may still come.
        watched: the log has views or carts, so that what was not engaged with is known too.
    """
    final = log_end >= at + timedelta(days=horizon_days)
    bought = first_order_baskets(events, at, horizon_days, list(decisions))
    window = events.filter(
        pl.col("user").is_in(list(decisions)),
        pl.col("time") >= at,
        pl.col("time") < at + timedelta(days=horizon_days),
    ).with_columns(pl.col("behaviour").cast(pl.String))
    undone = _undone(window, bought)
    engaged = _engaged(window, bought) if watched else {}
    return [
        Outcome(
            decision=decision,
            user=user,
            ordered_at=basket.ordered_at if basket else None,
            items=tuple(basket.items) if basket else (),
            value=basket.value if basket else 0.0,
            final=final or basket is not None,
            known_at=log_end,
            refunded_at=undone.get(user),
            engaged=engaged.get(user, ()) if watched else None,
        )
        for user, decision in decisions.items()
        for basket in (bought.get(user),)
    ]


def _undone(window: pl.DataFrame, bought: Mapping[str, Basket]) -> dict[str, datetime]:
    """When the last refund came of users who ordered and kept nothing."""
    orderers = window.filter(pl.col("behaviour") == "order")["user"].unique().to_list()
    empty = [user for user in orderers if user not in bought]
    refunds = window.filter((pl.col("behaviour") == "refund") & pl.col("user").is_in(empty))
    return dict(refunds.group_by("user").agg(pl.col("time").max()).iter_rows())


def _engaged(window: pl.DataFrame, bought: Mapping[str, Basket]) -> dict[str, tuple[str, ...]]:
    """Distinct items looked at, put into the cart or ordered, up to the order where there is one."""
    until = pl.DataFrame(
        {"user": list(bought), "until": [basket.ordered_at for basket in bought.values()]},
        schema={"user": pl.String, "until": pl.Datetime("us", "UTC")},
    )
    found = (
        window.filter(pl.col("behaviour").is_in(["view", "cart", "order"]))
        .join(until, on="user", how="left")
        .filter(pl.col("until").is_null() | (pl.col("time") <= pl.col("until")))
        .group_by("user")
        .agg(pl.col("item").unique().sort())
    )
    return {user: tuple(items) for user, items in found.iter_rows()}
