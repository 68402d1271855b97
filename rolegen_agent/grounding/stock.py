"""What can be bought at a time, as far as is known before it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

from ..evidence.market import Market, microseconds
from .similarity import Floats, Ints

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shelf:
    """What stands on the shelf at one moment."""

    in_stock: Mask
    """(items,)"""
    popularity: Floats
    """(items,) order lines of the last four weeks"""

    @cached_property
    def codes(self) -> Ints:
        """Items in stock, in order of codes."""
        return np.flatnonzero(self.in_stock)

    @cached_property
    def best_sellers(self) -> Ints:
        """Items in stock by falling sales, then by code."""
        return self.codes[np.argsort(-self.popularity[self.codes], kind="stable")]


class Stock:
    """The shelf at any time.

    Args:
        items: the catalogue in the market's order, with ``available`` and ``first_seen`` where known.
        days: an item counts as out of stock when nobody bought it for so long; None = stock is not inferred.
    """

    def __init__(self, items: pl.DataFrame, market: Market, days: float | None) -> None:
        self._market, self._days = market, days
        self._on_sale: Mask = (
            items["available"].fill_null(True).to_numpy()
            if "available" in items.columns
            else np.ones(items.height, bool)
        )
        never = np.iinfo(np.int64).max
        self._first_seen: Ints = (
            items["first_seen"].cast(pl.Datetime("us", "UTC")).to_physical().fill_null(never).to_numpy()
            if "first_seen" in items.columns
            else np.full(items.height, never)
        )
        # The decisions of one run ask for the same moment.
        self.at = lru_cache(maxsize=4)(self._at)

    def _at(self, at: datetime) -> Shelf:
        """On sale, seen before ``at`` and, with ``days``, sold within so many days before it."""
        market = self._market.as_of(at)
        mask = self._on_sale & (np.isfinite(market.idle_days) | (self._first_seen < microseconds(at)))
        if self._days is not None:
            mask &= market.idle_days <= self._days
        return Shelf(mask, market.recent)
