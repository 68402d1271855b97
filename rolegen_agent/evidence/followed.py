"""What followed a unit within the horizon: orders, entries, moves; and what was to be expected of an item whatever was shown."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from .log import Log

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def ordered_within(frame: pl.DataFrame, log: Log, horizon: timedelta) -> Floats:
    """(N,) whether anything was ordered, and kept, within the horizon."""
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


def own_outcomes(frame: pl.DataFrame, group: Ints, log: Log, horizon: timedelta) -> dict[str, tuple[Floats, Floats]]:
    """``entry``, ``cheaper`` and ``itself`` of each unit's item: what happened (N,), and what was to be expected whatever is shown.

    The reference of item i in a group is the share of *all* its units, whatever they were shown, that were followed by the
    outcome of i: so every unit is asked about every item of a category that it went on with.
    """
    size, groups = frame.height, int(group.max()) + 1
    inside = np.bincount(group, minlength=groups).astype(np.float64)
    item, price = frame["item"].to_numpy().astype(np.int64), frame["price"].fill_null(0.0).to_numpy()
    units = frame.select("unit", "user", "row", "place", "time").with_columns(group=pl.Series(group))
    after = (
        units.join(
            log.engaged.select(
                "user", "item", "category", "kind", "own", later="row", then="time", at="place", paid="price"
            ),
            on="user",
        )
        .filter(pl.col("later") > pl.col("row"), pl.col("then") <= pl.col("time") + horizon)
        .select(
            "unit", "group", "item", "category", "kind", "paid", later=(pl.col("at") != pl.col("place")) & pl.col("own")
        )
    )
    items = log.items.select(item="code", category="category_code", list_price="price")
    ordered = after.filter(pl.col("kind") == "order")

    bought = ordered.select("unit", "group", "item").unique()
    entered = (
        after.filter("later")
        .group_by("unit", "group", "category")
        .agg(only=pl.col("item").first(), items=pl.col("item").n_unique())
    )
    cheapest = ordered.group_by("unit", "group", "category").agg(paid=pl.col("paid").min())

    # Units of a group that went on with the item's category, without those that only met the item itself there.
    alone = entered.filter(pl.col("items") == 1).select("unit", "group", item="only")
    asked = pl.DataFrame({"unit": np.arange(size), "group": group, "item": item, "price": price}).join(
        items.cast({"item": pl.Int64, "category": pl.Int64}).select("item", "category"),
        on="item",
        how="left",
        maintain_order="left",
    )

    def share(pairs: pl.DataFrame, by: str) -> Floats:
        counted = pairs.group_by("group", pl.col(by).cast(pl.Int64)).agg(n=pl.len())
        found = asked.join(counted, on=["group", by], how="left", maintain_order="left")
        return found["n"].fill_null(0).to_numpy() / inside[group]

    def mine(pairs: pl.DataFrame, by: str) -> Floats:
        known = pairs.select(pl.col("unit").cast(pl.Int64), pl.col(by).cast(pl.Int64), hit=pl.lit(1.0))
        return asked.join(known, on=["unit", by], how="left", maintain_order="left")["hit"].fill_null(0.0).to_numpy()

    found = {
        "itself": (mine(bought, "item"), share(bought, "item")),
        "entry": (
            mine(entered, "category") - mine(alone, "item"),
            share(entered, "category") - share(alone, "item"),
        ),
    }
    low = cheapest.select(pl.col("unit").cast(pl.Int64), pl.col("category").cast(pl.Int64), "group", "paid")
    joined = asked.join(low.drop("group"), on=["unit", "category"], how="left", maintain_order="left")
    happened = (joined["paid"] < joined["price"]).fill_null(False).to_numpy().astype(np.float64)
    expected = np.zeros(size)
    prices = {
        key: np.sort(part["paid"].to_numpy())
        for key, part in low.partition_by(["group", "category"], as_dict=True).items()
    }
    for key, rows in asked.with_row_index("at").partition_by(["group", "category"], as_dict=True).items():
        paid = prices.get(key)
        if paid is not None:
            at = rows["at"].to_numpy()
            expected[at] = np.searchsorted(paid, rows["price"].to_numpy()) / inside[key[0]]
    found["cheaper"] = (happened, expected)
    return found
