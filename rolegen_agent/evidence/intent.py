"""Trigger and bridge: what an item does to the user's intent states.

A (user, category) pair is active for ``active_days`` after an engagement. *Entering* a category means engaging in it
while it is not active.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from .log import Log
from .options import EvidenceOptions
from .rates import lift_table
from .shrink import Z, gamma_strength


def entries(log: Log, options: EvidenceOptions) -> pl.DataFrame:
    """One row for each (user, category, visit): time, ``entering`` and the time of the next one in that category."""
    gap = pl.col("time") - pl.col("time").shift(1).over("user", "category")
    return (
        log.engaged.select("user", "category", "visit", "time")
        .unique(maintain_order=True)
        .sort("user", "category", "time")
        .with_columns(
            entering=gap.is_null() | (gap > timedelta(days=options.active_days)),
            next_time=pl.col("time").shift(-1).over("user", "category"),
        )
    )


def trigger(log: Log, states: pl.DataFrame, options: EvidenceOptions) -> pl.DataFrame:
    """P(category engaged again within the horizon | the item entered it), over the same for its category.

    ``states`` is what ``entries`` gave. Compared are only entries from the inactive state; those too recent for their horizon to be over are left out.
    """
    horizon = timedelta(days=options.horizon_days)
    matured = states.filter(pl.col("entering") & (pl.col("time") <= log.at - horizon))
    hit = (pl.col("next_time") - pl.col("time") <= horizon).fill_null(False)
    trials = (
        log.engaged.select("visit", "category", "item")
        .unique()
        .join(matured.select("visit", "category", hit=hit), on=["visit", "category"], how="inner")
    )
    return lift_table(trials, log, floor=options.min_support, base="category")


def bridge(log: Log, states: pl.DataFrame, options: EvidenceOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """How much more an item leads into another category than that category leads back.

    ``states`` is what ``entries`` gave. Counted are moves from one visit to the user's next within the horizon, into a category that was not active. With
    lift(a→b) = count / expected count (gamma-shrunk), the value is lift(item→b) / lift(b→a), a being the item's
    category; the item's lift is shrunk towards lift(a→b). The interval is normal on the log scale.

    Returns:
        The table by item (with ``other``, the category led to, and ``lift``) and the one by category pair
        (``category``, ``other``).
    """
    horizon = timedelta(days=options.horizon_days)
    visits = (
        log.engaged.select("user", "visit", "time")
        .unique(subset="visit", maintain_order=True)
        .with_columns(
            next_visit=pl.col("visit").shift(-1).over("user"), next_time=pl.col("time").shift(-1).over("user")
        )
        .filter(pl.col("next_time") - pl.col("time") <= horizon)
        .select("visit", "next_visit")
    )
    entered = states.filter("entering").select(next_visit="visit", other="category")
    moves = visits.join(entered, on="next_visit", how="inner").select("visit", "other")
    total = visits.height
    if total == 0 or moves.is_empty():
        return empty_bridge(), empty_pairs()
    into = moves.group_by("other").agg(arrivals=pl.len())

    touched = log.engaged.select("visit", "category").unique().join(visits.select("visit"), on="visit", how="semi")
    out = touched.group_by("category").agg(departures=pl.len())
    pairs = (
        touched.join(moves, on="visit", how="inner")
        .filter(pl.col("category") != pl.col("other"))
        .group_by("category", "other")
        .agg(count=pl.len().cast(pl.Float64))
        .join(out, on="category")
        .join(into, on="other")
        .with_columns(expected=pl.col("departures") * pl.col("arrivals") / total)
    )
    if pairs.is_empty():
        return empty_bridge(), empty_pairs()
    strength = gamma_strength(
        float((pairs["count"] - pairs["expected"]).pow(2).sum()),
        float(pairs["expected"].sum()),
        float(pairs["expected"].pow(2).sum()),
    )
    pairs = pairs.with_columns(lift=(pl.col("count") + strength) / (pl.col("expected") + strength))
    back = pairs.select(category="other", other="category", count_back="count", lift_back="lift")
    pairs = pairs.join(back, on=["category", "other"], how="left").with_columns(
        pl.col("count_back").fill_null(0.0), pl.col("lift_back").fill_null(1.0)
    )
    names = pl.DataFrame({"code": range(len(log.categories)), "name": log.categories})
    names = names.with_columns(pl.col("code").cast(pl.UInt32))
    by_pair = _asymmetry(pairs, pl.col("count") + strength, pl.col("count_back") + strength)

    item_out = (
        log.engaged.select("visit", "item", "category").unique().join(visits.select("visit"), on="visit", how="semi")
    )
    item_pairs = (
        item_out.join(moves, on="visit", how="inner")
        .filter(pl.col("category") != pl.col("other"))
        .group_by("item", "category", "other")
        .agg(count_item=pl.len().cast(pl.Float64))
        .filter(pl.col("count_item") >= options.min_pair_support)
        .join(item_out.group_by("item").agg(departures_item=pl.len()), on="item")
        .join(pairs, on=["category", "other"])
        .with_columns(expected_item=pl.col("departures_item") * pl.col("arrivals") / total)
        .with_columns(prior=strength * pl.col("lift"))
        .with_columns(lift=(pl.col("count_item") + pl.col("prior")) / (pl.col("expected_item") + strength))
    )
    by_item = (
        _asymmetry(item_pairs, pl.col("count_item") + pl.col("prior"), pl.col("count_back") + strength)
        .with_columns(support=pl.col("count_item").cast(pl.Int64))
        .join(log.items.select(item="code", id="item"), on="item")
        .join(names.rename({"code": "other", "name": "to"}), on="other")
        .select("value", "low", "high", "support", "neutral", "lift", item="id", other="to")
        .sort(["item", "low", "other"], descending=[False, True, False])
        .group_by("item", maintain_order=True)
        .head(options.bridges_per_item)
    )
    by_pair = (
        by_pair.with_columns(support=pl.col("count").cast(pl.Int64))
        .filter(pl.col("support") >= options.min_support)
        .join(names.rename({"code": "category", "name": "from"}), on="category")
        .join(names.rename({"code": "other", "name": "to"}), on="other")
        .select("value", "low", "high", "support", "neutral", "lift", category="from", other="to")
        .sort(["category", "low", "other"], descending=[False, True, False])
    )
    return by_item.select(empty_bridge().columns), by_pair.select(empty_pairs().columns)


def _asymmetry(frame: pl.DataFrame, forward: pl.Expr, backward: pl.Expr) -> pl.DataFrame:
    """Value and interval of lift / lift_back; a log count has the variance 1 / count (delta method)."""
    half = Z * (1 / forward + 1 / backward).sqrt()
    return frame.with_columns(value=pl.col("lift") / pl.col("lift_back"), neutral=pl.lit(1.0)).with_columns(
        low=pl.col("value") * (-half).exp(), high=pl.col("value") * half.exp()
    )


def empty_bridge() -> pl.DataFrame:
    """The table by item without rows."""
    numbers: dict[str, type[pl.DataType]] = dict.fromkeys(("lift", "value", "low", "high"), pl.Float64)
    return pl.DataFrame(
        schema={"item": pl.String, "other": pl.String, **numbers, "support": pl.Int64, "neutral": pl.Float64}
    )


def empty_pairs() -> pl.DataFrame:
    """The table by category pair without rows."""
    return empty_bridge().rename({"item": "category"})
