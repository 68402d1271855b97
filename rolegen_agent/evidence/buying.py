"""Gateway, replenishment and target: what the orders of an item are followed by.

Functions that end in ``_rows`` read the events of users, each user by itself, without looking at the as-of time; the others make
a table of such rows, and count only those whose horizon is over by then. ``ledger.py`` says why.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from .log import Log, Scope
from .options import EvidenceOptions
from .rates import lift_table


def gateway_rows(log: Log, options: EvidenceOptions) -> pl.DataFrame:
    """The first order of each user: user, item, time, hit (another one within ``return_days``)."""
    baskets = (
        log.orders.group_by("user", "basket", maintain_order=True)
        .agg(pl.col("time").min())
        .with_columns(next_time=pl.col("time").shift(-1).over("user"))
        .group_by("user", maintain_order=True)
        .first()
    )
    hit = (pl.col("next_time") - pl.col("time") <= timedelta(days=options.return_days)).fill_null(False)
    return (
        log.orders.select("basket", "item")
        .join(baskets.select("user", "basket", "time", hit=hit), on="basket", how="inner")
        .select("user", "item", "time", "hit")
    )


def gateway(rows: pl.DataFrame, scope: Scope, options: EvidenceOptions) -> pl.DataFrame:
    """P(another order within ``return_days`` | item in the first order), over that of all first orders.

    The first order in the log stands for the user's first one; older customers of a log that starts late blur it.
    """
    over = rows.filter(pl.col("time") <= scope.at - timedelta(days=options.return_days))
    return lift_table(over, scope, floor=options.min_support, base="all")


def replenishment_rows(log: Log, options: EvidenceOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What each user bought: user, item, time (of the first purchase), hit (bought again within ``rebuy_days``), cv (of the intervals, null for
    fewer than two); and the intervals: user, item, time (when it ended), interval (days)."""
    bought = log.orders.select("user", "item", "day", "time").sort("user", "item", "day")
    again = pl.struct("user", "item").rle_id()
    between = bought.with_columns(pair=again).with_columns(
        interval=pl.when(pl.col("pair") == pl.col("pair").shift(1)).then(
            (pl.col("day") - pl.col("day").shift(1)).dt.total_days()
        )
    )
    intervals = between.filter(pl.col("interval").is_not_null()).select(
        "user", "item", "time", "pair", interval=pl.col("interval").cast(pl.Int32)
    )
    # Variance from sums: whole days are exact in them, and windows over a million groups would take seconds.
    spread = (
        intervals.group_by("pair")
        .agg(
            n=pl.len().cast(pl.Float64),
            total=pl.col("interval").sum().cast(pl.Float64),
            squares=pl.col("interval").cast(pl.Float64).pow(2).sum(),
            first_interval=pl.col("interval").first(),
        )
        .with_columns(
            cv=pl.when(pl.col("n") > 1).then(
                ((pl.col("squares") - pl.col("total").pow(2) / pl.col("n")).clip(0) / (pl.col("n") - 1)).sqrt()
                * pl.col("n")
                / pl.col("total")
            )
        )
    )
    pairs = (
        between.filter(pl.col("interval").is_null())
        .join(spread.select("pair", "first_interval", "cv"), on="pair", how="left")
        .select("user", "item", "time", "cv", hit=(pl.col("first_interval") <= options.rebuy_days).fill_null(False))
    )
    return pairs, intervals.drop("pair")


def replenishment(pairs: pl.DataFrame, intervals: pl.DataFrame, scope: Scope, options: EvidenceOptions) -> pl.DataFrame:
    """Share of an item's buyers who buy it again within ``rebuy_days``, over that of all items.

    ``interval_days`` is the median interval between purchases of one buyer, ``cv`` the mean coefficient of variation
    of a buyer's intervals (0 = a clock, about 1 = random) over ``regular_buyers`` with at least two intervals.
    """
    over = pairs.filter(pl.col("time") <= scope.at - timedelta(days=options.rebuy_days))
    table = lift_table(over, scope, floor=options.min_support, base="all")
    rhythm = (
        pairs.group_by("item")
        .agg(cv=pl.col("cv").mean(), regular_buyers=pl.col("cv").count().cast(pl.Int64))
        .join(intervals.group_by("item").agg(interval_days=pl.col("interval").median()), on="item", how="left")
        .join(scope.items.select(item="code", id="item"), on="item")
        .select("interval_days", "cv", "regular_buyers", item="id")
    )
    return table.join(rhythm, on="item", how="left", maintain_order="left")


def target_rows(log: Log, options: EvidenceOptions) -> pl.DataFrame:
    """user, item, time, hit: first engagements and whether an order followed, or orders and whether they ended the buying."""
    if not log.has_views:
        baskets = (
            log.orders.group_by("user", "basket", maintain_order=True)
            .agg(pl.col("time").min())
            .with_columns(gap=pl.col("time").shift(-1).over("user") - pl.col("time"))
        )
        hit = pl.col("gap").is_null() | (pl.col("gap") > timedelta(days=options.return_days))
        return (
            log.orders.select("basket", "item")
            .join(baskets.select("user", "basket", "time", hit=hit), on="basket", how="inner")
            .select("user", "item", "time", "hit")
        )
    ordered = pl.col("time").filter(pl.col("kind") == "order").min()
    hit = (pl.col("ordered") - pl.col("time") <= timedelta(days=options.horizon_days)).fill_null(False)
    return (
        log.engaged.group_by("user", "item")
        .agg(pl.col("time").min(), ordered=ordered)
        .select("user", "item", "time", hit=hit)
    )


def target(rows: pl.DataFrame, scope: Scope, options: EvidenceOptions) -> pl.DataFrame:
    """Closing rate: P(item ordered within the horizon | engaged with it), over that of all items.

    A log of orders alone has no engagement without an order. There the statistic is the share of the item's orders
    that ended the buying (no order for ``return_days`` after), and is named so: see ``target_name``.
    """
    days = options.horizon_days if scope.has_views else options.return_days
    over = rows.filter(pl.col("time") <= scope.at - timedelta(days=days))
    return lift_table(over, scope, floor=options.min_support, base="all")


def target_name(scope: Scope) -> str:
    """The honest name of the statistic that ``target`` gives for this log."""
    return "target.closing_rate" if scope.has_views else "target.terminal_order_share"
