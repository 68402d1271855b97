"""Incidental: the item moves nothing, and the log knows it. No evidence is not evidence of nothing."""

from __future__ import annotations

import polars as pl

from .options import EvidenceOptions
from .rates import empty_table

NEEDED = 2
"""how many effects must be measured before their absence says anything"""


def incidental(tables: dict[str, pl.DataFrame], options: EvidenceOptions) -> pl.DataFrame:
    """Items whose every measured effect has its whole interval within the equivalence margin.

    The value is the largest deviation that the intervals still allow, as a share of the margin (below 1 = inside);
    ``neutral`` is 0, ``support`` the smallest one of the effects, ``rate`` the number of effects measured.
    """
    parts = []
    for name, table in tables.items():
        if table.is_empty():
            continue
        if name == "comparison":
            reach = pl.max_horizontal(pl.col("low").abs(), pl.col("high").abs()) / options.difference_margin
        else:
            floor = pl.max_horizontal(pl.col("low"), pl.lit(1e-9)).log().abs()
            reach = pl.max_horizontal(floor, pl.col("high").log().abs()) / pl.lit(options.margin).log()
        parts.append(table.select("item", reach=reach, support=pl.col("support")))
    if not parts:
        return empty_table()
    return (
        pl.concat(parts)
        .group_by("item")
        .agg(
            value=pl.col("reach").max(),
            support=pl.col("support").min(),
            effects=pl.len(),
        )
        .filter((pl.col("effects") >= NEEDED) & (pl.col("value") < 1))
        .select(
            "item",
            "value",
            low=pl.lit(0.0),
            high=pl.col("value"),
            support=pl.col("support"),
            neutral=pl.lit(0.0),
            rate=pl.col("effects").cast(pl.Float64),
            base=pl.lit(float(NEEDED)),
        )
        .sort("item")
    )
