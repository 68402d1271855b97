"""What shops commonly take for the effect of an item: rivals of the evidence, on the same units and outcomes.

Each gives a score for every (item, state); those that know no states give an item the same score in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rolegen_agent.evidence.log import Log
from rolegen_agent.evidence.units import Units

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """One planted log as an analyst has it."""

    log: Log
    units: Units
    ordered: Floats
    """(N,) whether the user of each unit ordered within the horizon"""

    @property
    def frame(self) -> pl.DataFrame:
        return self.units.frame.select("item", "state", "user", "place").with_columns(
            ordered=pl.Series(self.ordered), group=pl.Series(self.units.group)
        )

    def everywhere(self, score: pl.DataFrame) -> pl.DataFrame:
        """(item, score) given to all states of the item."""
        return (
            self.frame.select("item", "state")
            .unique()
            .join(score, on="item", how="left")
            .with_columns(pl.col("score").fill_null(0.0))
        )


def naive(seen: Observed) -> pl.DataFrame:
    """Orders after the item was shown against orders after anything was."""
    mean = float(seen.ordered.mean())
    return seen.everywhere(seen.frame.group_by("item").agg(score=pl.col("ordered").mean() - mean))


def naive_in_state(seen: Observed) -> pl.DataFrame:
    """The same within each state and category of need: right if the log shows all that steered what was shown."""
    usual = pl.col("ordered").mean().over("group")
    return (
        seen.frame.with_columns(gain=pl.col("ordered") - usual)
        .group_by("item", "state")
        .agg(score=pl.col("gain").mean())
    )


def click_rate(seen: Observed) -> pl.DataFrame:
    """Share of exposures that were looked at."""
    views = seen.log.engaged.select("user", "place", "item").unique().with_columns(hit=pl.lit(1.0))
    hit = seen.frame.join(views, on=["user", "place", "item"], how="left").group_by("item")
    return seen.everywhere(hit.agg(score=pl.col("hit").fill_null(0.0).mean()))


def last_touch(seen: Observed) -> pl.DataFrame:
    """Orders whose last look before was at the item, for each exposure."""
    rows = seen.log.engaged.sort("user", "row").with_columns(
        touched=pl.when(pl.col("kind") == "view").then("item").forward_fill().over("user")
    )
    credit = (
        rows.filter(pl.col("kind") == "order", pl.col("touched").is_not_null()).group_by(item="touched").agg(n=pl.len())
    )
    shown = seen.frame.group_by("item").agg(shown=pl.len())
    return seen.everywhere(
        shown.join(credit, on="item", how="left").select("item", score=pl.col("n").fill_null(0) / pl.col("shown"))
    )


def markov_removal(seen: Observed) -> pl.DataFrame:
    """Fall of the chance to order if the item were taken out of the chain of looks (Anderl et al. 2016)."""
    start, order, gone = (seen.log.items.height + k for k in range(3))
    rows = (
        seen.log.engaged.filter(pl.col("kind") != "cart")
        .sort("user", "row")
        .select("user", at=pl.when(pl.col("kind") == "order").then(order).otherwise(pl.col("item").cast(pl.Int64)))
    )
    steps = rows.with_columns(
        before=pl.col("at").shift(1).over("user").fill_null(start), after=pl.col("at").shift(-1).over("user")
    ).with_columns(before=pl.when(pl.col("before") == order).then(start).otherwise("before"))
    size = gone + 1
    count = np.zeros((size, size))
    np.add.at(count, (steps["before"].to_numpy(), steps["at"].to_numpy()), 1)
    ends = steps.filter(pl.col("after").is_null() & (pl.col("at") != order))["at"].to_numpy()
    np.add.at(count, (ends, np.full(len(ends), gone)), 1)
    chance = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
    transient = [k for k in range(size) if k not in (order, gone)]

    def reaches(removed: int | None) -> float:
        moves = chance.copy()
        if removed is not None:
            moves[:, gone] += moves[:, removed]
            moves[:, removed] = 0.0
        inner = moves[np.ix_(transient, transient)]
        solved = np.linalg.solve(np.eye(len(inner)) - inner, moves[transient, order])
        return float(solved[transient.index(start)])

    whole = reaches(None)
    items = np.arange(seen.log.items.height)
    scores = [1 - reaches(int(item)) / whole for item in items]
    return seen.everywhere(pl.DataFrame({"item": items.astype(np.uint32), "score": scores}))


RIVALS: Mapping[str, Callable[[Observed], pl.DataFrame]] = {
    "naive": naive,
    "last_touch": last_touch,
    "click_rate": click_rate,
    "markov_removal": markov_removal,
    "naive_in_state": naive_in_state,
}
