"""From counted hits and trials of each item to a table of shrunk lifts: the last step of most statistics."""

from __future__ import annotations

import numpy as np
import polars as pl

from .log import Scope
from .shrink import beta_strength, shrunk_rate, summed

COLUMNS = ("item", "value", "low", "high", "support", "neutral", "rate", "base")


def lift_table(trials: pl.DataFrame, scope: Scope, *, floor: int, base: str) -> pl.DataFrame:
    """Shrunk lift of each item's hit rate over a base rate.

    Args:
        trials: one row for each trial: ``item`` (code) and ``hit`` (Boolean).
        base: ``category`` compares an item with its category, ``all`` with all items. In both cases the item's rate
            is shrunk towards its category's, and the category's towards that of all.

    Returns:
        Columns item (id), value, low, high, support, neutral, rate, base; items with less than ``floor`` trials
        have no row.
    """
    counted = trials.group_by("item").agg(hits=pl.col("hit").sum().cast(pl.Float64), trials=pl.len().cast(pl.Float64))
    counted = counted.sort("item")
    if counted.is_empty() or counted["hits"].sum() == 0:
        return empty_table()
    item = counted["item"].to_numpy().astype(np.int64)
    hits, n = counted["hits"].to_numpy(), counted["trials"].to_numpy()
    everyone = np.full(len(scope.categories), hits.sum() / n.sum())
    category = scope.item_category[item]
    category_hits = summed(category, hits, len(scope.categories))
    category_trials = summed(category, n, len(scope.categories))
    strength = beta_strength(category_hits, category_trials, everyone)
    category_rate = shrunk_rate(category_hits, category_trials, everyone, strength)[0]

    prior = category_rate[category]
    rate, low, high = shrunk_rate(hits, n, prior, beta_strength(hits, n, prior))
    against = prior if base == "category" else everyone[category]
    return (
        pl.DataFrame(
            {
                "item": scope.items["item"].gather(item),
                "value": rate / against,
                "low": low / against,
                "high": high / against,
                "support": n.astype(np.int64),
                "neutral": np.ones(len(item)),
                "rate": rate,
                "base": against,
            }
        )
        .filter(pl.col("support") >= floor)
        .sort("item")
    )


def empty_table() -> pl.DataFrame:
    """A table without rows: the log does not support this statistic."""
    kinds: dict[str, type[pl.DataType]] = dict.fromkeys(COLUMNS, pl.Float64)
    return pl.DataFrame(schema={**kinds, "item": pl.String, "support": pl.Int64})
