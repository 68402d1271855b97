"""Gateway, replenishment and target: what the orders of an item are followed by."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from .log import Log
from .options import EvidenceOptions
from .rates import lift_table


def gateway(log: Log, options: EvidenceOptions) -> pl.DataFrame:
    """P(another order within ``return_days`` | item in the first order), over that of all first orders.

    The first order in the log stands for the user's first one; older customers of a log that starts late blur it.
    """
    horizon = timedelta(days=options.return_days)
    baskets = (
        log.orders.group_by("user", "basket", maintain_order=True)
        .agg(pl.col("time").min())
        .with_columns(next_time=pl.col("time").shift(-1).over("user"))
        .group_by("user", maintain_order=True)
        .first()
        .filter(pl.col("time") <= log.at - horizon)
    )
    hit = (pl.col("next_time") - pl.col("time") <= horizon).fill_null(False)
    trials = log.orders.select("basket", "item").join(baskets.select("basket", hit=hit), on="basket", how="inner")
    return lift_table(trials, log, floor=options.min_support, base="all")


def replenishment(log: Log, options: EvidenceOptions) -> pl.DataFrame:
    """Share of an item's buyers who buy it again within ``rebuy_days``, over that of all items.

    ``interval_days`` is the median interval between purchases of one buyer, ``cv`` the mean coefficient of variation
    of a buyer's intervals (0 = a clock, about 1 = random) over ``regular_buyers`` with at least two intervals.
    """
    horizon = timedelta(days=options.rebuy_days)
    bought = log.orders.sort("user", "item", "day").with_columns(
        interval=(pl.col("day").shift(-1).over("user", "item") - pl.col("day")).dt.total_days()
    )
    pairs = bought.group_by("user", "item", maintain_order=True).agg(
        first=pl.col("time").first(),
        hit=(pl.col("interval").first() <= options.rebuy_days).fill_null(False),
        cv=pl.col("interval").std() / pl.col("interval").mean(),
    )
    table = lift_table(
        pairs.filter(pl.col("first") <= log.at - horizon).select("item", "hit"),
        log,
        floor=options.min_support,
        base="all",
    )
    rhythm = (
        bought.group_by("item")
        .agg(interval_days=pl.col("interval").median())
        .join(
            pairs.group_by("item").agg(cv=pl.col("cv").mean(), regular_buyers=pl.col("cv").count().cast(pl.Int64)),
            on="item",
        )
        .join(log.items.select(item="code", id="item"), on="item")
        .select("interval_days", "cv", "regular_buyers", item="id")
    )
    return table.join(rhythm, on="item", how="left", maintain_order="left")


def target(log: Log, options: EvidenceOptions) -> pl.DataFrame:
    """Closing rate: P(item ordered within the horizon | engaged with it), over that of all items.

    A log of orders alone has no engagement without an order. There the statistic is the share of the item's orders
    that ended the buying (no order for ``return_days`` after), and is named so: see ``target_name``.
    """
    if not log.has_views:
        horizon = timedelta(days=options.return_days)
        baskets = (
            log.orders.group_by("user", "basket", maintain_order=True)
            .agg(pl.col("time").min())
            .with_columns(gap=pl.col("time").shift(-1).over("user") - pl.col("time"))
            .filter(pl.col("time") <= log.at - horizon)
        )
        hit = pl.col("gap").is_null() | (pl.col("gap") > horizon)
        trials = log.orders.select("basket", "item").join(baskets.select("basket", hit=hit), on="basket", how="inner")
        return lift_table(trials, log, floor=options.min_support, base="all")
    horizon = timedelta(days=options.horizon_days)
    pairs = (
        log.engaged.group_by("user", "item")
        .agg(start=pl.col("time").min(), ordered=pl.col("time").filter(pl.col("kind") == "order").min())
        .filter(pl.col("start") <= log.at - horizon)
    )
    hit = (pl.col("ordered") - pl.col("start") <= horizon).fill_null(False)
    return lift_table(pairs.select("item", hit=hit), log, floor=options.min_support, base="all")


def target_name(log: Log) -> str:
    """The honest name of the statistic that ``target`` gives for this log."""
    return "target.closing_rate" if log.has_views else "target.terminal_order_share"
