"""What a sceptic tries first: popularity and personal purchase frequency.

All functions read canonical events: a polars frame with the columns ``event``, ``user``, ``item``, ``time``
(microseconds, UTC), ``behaviour`` (``order``, ``refund``, ...), ``quantity`` and ``price`` per unit.
A recommendation reads only events strictly before ``at``.
A *basket* is all that one user ordered on one UTC day.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import polars as pl

from rolegen_errors import InputError


def popularity(
    events: pl.DataFrame,
    at: datetime,
    users: Sequence[str],
    size: int,
    *,
    days: int = 28,
    available: Collection[str] | None = None,
) -> dict[str, list[str]]:
    """The items in most baskets of the ``days`` before ``at``, the same slate for every user.

    Ties, and items that nobody bought in the window, go by baskets in the whole history and then by item id.

    Args:
        events: canonical events; those at or after ``at`` are not read.
        at: decision time, with a timezone.
        users: who gets a slate.
        size: items in a slate; fewer only if fewer items were ever ordered.
        days: length of the window.
        available: the only items that may be shown; all that were ordered before ``at`` by default.
    """
    slate = _ranking(_baskets_before(events, at, available), at, days)[:size]
    return {user: list(slate) for user in users}


def frequency(
    events: pl.DataFrame,
    at: datetime,
    users: Sequence[str],
    size: int,
    *,
    days: int = 28,
    available: Collection[str] | None = None,
) -> dict[str, list[str]]:
    """The items in most of the user's own baskets before ``at``; ties go to the latest day, then to the popular.

    What is left of the slate is filled by :func:`popularity`, so a user without an order gets that slate.
    Arguments as in :func:`popularity`.
    """
    baskets = _baskets_before(events, at, available)
    ranking = _ranking(baskets, at, days)
    rank = pl.DataFrame({"item": ranking, "rank": range(len(ranking))}, schema={"item": pl.String, "rank": pl.Int64})
    own = (
        baskets.filter(pl.col("user").is_in(list(users)))
        .group_by("user", "item")
        .agg(pl.len().alias("baskets"), pl.col("day").max())
        .join(rank, on="item")
        .sort("user", "baskets", "day", "rank", descending=[False, True, True, False])
        .group_by("user", maintain_order=True)
        .agg(pl.col("item").head(size))
    )
    bought: dict[str, list[str]] = dict(own.iter_rows())
    return {user: _filled(bought.get(user, []), ranking, size) for user in users}


def _baskets_before(events: pl.DataFrame, at: datetime, available: Collection[str] | None) -> pl.DataFrame:
    """Distinct (user, item, day) of the orders strictly before ``at``, with the ``last`` time of each."""
    _check_time(at)
    orders = events.filter(pl.col("time") < at, pl.col("behaviour") == "order")
    if available is not None:
        orders = orders.filter(pl.col("item").is_in(list(available)))
    day = pl.col("time").dt.truncate("1d").alias("day")
    return orders.group_by("user", "item", day).agg(pl.col("time").max().alias("last"))


def _ranking(baskets: pl.DataFrame, at: datetime, days: int) -> list[str]:
    since = at - timedelta(days=days)
    items = (
        baskets.group_by("item")
        .agg((pl.col("last") >= since).sum().alias("recent"), pl.len().alias("ever"))
        .sort("recent", "ever", "item", descending=[True, True, False])
    )
    return items["item"].to_list()


def _filled(own: list[str], ranking: Sequence[str], size: int) -> list[str]:
    slate = own[:size]
    taken = set(slate)
    for item in ranking:
        if len(slate) >= size:
            break
        if item not in taken:
            slate.append(item)
    return slate


def _check_time(at: datetime) -> None:
    if at.tzinfo is None:
        raise InputError(
            f"the decision time {at.isoformat()} has no timezone", fix="pass an aware datetime, for instance in UTC"
        )
