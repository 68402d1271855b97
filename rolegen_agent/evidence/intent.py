"""Trigger and bridge: what an item does to the user's intent states.

A (user, category) pair is active for ``active_days`` after an engagement. *Entering* a category means engaging in it
while it is not active.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from .log import Log, Scope
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


def trigger_rows(log: Log, states: pl.DataFrame, options: EvidenceOptions) -> pl.DataFrame:
    """Entries of each user: user, item, time, hit (the category engaged again within the horizon). ``states`` is what ``entries`` gave."""
    hit = (pl.col("next_time") - pl.col("time") <= timedelta(days=options.horizon_days)).fill_null(False)
    entering = states.filter("entering").select("user", "visit", "category", "time", hit=hit)
    return (
        log.engaged.select("visit", "category", "item")
        .unique()
        .join(entering, on=["visit", "category"], how="inner")
        .select("user", "item", "time", "hit")
    )


def trigger(rows: pl.DataFrame, scope: Scope, options: EvidenceOptions) -> pl.DataFrame:
    """P(category engaged again within the horizon | the item entered it), over the same for its category.

    Compared are only entries from the inactive state; those too recent for their horizon to be over are left out.
    """
    over = rows.filter(pl.col("time") <= scope.at - timedelta(days=options.horizon_days))
    return lift_table(over, scope, floor=options.min_support, base="category")


def bridge_rows(log: Log, states: pl.DataFrame, options: EvidenceOptions) -> dict[str, pl.DataFrame]:
    """Moves of each user, from one visit to the next within the horizon, as counts ``n``.

    Returns:
        ``left``: user, category, item (null: the category as a whole; both null: all visits), n: visits that another one followed.
        ``moved``: user, category and item likewise, other, n: those of them whose next visit entered ``other``.
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
    engaged = log.engaged.select("user", "visit", "item", "category").join(
        visits.select("visit"), on="visit", how="semi"
    )
    levels = [
        engaged.select("user", "visit", category=pl.lit(None, pl.UInt32), item=pl.lit(None, pl.UInt32)).unique(),
        engaged.select("user", "visit", "category", item=pl.lit(None, pl.UInt32)).unique(),
        engaged.select("user", "visit", "category", "item").unique(),
    ]
    left, moved = [], []
    for level in levels:
        left.append(level.group_by("user", "category", "item").agg(n=pl.len()))
        moved.append(
            level.join(moves, on="visit", how="inner")
            .filter(pl.col("category").is_null() | (pl.col("category") != pl.col("other")))
            .group_by("user", "category", "item", "other")
            .agg(n=pl.len())
        )
    return {"left": pl.concat(left), "moved": pl.concat(moved)}


def bridge(
    left: pl.DataFrame, moved: pl.DataFrame, scope: Scope, options: EvidenceOptions
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """How much more an item leads into another category than that category leads back.

    ``left`` and ``moved`` are what ``bridge_rows`` gave. Counted are moves from one visit to the user's next within the horizon, into a category that was not active. With
    lift(a→b) = count / expected count (gamma-shrunk), the value is lift(item→b) / lift(b→a), a being the item's
    category; the item's lift is shrunk towards lift(a→b). The interval is normal on the log scale.

    Returns:
        The table by item (with ``other``, the category led to, and ``lift``) and the one by category pair
        (``category``, ``other``).
    """
    left = left.group_by("category", "item").agg(pl.col("n").sum())
    moved = moved.group_by("category", "item", "other").agg(pl.col("n").sum())
    whole, of_item = pl.col("category").is_null(), pl.col("item").is_not_null()
    total = int(left.filter(whole)["n"].sum())
    into = moved.filter(whole).select("other", arrivals=pl.col("n").cast(pl.Float64))
    out = left.filter(~whole & ~of_item).select("category", departures=pl.col("n").cast(pl.Float64))
    pairs = (
        moved.filter(~whole & ~of_item)
        .select("category", "other", count=pl.col("n").cast(pl.Float64))
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
    names = pl.DataFrame({"code": range(len(scope.categories)), "name": scope.categories})
    names = names.with_columns(pl.col("code").cast(pl.UInt32))
    by_pair = _asymmetry(pairs, pl.col("count") + strength, pl.col("count_back") + strength)

    item_pairs = (
        moved.filter(of_item)
        .select("item", "category", "other", count_item=pl.col("n").cast(pl.Float64))
        .filter(pl.col("count_item") >= options.min_pair_support)
        .join(left.filter(of_item).select("item", departures_item=pl.col("n").cast(pl.Float64)), on="item")
        .join(pairs, on=["category", "other"])
        .with_columns(expected_item=pl.col("departures_item") * pl.col("arrivals") / total)
        .with_columns(prior=strength * pl.col("lift"))
        .with_columns(lift=(pl.col("count_item") + pl.col("prior")) / (pl.col("expected_item") + strength))
    )
    by_item = (
        _asymmetry(item_pairs, pl.col("count_item") + pl.col("prior"), pl.col("count_back") + strength)
        .with_columns(support=pl.col("count_item").cast(pl.Int64))
        .join(scope.items.select(item="code", id="item"), on="item")
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
