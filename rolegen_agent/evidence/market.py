"""What the shop as a whole was buying just before a moment: demand now, demand in these weeks last year, stock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

from .log import require_zone

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
DAY_US = 86_400_000_000
YEAR_DAYS = 365
SEASON_DAYS = 42
"""length of "these weeks last year", from the same date on: the purchase lies ahead of the decision"""


@dataclass(frozen=True)
class Snapshot:
    """Order lines before ``at`` by item code: arrays of shape (items,)."""

    at: datetime
    recent: Floats
    """lines of the last 28 days"""
    quarter: Floats
    """lines of the last 90 days"""
    season: Floats
    """lines of the ``SEASON_DAYS`` that began a year ago; zeros where the log does not reach back so far"""
    year: Floats
    """lines of the last 365 days"""
    idle_days: Floats
    """days since the item was last sold; infinite where it never was"""
    popular: Ints
    """codes in falling order of ``recent``, then ``quarter``, then by code; only items sold in the last 90 days"""
    seasonal: Ints
    """codes in falling order of ``season`` among the items sold in the last 90 days"""


class Market:
    """Order lines of all users in time order. ``as_of`` reads only those strictly before the moment asked for."""

    def __init__(self, events: pl.DataFrame, items: pl.DataFrame) -> None:
        catalogue = items.sort("item").with_row_index("code")
        self.items: list[str] = catalogue["item"].to_list()
        self.titles: list[str] = catalogue["title"].to_list()
        self.category: list[str] = catalogue["category"].to_list()
        self.code: dict[str, int] = {item: code for code, item in enumerate(self.items)}
        names = catalogue["category"].unique().sort()
        self.categories: list[str] = names.to_list()
        self.category_code: Ints = (
            catalogue["category"].cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy().astype(np.int64)
        )
        lines = (
            events.filter(pl.col("behaviour") == "order")
            .join(catalogue.select("item", "code"), on="item", how="inner")
            .select("code", us=pl.col("time").cast(pl.Datetime("us", "UTC")).to_physical(), price="price")
            .sort("us", maintain_order=True)
        )
        self._line_code: Ints = lines["code"].to_numpy().astype(np.int64)
        self._line_us: Ints = lines["us"].to_numpy().astype(np.int64)
        paid = lines.group_by("code").agg(pl.col("price").median())
        price = catalogue.join(paid, on="code", how="left", maintain_order="left", suffix="_paid")
        self.price: Floats = (
            price.select(pl.coalesce("price", "price_paid").cast(pl.Float64).fill_null(float("nan")))
            .to_series()
            .to_numpy()
            .copy()
        )
        self.as_of = lru_cache(maxsize=64)(self._as_of)

    def _window(self, low: int, high: int) -> Floats:
        start, stop = np.searchsorted(self._line_us, [low, high])
        return np.bincount(self._line_code[start:stop], minlength=len(self.items)).astype(np.float64)

    def _as_of(self, at: datetime) -> Snapshot:
        now = microseconds(at)
        recent, quarter = self._window(now - 28 * DAY_US, now), self._window(now - 90 * DAY_US, now)
        year_ago = now - YEAR_DAYS * DAY_US
        season = self._window(year_ago, min(now, year_ago + SEASON_DAYS * DAY_US))
        before = int(np.searchsorted(self._line_us, now))
        idle = np.full(len(self.items), np.inf)
        idle[self._line_code[:before]] = (now - self._line_us[:before]) / DAY_US  # time order: the last write stays
        sold = np.flatnonzero(quarter > 0)
        return Snapshot(
            at=at,
            recent=recent,
            quarter=quarter,
            season=season,
            year=self._window(year_ago, now),
            idle_days=idle,
            popular=sold[np.lexsort((sold, -quarter[sold], -recent[sold]))],
            seasonal=sold[np.lexsort((sold, -season[sold]))],
        )


def microseconds(at: datetime) -> int:
    """Whole microseconds since 1970 in UTC, without the rounding of a float timestamp."""
    whole = int(require_zone(at).replace(microsecond=0).timestamp())
    return whole * 1_000_000 + at.microsecond
