"""Units of the effects: who was where when what was shown, and how likely it was to be shown.

A *unit* is one exposure; in a log without exposures one view or cart, in a log without those one order line.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from .log import Log, Scope
from .options import EvidenceOptions
from .states import with_states

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Kind = Literal["dr", "association"]
LEAST_PROPENSITY = 1e-3
"""smaller ones are raised to it, counted: one unit must not speak for thousands"""
FOLDS = 5
"""parts of the users: what is expected of a unit is fitted on the other parts"""
SMOOTHING = 5.0
"""pseudo exposures of a stratum when propensities are modelled"""


@dataclass(frozen=True)
class Units:
    """Who was where, what was shown, and with which weight: N units."""

    frame: pl.DataFrame
    """unit, user, row and last_row (of what happened at the same moment), item, category (codes), time, place, price, need, stage, state, what the user had
    done before, and ``fold``, the users' part in the cross-fitting"""
    weight: Floats
    """(N,) inverse propensities"""
    kind: Kind
    propensities: Literal["logged", "modelled", "none"]
    raised: int
    """propensities below ``LEAST_PROPENSITY``"""

    @property
    def group(self) -> Ints:
        """(N,) number of the (stage, category of the need)."""
        return np.unique(situation(self.frame), return_inverse=True)[1].astype(np.int64)


def situation(rows: pl.DataFrame) -> Ints:
    """(N,) one number for each (stage, category of the need)."""
    return rows.select(8 * (pl.col("need").cast(pl.Int64).fill_null(-1) + 1) + pl.col("stage")).to_series().to_numpy()


def read_units(log: Log, options: EvidenceOptions) -> Units | None:
    """The units whose horizon is over; None where the log has nothing of the kind."""
    return units_until(unit_rows(log, options), log, options)


def unit_rows(log: Log, options: EvidenceOptions) -> pl.DataFrame:
    """All units, also those whose horizon is open: what ``Units.frame`` holds, and ``propensity``, by user and row."""
    shown = log.exposed
    if not log.has_exposures:
        shown = log.engaged.filter(pl.col("kind") != "order") if log.has_views else log.engaged
        shown = shown.with_columns(propensity=pl.lit(None, pl.Float64))
    # The lines of one basket happen at once: none is before another.
    told = shown.with_columns(
        row=pl.col("row").min().over("user", "time"), last_row=pl.col("row").max().over("user", "time")
    ).select("user", "item", "category", "time", "row", "last_row", "place", "price", "propensity")
    frame = with_states(told, log.engaged, options).sort("user", "row").with_row_index("unit")
    fold = np.array([zlib.crc32(user.encode()) % FOLDS for user in log.users.to_list()], dtype=np.uint8)
    return _history(frame, log).with_columns(fold=pl.Series(fold[frame["user"].to_numpy()], dtype=pl.UInt8))


def units_until(rows: pl.DataFrame, scope: Scope, options: EvidenceOptions) -> Units | None:
    """Those of ``unit_rows`` whose horizon is over, weighted; None without any."""
    frame = rows.filter(pl.col("time") <= scope.at - timedelta(days=options.horizon_days))
    if frame.is_empty():
        return None
    kind: Kind = "dr" if scope.has_exposures else "association"
    weight, told, raised = _weights(frame, kind)
    return Units(frame.with_columns(unit=pl.int_range(pl.len(), dtype=pl.UInt32)), weight, kind, told, raised)


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
