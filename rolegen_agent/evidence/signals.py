"""What speaks for an item in a dormant user's next order, as numbers: the inputs of the next-order model.

One function computes them for fitting and for reasoning, so that both see the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from .market import DAY_US, SEASON_DAYS, YEAR_DAYS, Market, Snapshot

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FEATURES = (
    "orders",  # log(1 + order days of the item by this user)
    "views",  # log(1 + days on which this user viewed or carted it)
    "recency",  # log(1 + days since this user last engaged with it); 0 for new items
    "last_basket",  # 1 when it was in the user's last order
    "due",  # log(days since bought / interval): 0 = due now, negative = too early; 0 for new items
    "due_far",  # the square of it
    "recent",  # log(1 + lines of the last 28 days)
    "trend",  # log of the last 28 days against the last 90
    "season",  # log(1 + lines in these weeks last year)
    "season_peak",  # log of these weeks last year against the whole year; 0 where the log does not reach back
    "complement",  # summed log lift (lower ends) from the user's items, across categories
    "sibling",  # the same within the category
    "category",  # log of the user's share of the category against everyone's
    "price",  # |log price - median log price of the user|
    "baskets",  # log(1 + order days of the user)
    "basket_size",  # log of the user's mean lines per order day
)
POPULAR, SEASONAL, RELATED = 150, 60, 80
"""how many new items of each source are considered"""
UNKNOWN_INTERVAL = 60.0
"""days; used only where no item of the log was ever bought twice"""


@dataclass(frozen=True)
class Reference:
    """What the evidence says of items, as arrays over the item codes of one market."""

    complement: sparse.csr_matrix
    """(items, items): log of the lower end of the directed lift, where that is above 0"""
    sibling: sparse.csr_matrix
    """the same within one category"""
    interval_days: Floats
    """(items,): median rebuy interval; that of all items where unknown"""

    @classmethod
    def of(cls, tables: Mapping[str, pl.DataFrame], market: Market) -> Reference:
        """From the tables ``complement``, ``siblings`` and ``replenishment``."""
        rhythm = tables["replenishment"].select("item", "interval_days")
        facts = pl.DataFrame({"item": market.items}).join(rhythm, on="item", how="left", maintain_order="left")
        interval = facts["interval_days"].cast(pl.Float64)
        usual = interval.median()
        return cls(
            complement=_matrix(tables["complement"], market),
            sibling=_matrix(tables["siblings"], market),
            interval_days=interval.fill_null(usual if isinstance(usual, float) else UNKNOWN_INTERVAL).to_numpy().copy(),
        )


def _matrix(pairs: pl.DataFrame, market: Market) -> sparse.csr_matrix:
    codes = pl.DataFrame({"item": market.items}).with_row_index("code")
    coded = (
        pairs.filter(pl.col("low") > 1)
        .join(codes.rename({"code": "row"}), on="item")
        .join(codes.rename({"code": "column", "item": "other"}), on="other")
        .select("row", "column", weight=pl.col("low").log())
    )
    size = len(market.items)
    cells = (coded["row"].to_numpy().astype(np.int64), coded["column"].to_numpy().astype(np.int64))
    return sparse.csr_matrix((coded["weight"].to_numpy(), cells), shape=(size, size))


@dataclass(frozen=True)
class History:
    """A user's events before the decision: arrays of shape (events,) in time order."""

    code: Ints
    us: Ints
    order: npt.NDArray[np.bool_]
    """True for an order, False for a view or cart"""


@dataclass(frozen=True)
class Considered:
    """The items considered for a user, each with its signals."""

    code: Ints
    owned: npt.NDArray[np.bool_]
    """the user engaged with it before"""
    signals: Floats
    """(items, len(FEATURES))"""


def consider(history: History, now: int, market: Market, snapshot: Snapshot, reference: Reference) -> Considered:
    """The items worth considering, own ones first, then new ones, each with its signals.

    Args:
        now: the decision time in microseconds; everything in ``history`` and ``snapshot`` lies before it.
    """
    size = len(market.items)
    own, inverse = np.unique(history.code, return_inverse=True)
    day = history.us // DAY_US
    order_days = _distinct(inverse[history.order], day[history.order], len(own))
    view_days = _distinct(inverse[~history.order], day[~history.order], len(own))
    last = np.zeros(len(own), dtype=np.int64)
    np.maximum.at(last, inverse, history.us)
    first = np.full(len(own), np.iinfo(np.int64).max)
    np.minimum.at(first, inverse, history.us)

    complement, sibling = (_summed(matrix, own, size) for matrix in (reference.complement, reference.sibling))
    related = np.flatnonzero((complement > 0) | (sibling > 0))
    strength = complement[related] + sibling[related]
    related = related[np.lexsort((related, -strength))][:RELATED]
    new = np.unique(np.concatenate([snapshot.popular[:POPULAR], snapshot.seasonal[:SEASONAL], related]))
    new = new[~np.isin(new, own) & (snapshot.quarter[new] > 0)]
    code = np.concatenate([own, new])
    n_own = len(own)

    out = np.zeros((len(code), len(FEATURES)))
    days = (now - last) / DAY_US
    span = (last - first) / DAY_US
    interval = np.where(order_days > 1, span / np.maximum(order_days - 1, 1), reference.interval_days[own])
    ratio = np.clip(np.log(np.maximum(days, 0.5) / np.maximum(interval, 1.0)), -3, 3)
    ordered = order_days > 0
    last_order_day = day[history.order].max() if history.order.any() else -1
    mine = out[:n_own]
    mine[:, 0] = np.log1p(order_days)
    mine[:, 1] = np.log1p(view_days)
    mine[:, 2] = np.log1p(days)
    mine[:, 3] = last // DAY_US == last_order_day
    mine[:, 4] = np.where(ordered, ratio, 0.0)
    mine[:, 5] = mine[:, 4] ** 2
    out[:, 6] = np.log1p(snapshot.recent[code])
    out[:, 7] = out[:, 6] - np.log1p(snapshot.quarter[code] * 28 / 90)
    out[:, 8] = np.log1p(snapshot.season[code])
    if snapshot.season.any():
        out[:, 9] = out[:, 8] - np.log1p(snapshot.year[code] * SEASON_DAYS / YEAR_DAYS)
    root = np.sqrt(len(own) + 1.0)
    out[:, 10] = np.log1p(complement[code] / root)
    out[:, 11] = np.log1p(sibling[code] / root)
    share = np.bincount(market.category_code[history.code], minlength=len(market.categories)).astype(np.float64)
    everyone = np.bincount(market.category_code, snapshot.year, minlength=len(market.categories)) + 1.0
    everyone /= everyone.sum()
    liking = np.log((share + 5 * everyone) / (len(history.code) + 5) / everyone)
    out[:, 12] = liking[market.category_code[code]]
    log_price = np.log(np.maximum(market.price, 0.01))
    known = log_price[history.code]
    known = known[~np.isnan(known)]
    if len(known):
        out[:, 13] = np.nan_to_num(np.abs(log_price[code] - np.median(known)))
    baskets = len(np.unique(day[history.order]))
    out[:, 14] = np.log1p(baskets)
    out[:, 15] = np.log1p(order_days.sum() / max(baskets, 1))
    return Considered(code=code, owned=np.arange(len(code)) < n_own, signals=out)


def _distinct(group: Ints, day: Ints, size: int) -> Floats:
    """Distinct days of each group."""
    if not len(group):
        return np.zeros(size)
    pairs = np.unique(group * 100_000 + day)
    return np.bincount(pairs // 100_000, minlength=size).astype(np.float64)


def _summed(matrix: sparse.csr_matrix, rows: Ints, size: int) -> Floats:
    """Sum of the matrix's rows as a dense vector."""
    starts, stops = matrix.indptr[rows], matrix.indptr[rows + 1]
    cells = np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)]) if len(rows) else rows
    cells = cells.astype(np.int64)
    return np.bincount(matrix.indices[cells], matrix.data[cells], minlength=size).astype(np.float64)
