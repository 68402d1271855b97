"""Anchor and comparison: items that are looked at while another one is bought. Both need views or carts."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from .log import Log, Scope
from .options import EvidenceOptions
from .rates import empty_table, lift_table
from .shrink import Z, beta_strength, shrunk_rate, summed


def anchor_rows(log: Log, options: EvidenceOptions) -> pl.DataFrame:
    """What each user saw and did not buy: user, item, time, hit (a cheaper one of the category bought within the horizon)."""
    horizon = timedelta(days=options.horizon_days)
    seen = (
        log.engaged.filter(pl.col("kind") != "order")
        .group_by("user", "item")
        .agg(pl.col("category").first(), pl.col("time").min(), pl.col("price").max())
        .with_row_index("trial")
    )
    bought = log.orders.select("user", "category", bought="item", bought_at="time", paid="price")
    after = seen.join(bought, on=["user", "category"], how="inner").filter(
        pl.col("bought_at") >= pl.col("time"), pl.col("bought_at") <= pl.col("time") + horizon
    )
    itself = after.filter(pl.col("bought") == pl.col("item"))
    cheaper = after.filter((pl.col("bought") != pl.col("item")) & (pl.col("paid") < pl.col("price")))
    return seen.join(itself, on="trial", how="anti").select(
        "user", "item", "time", hit=pl.col("trial").is_in(cheaper["trial"].unique().implode())
    )


def anchor(rows: pl.DataFrame, scope: Scope, options: EvidenceOptions) -> pl.DataFrame:
    """P(a cheaper item of the category bought within the horizon | seen, not bought), over that of the category.

    The column ``price_quantile`` says where the item stands in its category (1 = the dearest).
    """
    own = pl.col("price").rank("average").over("category") / pl.len().over("category")
    quantile = scope.items.select("item", price_quantile=own)
    over = rows.filter(pl.col("time") <= scope.at - timedelta(days=options.horizon_days))
    return lift_table(over, scope, floor=options.min_support, base="category").join(
        quantile, on="item", how="left", maintain_order="left"
    )


def comparison_rows(log: Log) -> pl.DataFrame:
    """By user and item: views and buys (places with it), ``views_together`` and ``buys_together`` (with another of its category too)."""
    viewed = _together(log.engaged.filter(pl.col("kind") != "order"), "views")
    bought = _together(log.engaged.filter(pl.col("kind") == "order"), "buys")
    return viewed.join(bought, on=["user", "item"], how="full", coalesce=True).fill_null(0)


def comparison(rows: pl.DataFrame, scope: Scope, options: EvidenceOptions) -> pl.DataFrame:
    """P(another of the category viewed | item viewed) - P(another bought | item bought), within one place.

    A member of a consideration set is viewed together with its rivals and bought without them. Both rates are shrunk
    towards the category's; the interval is normal.
    """
    if not scope.has_views:
        return empty_table()
    both = rows.group_by("item").agg(pl.exclude("user").cast(pl.Float64).sum()).filter(pl.col("views") > 0).sort("item")
    if both.is_empty() or both["buys"].sum() == 0:
        return empty_table()
    item = both["item"].to_numpy().astype(np.int64)
    category = scope.item_category[item]
    mean, variance = [], []
    for name in ("views", "buys"):
        hits, n = both[f"{name}_together"].to_numpy(), both[name].to_numpy()
        everyone = np.full(len(scope.categories), hits.sum() / n.sum())
        of_hits = summed(category, hits, len(scope.categories))
        of_trials = summed(category, n, len(scope.categories))
        prior = shrunk_rate(of_hits, of_trials, everyone, beta_strength(of_hits, of_trials, everyone))[0][category]
        strength = beta_strength(hits, n, prior)
        rate = shrunk_rate(hits, n, prior, strength)[0]
        mean.append(rate)
        variance.append(rate * (1 - rate) / (n + strength + 1))
    value, half = mean[0] - mean[1], Z * np.sqrt(variance[0] + variance[1])
    return (
        pl.DataFrame(
            {
                "item": scope.items["item"].gather(item),
                "value": value,
                "low": value - half,
                "high": value + half,
                "support": both["views"].to_numpy().astype(np.int64),
                "neutral": np.zeros(len(item)),
                "rate": mean[0],
                "base": mean[1],
            }
        )
        .filter(pl.col("support") >= options.min_support)
        .sort("item")
    )


def _together(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """Places of each user with the item, and those of them with another item of its category."""
    pairs = rows.select("user", "place", "category", "item").unique()
    return (
        pairs.with_columns(others=pl.len().over("place", "category") - 1)
        .group_by("user", "item")
        .agg(
            pl.len().cast(pl.UInt32).alias(name),
            (pl.col("others") > 0).sum().cast(pl.UInt32).alias(f"{name}_together"),
        )
    )
