"""What an item does, given the intent state: doubly robust effects where exposures are logged, associations otherwise.

A *unit* is one exposure (in a log without exposures: one view or cart; without those: one order line). The effect of item i in
state s is ``E[Y | do(show i), s]`` less the same for the typical item: what showing i brings beyond showing anything.
It is estimated by augmented inverse propensity weighting (Robins, Rotnitzky & Zhao 1994; Dudík, Langford & Li 2011 for logged
policies), with weights normalised (Hájek) and an outcome regression that is fitted on other users than it is used for
(Chernozhukov et al. 2018)::

    effect(i, s) = sum_{A = i, s} w (Y - m(x)) / sum_{A = i, s} w,   w = 1 / P(A = i | what the shop knew)

where m(x), the expected outcome of a moment whatever is shown, has the mean of Y in each (stage, category of the need).
Right where the propensities are right, whatever is hidden; where they are not logged they are modelled from what the log
shows, and then right if nothing else steered what was shown. Without exposures w = 1, and the figure is an association.

Errors are clustered by user. Effects of one state and outcome count from their median, since most items move nothing there, and are
shrunk to it by empirical Bayes (normal). The interval keeps the width of the estimate before shrinkage, which is the safe side.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from .log import Log
from .options import EvidenceOptions
from .shrink import Z
from .states import BROWSING, COMPARING, DECIDING, ELSEWHERE, HERE, NONE, STATES, with_states

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Kind = Literal["dr", "association"]
OUTCOMES = ("order", "entry", "cheaper", "itself")
"""a net order; something else of the category engaged with of the user's own accord, at a later visit; a cheaper item of the category ordered; the item
itself ordered; each within the horizon. ``move:CATEGORY`` is the fifth kind: the next other category engaged with"""
MOVE = "move:"
FOLDS = 5
RIDGE = 1.0
"""of the outcome regression, per unit on standardised covariates"""
LEAST_PROPENSITY = 1e-3
"""smaller ones are raised to it, counted: one unit must not speak for thousands"""
SMOOTHING = 5.0
"""pseudo exposures of a stratum when propensities are modelled"""
MOST_MOVES = 40
"""categories that moves are counted into; the rest has too few"""


@dataclass(frozen=True)
class Units:
    """Who was where, what was shown, and with which weight: N units."""

    frame: pl.DataFrame
    """unit, user, row, item, category (codes), time, place, price, need, stage, state, and what the user had done before"""
    weight: Floats
    """(N,) inverse propensities"""
    kind: Kind
    propensities: Literal["logged", "modelled", "none"]
    raised: int
    """propensities below ``LEAST_PROPENSITY``"""

    @property
    def group(self) -> Ints:
        """(N,) number of the (stage, category of the need)."""
        need, stage = self.frame["need"].fill_null(-1).to_numpy(), self.frame["stage"].to_numpy()
        return np.unique((need.astype(np.int64) + 1) * 8 + stage, return_inverse=True)[1].astype(np.int64)


def effects(log: Log, options: EvidenceOptions) -> tuple[pl.DataFrame, dict[str, int]]:
    """Effects of all items in all states.

    Returns:
        A table with the columns item, state, outcome, value, low, high, support, neutral (0), kind, base (the expected outcome of
        the state), looked (share of exposures that were looked at), raw and error (before shrinkage), by item, outcome and state;
        and counts of what was left out.
    """
    units = read_units(log, options)
    if units is None:
        return empty_effects(), {}
    frame, group, horizon = units.frame, units.group, timedelta(days=options.horizon_days)
    cells = _Cells.of(frame, units.weight)
    ordered = ordered_within(frame, log, horizon)
    tables = [cells.table("order", ordered - _expected(frame, ordered, group), ordered, options)]
    if units.kind == "dr":
        for name, (happened, expected) in own_outcomes(frame, group, log, horizon).items():
            tables.append(cells.table(name, happened - expected, happened, options))
    tables += _moves(frame, group, cells, log, options)
    looked = cells.looked(frame, log) if units.kind == "dr" else cells.looked(frame, None)
    table = (
        pl.concat(tables)
        .join(looked, on=["code", "state"])
        .join(log.items.select(code=pl.col("code").cast(pl.Int64), id="item"), on="code")
        .select(
            item="id",
            state=pl.col("state").replace_strict(dict(enumerate(STATES)), return_dtype=pl.String),
            outcome="outcome",
            value="value",
            low="low",
            high="high",
            support="support",
            neutral=pl.lit(0.0),
            kind=pl.lit(units.kind),
            base="base",
            looked="looked",
            raw="raw",
            error="error",
        )
        .sort("item", "outcome", "state")
    )
    return table, {"effect_units": frame.height, "propensities_raised": units.raised}


def read_units(log: Log, options: EvidenceOptions) -> Units | None:
    """The units whose horizon is over; None where the log has nothing of the kind."""
    shown = log.exposed if not log.exposed.is_empty() else log.engaged
    kind: Kind = "association" if log.exposed.is_empty() else "dr"
    if kind == "association":
        shown = shown.filter(pl.col("kind") != "order") if log.has_views else shown
        shown = shown.with_columns(propensity=pl.lit(None, pl.Float64))
    horizon = timedelta(days=options.horizon_days)
    matured = shown.filter(pl.col("time") <= log.at - horizon).select(
        "user", "item", "category", "time", "row", "place", "price", "propensity"
    )
    if matured.is_empty():
        return None
    frame = with_states(matured, log.engaged, options).sort("user", "row").with_row_index("unit")
    frame = _history(frame, log)
    weight, told, raised = _weights(frame, kind)
    return Units(frame, weight, kind, told, raised)


def _history(frame: pl.DataFrame, log: Log) -> pl.DataFrame:
    """What a user had done before each unit: the covariates of the outcome regression."""
    counted = log.engaged.sort("user", "row").select(
        "user",
        "row",
        orders_before=(pl.col("kind") == "order").cum_sum().over("user"),
        looks_before=(pl.col("kind") != "order").cum_sum().over("user"),
    )
    return (
        frame.sort("row")
        .join_asof(
            counted.sort("row"),
            on="row",
            by="user",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .with_columns(pl.col("orders_before", "looks_before").fill_null(0))
        .sort("unit")
    )


def ordered_within(frame: pl.DataFrame, log: Log, horizon: timedelta) -> Floats:
    """(N,) whether anything was ordered, and kept, within the horizon."""
    orders = log.engaged.filter(pl.col("kind") == "order").sort("row").select("user", "row", then="time")
    found = frame.sort("row").join_asof(
        orders, on="row", by="user", strategy="forward", allow_exact_matches=False, check_sortedness=False
    )
    soon = found.sort("unit").select((pl.col("then") <= pl.col("time") + horizon).fill_null(False))
    return soon.to_series().to_numpy().astype(np.float64)


def _moved(frame: pl.DataFrame, log: Log, horizon: timedelta) -> Ints:
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


def _weights(frame: pl.DataFrame, kind: Kind) -> tuple[Floats, Literal["logged", "modelled", "none"], int]:
    """(N,) inverse propensities."""
    if kind == "association":
        return np.ones(frame.height), "none", 0
    if frame["propensity"].null_count() == 0:
        told: Literal["logged", "modelled"] = "logged"
        chance = frame["propensity"].to_numpy()
    else:
        told = "modelled"
        stratum = ["stage", "need"]
        chance = (
            frame.with_columns(
                inside=pl.len().over(*stratum), both=pl.len().over("item", *stratum), alone=pl.len().over("item")
            )
            .select((pl.col("both") + SMOOTHING * pl.col("alone") / frame.height) / (pl.col("inside") + SMOOTHING))
            .to_series()
            .to_numpy()
        )
    low = chance < LEAST_PROPENSITY
    return 1 / np.where(low, LEAST_PROPENSITY, chance), told, int(low.sum())


def _expected(frame: pl.DataFrame, outcome: Floats, group: Ints) -> Floats:
    """(N,) expected outcome of each unit's moment, whatever is shown: ridge within the groups, fitted on other users."""
    x = np.log1p(
        frame.select(
            pl.col("orders_before", "looks_before", "run_length").cast(pl.Float64), pl.col("idle_days").fill_null(365.0)
        ).to_numpy()
    )
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    x = np.column_stack([x, x**2])
    fold = frame["user"].to_numpy().astype(np.int64) * 2_654_435_761 % 2**32 // 16 % FOLDS
    found, groups, everyone = np.zeros(len(outcome)), int(group.max()) + 1, float(outcome.mean())
    for held in range(FOLDS):
        fit, use = fold != held, fold == held
        if not use.any() or not fit.any():
            found[use] = everyone
            continue
        inside = group[fit]
        count = np.bincount(inside, minlength=groups)
        mean_y = (np.bincount(inside, outcome[fit], groups) + SMOOTHING * everyone) / (count + SMOOTHING)
        mean_x = np.column_stack([np.bincount(inside, column, groups) for column in x[fit].T])
        mean_x /= np.maximum(count, 1)[:, None]
        centred = x[fit] - mean_x[inside]
        gram = centred.T @ centred + RIDGE * np.sqrt(fit.sum()) * np.eye(x.shape[1])
        slope = np.linalg.solve(gram, centred.T @ (outcome[fit] - mean_y[inside]))
        found[use] = mean_y[group[use]] + (x[use] - mean_x[group[use]]) @ slope
    return found


@dataclass(frozen=True)
class _Cells:
    """Units sorted into cells (item, state), and within these by user."""

    cell: Ints
    """(N,) number of each unit's cell"""
    code: Ints
    """(cells,) item code"""
    state: Ints
    pair: Ints
    """(N,) number of each unit's (cell, user)"""
    pair_cell: Ints
    weight: Floats
    users: Ints
    """(cells,) distinct users"""

    @classmethod
    def of(cls, frame: pl.DataFrame, weight: Floats) -> _Cells:
        item, state, user = (frame[name].to_numpy().astype(np.int64) for name in ("item", "state", "user"))
        key, cell = np.unique(item * len(STATES) + state, return_inverse=True)
        distinct, pair = np.unique(cell * (int(user.max()) + 1) + user, return_inverse=True)
        pair_cell = distinct // (int(user.max()) + 1)
        return cls(
            cell,
            key // len(STATES),
            key % len(STATES),
            pair,
            pair_cell,
            weight,
            np.bincount(pair_cell, minlength=len(key)),
        )

    def looked(self, frame: pl.DataFrame, log: Log | None) -> pl.DataFrame:
        """Share of the units of each cell that were looked at in the same visit; 1 without a log: the units are looks themselves."""
        share = np.ones(len(self.code))
        if log is not None:
            views = log.engaged.select("user", "place", "item").unique().with_columns(hit=pl.lit(1.0))
            hit = frame.join(views, on=["user", "place", "item"], how="left", maintain_order="left")["hit"].fill_null(
                0.0
            )
            share = np.bincount(self.cell, hit.to_numpy(), len(self.code)) / np.bincount(self.cell)
        return pl.DataFrame({"code": self.code, "state": self.state, "looked": share})

    def table(self, outcome: str, residual: Floats, happened: Floats, options: EvidenceOptions) -> pl.DataFrame:
        """Shrunk effects of all cells with enough units.

        Args:
            residual: (N,) what happened less what was to be expected.
        """
        size, weight = len(self.code), self.weight
        count, total = np.bincount(self.cell, minlength=size), np.bincount(self.cell, weight, size)
        raw = np.bincount(self.cell, weight * residual, size) / total
        influence = np.bincount(self.pair, weight * (residual - raw[self.cell]), len(self.pair_cell))
        error = np.sqrt(np.bincount(self.pair_cell, influence**2, size)) / total
        base = np.bincount(self.cell, weight * (happened - residual), size) / total
        # A cell in which nothing happened has no spread of its own: its error cannot be below that of a rare event.
        floor = np.sqrt(np.maximum(base * (1 - base), 1e-4) / np.maximum(self.users, 1))
        error = np.maximum(error, 0.5 * floor)
        kept = count >= options.min_support
        value = np.zeros(size)
        for state in range(len(STATES)):
            rows = kept & (self.state == state)
            if rows.any():
                raw[rows] -= _weighted_median(raw[rows], 1 / error[rows])
                value[rows] = shrink_normal(raw[rows], error[rows])
        return pl.DataFrame(
            {
                "code": self.code,
                "state": self.state,
                "outcome": [outcome] * size,
                "value": value,
                "low": value - Z * error,
                "high": value + Z * error,
                "support": count.astype(np.int64),
                "base": base,
                "raw": raw,
                "error": error,
            }
        ).filter(pl.Series(kept))


def _weighted_median(values: Floats, weight: Floats) -> float:
    order = np.argsort(values)
    place = np.searchsorted(weight[order].cumsum(), weight.sum() / 2)
    return float(values[order][place])


def shrink_normal(raw: Floats, error: Floats) -> Floats:
    """Posterior mean of effects that are none on average and differ by as much as the data says.

    The spread comes from unweighted moments (Hedges & Olkin 1985): where the true effect is large the error is, so weights would hide
    it. It is not known better than chance lets it: under none at all the mean square has a deviation of sqrt(2 / n).
    """
    if len(raw) < 3:
        return raw
    noise = error**2
    spread = max(float((raw**2 - noise).mean()), float(np.sqrt(2 / len(raw)) * np.median(noise)))
    found: Floats = raw * spread / (spread + noise)
    return found


def _moves(frame: pl.DataFrame, group: Ints, cells: _Cells, log: Log, options: EvidenceOptions) -> list[pl.DataFrame]:
    """Effects on where a need goes next, for items of the need's own category."""
    moved = _moved(frame, log, timedelta(days=options.horizon_days))
    here = np.isin(frame["state"].to_numpy(), HERE)
    into = np.bincount(moved[here & (moved >= 0)], minlength=len(log.categories))
    chosen = np.argsort(-into, kind="stable")[:MOST_MOVES]
    count, tables = np.bincount(group), []
    for category in chosen[into[chosen] >= options.min_support].tolist():
        went = (moved == category).astype(np.float64)
        usual = (np.bincount(group, went) / count)[group]
        table = cells.table(f"{MOVE}{log.categories[category]}", went - usual, went, options)
        tables.append(table.filter(pl.col("state").is_in(HERE)))
    return tables


def empty_effects() -> pl.DataFrame:
    """The table without rows."""
    numbers: dict[str, type[pl.DataType]] = dict.fromkeys(
        ("value", "low", "high", "neutral", "base", "looked", "raw", "error"), pl.Float64
    )
    texts: dict[str, type[pl.DataType]] = dict.fromkeys(("item", "state", "outcome", "kind"), pl.String)
    columns = (
        "item",
        "state",
        "outcome",
        "value",
        "low",
        "high",
        "support",
        "neutral",
        "kind",
        "base",
        "looked",
        "raw",
        "error",
    )
    return pl.DataFrame(schema={name: {**numbers, **texts, "support": pl.Int64}[name] for name in columns})


__all__ = [
    "BROWSING",
    "COMPARING",
    "DECIDING",
    "ELSEWHERE",
    "NONE",
    "OUTCOMES",
    "effects",
    "empty_effects",
    "read_units",
]
