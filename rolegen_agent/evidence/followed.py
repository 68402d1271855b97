"""What followed a unit within the horizon: orders, entries, moves; and what was to be expected of an item whatever was shown.

What followed is read user by user, whatever the as-of time (``follow_ups``); what was to be expected comes from all units whose
horizon is over (``own_outcomes``).
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from .log import Log, Scope
from .units import Units, situation

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def ordered_within(frame: pl.DataFrame, log: Log, horizon: timedelta) -> Floats:
    """(N,) whether anything was ordered, and kept, within the horizon; ``frame``: units in the order of ``unit``."""
    orders = log.engaged.filter(pl.col("kind") == "order").sort("row").select("user", "row", then="time")
    found = frame.sort("last_row").join_asof(
        orders,
        left_on="last_row",
        right_on="row",
        by="user",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    soon = found.sort("unit").select((pl.col("then") <= pl.col("time") + horizon).fill_null(False))
    return soon.to_series().to_numpy().astype(np.float64)


def moved_to(frame: pl.DataFrame, log: Log, horizon: timedelta) -> Ints:
    """(N,) the next category engaged with within the horizon that is not the unit's own; -1 for none."""
    changes = (
        log.engaged.sort("user", "row")
        .select(
            "user",
            "category",
            row=pl.col("row").shift(1).over("user"),
            when="time",
            before=pl.col("category").shift(1).over("user"),
        )
        .filter(pl.col("before") != pl.col("category"))
        .select("user", "row", "when", goes="category")
    )
    found = frame.sort("row").join_asof(
        changes.sort("row"), on="row", by="user", strategy="forward", allow_exact_matches=True, check_sortedness=False
    )
    within = (pl.col("when") <= pl.col("time") + horizon) & (pl.col("goes") != pl.col("category"))
    goes = pl.when(within.fill_null(False)).then(pl.col("goes").cast(pl.Int64)).otherwise(-1)
    return found.sort("unit").select(goes).to_series().to_numpy()


def follow_ups(frame: pl.DataFrame, log: Log, horizon: timedelta) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What each unit was followed by within the horizon.

    Returns:
        By unit: itself (its item was ordered), entry (something else of its category was engaged with of the user's own accord, at a later
        visit), cheapest (paid for the cheapest order in its category, null for none). And all that followed, whatever was shown: user, time, need and
        stage of the unit, with either ``bought`` (an item), or ``entered`` (a category), ``alone`` (the only item met there, else null), or ``paid_in`` (a
        category) and ``paid`` (for its cheapest order).
    """
    units = frame.select("unit", "user", "row", "place", "time", "need", "stage")
    after = (
        units.join(
            log.engaged.select(
                "user", "item", "category", "kind", "own", later="row", then="time", at="place", paid="price"
            ),
            on="user",
        )
        .filter(pl.col("later") > pl.col("row"), pl.col("then") <= pl.col("time") + horizon)
        .select("unit", "item", "category", "kind", "paid", later=(pl.col("at") != pl.col("place")) & pl.col("own"))
    )
    ordered = after.filter(pl.col("kind") == "order")
    bought = ordered.select("unit", bought="item").unique()
    entered = (
        after.filter("later")
        .group_by("unit", entered="category")
        .agg(only=pl.col("item").first(), items=pl.col("item").n_unique())
        .select("unit", "entered", alone=pl.when(pl.col("items") == 1).then("only"))
    )
    cheapest = ordered.group_by("unit", paid_in="category").agg(paid=pl.col("paid").min())
    own = (
        frame.select("unit", bought="item", entered="category")
        .join(bought.with_columns(itself=pl.lit(True)), on=["unit", "bought"], how="left", maintain_order="left")
        .join(entered.with_columns(found=pl.lit(True)), on=["unit", "entered"], how="left", maintain_order="left")
        .join(
            cheapest.rename({"paid_in": "entered", "paid": "cheapest"}),
            on=["unit", "entered"],
            how="left",
            maintain_order="left",
        )
        .select(
            itself=pl.col("itself").fill_null(False),
            entry=pl.col("found").fill_null(False) & (pl.col("alone") != pl.col("bought")).fill_null(True),
            cheapest="cheapest",
        )
    )
    whose = units.select("unit", "user", "time", "need", "stage")
    met = pl.concat([bought, entered, cheapest], how="diagonal").join(whose, on="unit").drop("unit")
    return own, met.select("user", "time", "need", "stage", "bought", "entered", "alone", "paid_in", "paid")


def own_outcomes(units: Units, met: pl.DataFrame, scope: Scope, horizon: timedelta) -> dict[str, tuple[Floats, Floats]]:
    """``entry``, ``cheaper`` and ``itself`` of each unit's item: what happened (N,), and what was to be expected whatever is shown.

    The reference of item i in a group is the share of *all* its units, whatever they were shown, that were followed by the
    outcome of i: so every unit is asked about every item of a category that it went on with. ``units`` and ``met`` hold what ``follow_ups`` gave.
    """
    frame, group = units.frame, units.group
    inside = np.bincount(group).astype(np.float64)
    met = met.filter(pl.col("time") <= scope.at - horizon)
    known = np.unique(situation(frame))
    met = met.select(
        "bought", "entered", "alone", "paid_in", "paid", group=pl.Series(np.searchsorted(known, situation(met)))
    )
    asked = frame.select("item", "category", "price", group=pl.Series(group))

    def share(what: str, by: str) -> Floats:
        counted = met.filter(pl.col(what).is_not_null()).group_by("group", pl.col(what).alias(by)).agg(n=pl.len())
        found = asked.join(counted, on=["group", by], how="left", maintain_order="left")
        return found["n"].fill_null(0).to_numpy() / inside[group]

    price, size = asked["price"].fill_null(0.0).to_numpy(), frame.height
    paid_in = met.filter(pl.col("paid").is_not_null()).select("group", "paid", category="paid_in")
    prices = {
        key: np.sort(part["paid"].to_numpy())
        for key, part in paid_in.partition_by(["group", "category"], as_dict=True).items()
    }
    expected = np.zeros(size)
    for key, rows in asked.with_row_index("at").partition_by(["group", "category"], as_dict=True).items():
        paid = prices.get(key)
        if paid is not None:
            at = rows["at"].to_numpy()
            expected[at] = np.searchsorted(paid, price[at]) / inside[key[0]]
    cheaper = (frame["cheapest"].cast(pl.Float64) < frame["price"].fill_null(0.0)).fill_null(False)
    return {
        "itself": (frame["itself"].to_numpy().astype(np.float64), share("bought", "item")),
        "entry": (
            frame["entry"].to_numpy().astype(np.float64),
            share("entered", "category") - share("alone", "item"),
        ),
        "cheaper": (cheaper.to_numpy().astype(np.float64), expected),
    }
