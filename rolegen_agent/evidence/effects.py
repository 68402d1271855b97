"""What an item does, given the intent state: doubly robust effects where exposures are logged, associations otherwise.

Over the units of ``units.py``. The effect of item i in
state s is ``E[Y | do(show i), s]`` less the same for the typical item: what showing i brings beyond showing anything.
It is estimated by augmented inverse propensity weighting (Robins, Rotnitzky & Zhao 1994; Dudík, Langford & Li 2011 for logged
policies), with weights normalised (Hájek) and an outcome regression that is fitted on other users than it is used for
(Chernozhukov et al. 2018)::

    effect(i, s) = sum_{A = i, s} w (Y - m(x)) / sum_{A = i, s} w,   w = 1 / P(A = i | what the shop knew)

where m(x), the expected outcome of a moment whatever is shown, has the mean of Y in each (stage, category of the need).
Right where the propensities are right, whatever is hidden; where they are not logged they are modelled from what the log
shows, and then right if nothing else steered what was shown. Without exposures w = 1, and the figure is an association.

Errors are clustered by user (delete-one jackknife). Effects of one state and outcome count from their median,
since most items move nothing there, and are shrunk to it by empirical Bayes (normal). The interval holds the error of that median too, and keeps the
width of the estimate before shrinkage, which is the safe side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
from scipy import special

from .followed import follow_ups, moved_to, ordered_within, own_outcomes
from .log import Log, Scope
from .options import EvidenceOptions
from .shrink import Z
from .states import HERE, STATES
from .units import FOLDS, SMOOTHING, Floats, Ints, Units, unit_rows, units_until

OUTCOMES = ("order", "entry", "cheaper", "itself")
"""within the horizon: a net order; something else of the category engaged with of the user's own accord, at a later visit; a cheaper
item of the category ordered; the item itself ordered. ``move:CATEGORY`` is the fifth kind: the next other category engaged with"""
MOVE = "move:"
RIDGE = 1.0
"""of the outcome regression, per unit on standardised covariates"""
_COLUMNS = (
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
MOST_MOVES = 40
"""categories that moves are counted into; the rest has too few"""


def effects(log: Log, options: EvidenceOptions) -> tuple[pl.DataFrame, dict[str, int]]:
    """Effects of all items in all states, see ``effect_table``."""
    return effect_table(effect_rows(log, options), log, options)


def effect_rows(log: Log, options: EvidenceOptions) -> dict[str, pl.DataFrame]:
    """``units``: all units (see ``unit_rows``) and what followed each; ``met``: see ``follow_ups``. User by user, whatever the as-of time."""
    frame, horizon = unit_rows(log, options), timedelta(days=options.horizon_days)
    found = frame.with_columns(ordered=pl.Series(ordered_within(frame, log, horizon) > 0, dtype=pl.Boolean))
    if not log.has_exposures:
        return {"units": found.drop("unit", "row", "last_row", "place")}
    own, met = follow_ups(frame, log, horizon)
    looks = log.engaged.select("user", "place", "item").unique().with_columns(looked=pl.lit(True))
    looked = frame.join(looks, on=["user", "place", "item"], how="left", maintain_order="left")["looked"]
    goes = pl.Series(moved_to(frame, log, horizon), dtype=pl.Int64)
    found = pl.concat([found, own], how="horizontal").with_columns(
        looked=looked.fill_null(False), goes=pl.when(goes >= 0).then(goes).cast(pl.UInt32)
    )
    return {"units": found.drop("unit", "row", "last_row", "place"), "met": met}


def effect_table(
    rows: Mapping[str, pl.DataFrame], scope: Scope, options: EvidenceOptions
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Effects of all items in all states, of the units whose horizon is over.

    Args:
        rows: what ``effect_rows`` gave.

    Returns:
        A table with the columns item, state, outcome, value, low, high, support, neutral (0), kind, base (the expected outcome of
        the state), looked (share of exposures that were looked at), raw and error (before shrinkage), by item, outcome and state;
        and counts of what was left out.
    """
    units = units_until(rows["units"], scope, options)
    if units is None:
        return empty_effects(), {}
    frame, group = units.frame, units.group
    cells = _Cells.of(frame, units.weight)
    ordered = frame["ordered"].to_numpy().astype(np.float64)
    tables = [cells.table("order", ordered - _expected(frame, ordered, group), ordered, options)]
    if units.kind == "dr":
        own = own_outcomes(units, rows["met"], scope, timedelta(days=options.horizon_days))
        for name, (happened, expected) in own.items():
            tables.append(cells.table(name, happened - expected, happened, options))
        tables += _moves(units, cells, scope, options)
    looked = cells.looked(frame)
    table = (
        pl.concat(tables)
        .join(looked, on=["code", "state"])
        .join(scope.items.select(code=pl.col("code").cast(pl.Int64), id="item"), on="code")
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


def _expected(frame: pl.DataFrame, outcome: Floats, group: Ints) -> Floats:
    """(N,) expected outcome of each unit's moment, whatever is shown: ridge within the groups, fitted on other users."""
    x = np.log1p(
        frame.select(
            pl.col("orders_before", "looks_before", "run_length").cast(pl.Float64), pl.col("idle_days").fill_null(365.0)
        ).to_numpy()
    )
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    x = np.column_stack([x, x**2])
    fold = frame["fold"].to_numpy()
    found, groups, everyone = np.zeros(len(outcome)), int(group.max()) + 1, float(outcome.mean())
    for held in range(FOLDS):
        fit, use = fold != held, fold == held
        if not use.any() or not fit.any():
            found[use] = everyone
            continue
        inside = group[fit]
        count = np.bincount(inside, minlength=groups)
        mean_y = (np.bincount(inside, outcome[fit], groups) + SMOOTHING * everyone) / (count + SMOOTHING)
        sums = np.column_stack([np.bincount(inside, column, groups) for column in x[fit].T])
        mean_x = sums / np.maximum(count, 1)[:, None]
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

    def looked(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Share of the units of each cell that were looked at in the same visit; 1 where the units are looks themselves."""
        share = np.ones(len(self.code))
        if "looked" in frame.columns:
            hit = frame["looked"].to_numpy().astype(np.float64)
            share = np.bincount(self.cell, hit, len(self.code)) / np.bincount(self.cell)
        return pl.DataFrame({"code": self.code, "state": self.state, "looked": share})

    def mean(self, residual: Floats) -> tuple[Floats, Floats]:
        """Weighted mean of ``residual`` (N,) by cell, and its standard error: jackknife over users, each left out in turn."""
        size, weight = len(self.code), self.weight
        total = np.bincount(self.cell, weight, size)
        found = np.bincount(self.cell, weight * residual, size) / total
        influence = np.bincount(self.pair, weight * (residual - found[self.cell]), len(self.pair_cell))
        # A user of great weight pulls the mean along, so that their own deviation from it looks small.
        share = np.bincount(self.pair, weight, len(self.pair_cell)) / total[self.pair_cell]
        left_out = influence / np.maximum(1 - share, 1e-9)
        return found, np.sqrt(np.bincount(self.pair_cell, left_out**2, size)) / total

    def table(self, outcome: str, residual: Floats, happened: Floats, options: EvidenceOptions) -> pl.DataFrame:
        """Shrunk effects of all cells with enough units.

        Args:
            residual: (N,) what happened less what was to be expected.
        """
        size, weight = len(self.code), self.weight
        count, total = np.bincount(self.cell, minlength=size), np.bincount(self.cell, weight, size)
        raw, error = self.mean(residual)
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
                error[rows] = centred_error(value[rows], error[rows])
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


def centred_error(value: Floats, error: Floats) -> Floats:
    """Standard errors of effects that count from their weighted median, whose own error they share.

    With z = value / error, weights w = 1 / error and densities f = phi(z) / error at the median, the median of fixed effects has the variance
    V = sum w² P(z) (1 - P(z)) / (sum w f)², and with estimate i the covariance error_i² w_i f_i / sum w f (Bahadur's linear form of
    a quantile); the variance of the difference is error² + V - 2 covariance.
    """
    below, density, weight = special.ndtr(value / error), np.exp(-0.5 * (value / error) ** 2) / error, 1 / error
    density /= np.sqrt(2 * np.pi)
    slope = float((weight * density).sum())
    variance = float((weight**2 * below * (1 - below)).sum()) / slope**2
    found: Floats = np.sqrt(np.maximum(error**2 + variance - 2 * error**2 * weight * density / slope, 0.0))
    return found


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


def _moves(units: Units, cells: _Cells, scope: Scope, options: EvidenceOptions) -> list[pl.DataFrame]:
    """Effects on where a need goes next, for items of the need's own category."""
    frame, group = units.frame, units.group
    moved = frame["goes"].cast(pl.Int64).fill_null(-1).to_numpy()
    here = np.isin(frame["state"].to_numpy(), HERE)
    into = np.bincount(moved[here & (moved >= 0)], minlength=len(scope.categories))
    chosen = np.argsort(-into, kind="stable")[:MOST_MOVES]
    count, tables = np.bincount(group), []
    for category in chosen[into[chosen] >= options.min_support].tolist():
        went = (moved == category).astype(np.float64)
        usual = (np.bincount(group, went) / count)[group]
        table = cells.table(f"{MOVE}{scope.categories[category]}", went - usual, went, options)
        tables.append(table.filter(pl.col("state").is_in(HERE)))
    return tables


def empty_effects() -> pl.DataFrame:
    """The table without rows."""
    kinds: dict[str, type[pl.DataType]] = dict.fromkeys(_COLUMNS, pl.Float64)
    kinds |= dict.fromkeys(("item", "state", "outcome", "kind"), pl.String)
    return pl.DataFrame(schema={**kinds, "support": pl.Int64})
