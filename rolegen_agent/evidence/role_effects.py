"""Which effect speaks for which role: the tables of a log whose exposures were logged."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from .effects import MOVE
from .options import EvidenceOptions

NAMES: dict[str, str] = {
    "trigger": "trigger.entry_effect",
    "bridge": "bridge.move_effect",
    "anchor": "anchor.cheaper_bought_effect",
    "comparison": "comparison.order_effect",
    "target": "target.closing_effect",
    "incidental": "incidental.reach_of_margin",
}
"""roles whose statistic is an effect where exposures are logged, and what it is called then"""
_STATES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "trigger": ("entry", ("none", "satisfied")),
    "anchor": ("cheaper", ("browsing", "comparing")),
    "comparison": ("order", ("browsing", "comparing")),
    "target": ("itself", ("deciding", "comparing")),
}
"""the outcome, and the states in which the role can be played; the surest state counts"""
_CLEAR = 0.4
"""an effect that is known within so many margins is known well enough to be called none"""
_NEEDED = 2
"""states in which the effect must be known before its absence says anything"""


def role_effects(effects: pl.DataFrame, options: EvidenceOptions, items: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """By role: item, value, low, high, support, neutral, rate, base; ``bridge`` also has ``other``. Differences of probabilities."""
    tables = {
        role: _columns(_surest(effects.filter(pl.col("outcome") == outcome, pl.col("state").is_in(states)), "item"))
        for role, (outcome, states) in _STATES.items()
    }
    quantile = pl.col("price").rank("average").over("category") / pl.len().over("category")
    tables["anchor"] = tables["anchor"].join(
        items.select("item", price_quantile=quantile), on="item", how="left", maintain_order="left"
    )
    moves = effects.filter(pl.col("outcome").str.starts_with(MOVE)).with_columns(
        other=pl.col("outcome").str.strip_prefix(MOVE)
    )
    tables["bridge"] = (
        _columns(_surest(moves, "item", "other"), "other")
        .sort(["item", "low", "other"], descending=[False, True, False])
        .group_by("item", maintain_order=True)
        .head(options.bridges_per_item)
    )
    tables["incidental"] = _incidental(effects, options)
    return tables


def _surest(effects: pl.DataFrame, *by: str) -> pl.DataFrame:
    """The state with the highest lower end of each item."""
    return effects.sort([*by, "low"], descending=[*(False for _ in by), True]).unique(
        subset=list(by), keep="first", maintain_order=True
    )


def _columns(effects: pl.DataFrame, *more: str) -> pl.DataFrame:
    rate = (pl.col("base") + pl.col("value")).clip(0, 1)
    return effects.select(
        "item", *more, "value", "low", "high", "support", "neutral", rate=rate, base="base", state="state"
    )


def _incidental(effects: pl.DataFrame, options: EvidenceOptions) -> pl.DataFrame:
    """Items that bring no order in any state in which that is known: whole intervals within the margin."""
    known = effects.filter(
        pl.col("outcome") == "order", (pl.col("high") - pl.col("low")) / 2 <= _CLEAR * options.effect_margin
    ).with_columns(reach=pl.max_horizontal(pl.col("low").abs(), pl.col("high").abs()) / options.effect_margin)
    return (
        known.group_by("item")
        .agg(value=pl.col("reach").max(), support=pl.col("support").min(), states=pl.len())
        .filter(pl.col("states") >= _NEEDED, pl.col("value") < 1)
        .select(
            "item",
            "value",
            low=pl.lit(0.0),
            high=pl.col("value"),
            support=pl.col("support").cast(pl.Int64),
            neutral=pl.lit(0.0),
            rate=pl.col("states").cast(pl.Float64),
            base=pl.lit(float(_NEEDED)),
        )
        .sort("item")
    )
