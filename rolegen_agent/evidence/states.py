"""Intent states as a log shows them: which need is active just before an event, and how far it has come.

A *run* is what a user engages with in one category, one after another, each within ``active_days`` of the last; an order ends it.
Its stage is ``browsing`` with one item, ``comparing`` with several, ``deciding`` from the first cart on, ``satisfied`` after the order.
The need of the last run is the active one until ``active_days`` have passed. Towards an item of another category the state is
``elsewhere``, whatever the stage: the need lies somewhere else.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from .options import EvidenceOptions

STATES = ("none", "browsing", "comparing", "deciding", "satisfied", "elsewhere")
"""``none`` to ``satisfied`` are the stages of ``rolegen_graphs.words``"""
NONE, BROWSING, COMPARING, DECIDING, SATISFIED, ELSEWHERE = range(6)
HERE = (BROWSING, COMPARING, DECIDING)
"""a need is active in the category of the item itself"""


def stages(engaged: pl.DataFrame, options: EvidenceOptions) -> pl.DataFrame:
    """``engaged`` (user, item, category, time, kind; by user and time) with ``stage`` and ``run_length``, just after each row."""
    before = {name: pl.col(name).shift(1).over("user") for name in ("category", "time", "kind")}
    fresh = (
        before["category"].is_null()
        | (before["category"] != pl.col("category"))
        | (pl.col("time") - before["time"] > timedelta(days=options.active_days))
        | (before["kind"] == "order")
    )
    begins = np.flatnonzero(engaged.select(fresh).to_series().to_numpy())
    run = np.repeat(np.arange(len(begins)), np.diff(np.r_[begins, engaged.height]))
    first = begins[run] if len(begins) else begins

    def so_far(happens: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Whether it has happened in the run yet: windows of polars take seconds where runs are many."""
        count = happens.cumsum()
        found: npt.NDArray[np.bool_] = count - count[first] + happens[first] > 0
        return found

    item, kind = engaged["item"].to_numpy(), engaged["kind"]
    several, carted = so_far(item != item[first]), so_far((kind == "cart").to_numpy())
    stage = np.where(carted, DECIDING, np.where(several, COMPARING, BROWSING))
    return engaged.with_columns(
        stage=pl.Series(np.where((kind == "order").to_numpy(), SATISFIED, stage)).cast(pl.Int8),
        run_length=pl.Series(np.arange(engaged.height) - first + 1),
    )


def with_states(events: pl.DataFrame, engaged: pl.DataFrame, options: EvidenceOptions) -> pl.DataFrame:
    """``events`` (user, category, time, row) with what was known just before each.

    Args:
        engaged: views, carts and orders in the order of the log, with ``row``, their place in it.
        events: rows to ask about, with ``row`` likewise; engagements of an earlier row count, whatever their time stamp.

    Returns:
        ``events`` by row, with ``need`` (category, null for none), ``stage`` of the need, ``state`` towards the event's own category (index
        into ``STATES``), ``idle_days`` since the last engagement (null without any), ``run_length``.
    """
    known = stages(engaged, options).select(
        "user", "row", need="category", stage="stage", since="time", run_length="run_length"
    )
    joined = events.sort("row").join_asof(
        known.sort("row"), on="row", by="user", strategy="backward", allow_exact_matches=False, check_sortedness=False
    )
    idle = (pl.col("time") - pl.col("since")).dt.total_seconds() / 86_400
    active = pl.col("since").is_not_null() & (idle <= options.active_days)
    return (
        joined.with_columns(
            need=pl.when(active).then("need"),
            stage=pl.when(active).then("stage").otherwise(NONE).cast(pl.Int8),
            idle_days=idle,
            run_length=pl.when(active).then("run_length").otherwise(0),
        )
        .with_columns(
            state=pl.when(pl.col("stage").is_in(HERE) & (pl.col("need") != pl.col("category")))
            .then(ELSEWHERE)
            .otherwise("stage")
            .cast(pl.Int8)
        )
        .drop("since")
    )
