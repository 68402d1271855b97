"""The obvious features of a gradient-boosted ranker: what an engineer would count in an afternoon.

Frequency with decay, rebuy interval, the same weeks last year, popularity windows and their trend, item-kNN. Every
number is of days strictly before the decision's day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .item_knn import similarity
from .protocol import Floats, Ints, Past

Rows = npt.NDArray[np.float32]
WINDOWS = (7, 14, 28, 56, 91, 182, 364)
SEASON = ((-14, 0), (0, 30), (30, 60))
"""days ahead of the decision, looked up 364 days earlier"""
HALF_LIVES = (60, 180, 365)
OWN, POPULAR, SEASONAL, NEAR = 250, 100, 60, 80
"""candidates from each source"""
NAMES = (
    *(f"sold_{w}d" for w in WINDOWS),
    "trend_7_28",
    "trend_28_91",
    *(f"season_{a}_{b}" for a, b in SEASON),
    "days_since_sale",
    "item_age",
    "times",
    *(f"decayed_{h}" for h in HALF_LIVES),
    "share_of_baskets",
    "days_since_bought",
    "days_since_first_bought",
    "rebuy_interval",
    "due",
    "in_last_basket",
    "own_same_weeks_last_year",
    "knn",
    "knn_rank",
    "orders",
    "basket_size",
    "days_since_order",
    "repeat_share",
    "order_interval",
)


@dataclass(frozen=True)
class Rack:
    """Candidates of one decision: item positions (C,) and features (C, len(NAMES))."""

    item: Ints
    feature: Rows


class Counter:
    """Counts as of any day up to the past's, of one past; ``near`` must have been counted before the days asked about."""

    def __init__(self, past: Past) -> None:
        self.past = past
        lines, self._items = past.lines, len(past.ids)
        self._first_day = int(lines.day.min())
        days = past.day - self._first_day + 1
        per_day = np.zeros((days + 1, self._items), np.int32)
        np.add.at(per_day, (lines.day - self._first_day + 1, lines.item), 1)
        self._until = per_day.cumsum(axis=0, dtype=np.int32)
        """[d, i]: sales of item i on days before first_day + d"""
        self._born = np.full(self._items, past.day)
        np.minimum.at(self._born, lines.item, lines.day)
        self._last = np.full((days + 1, self._items), -(10**6), np.int32)
        self._last[lines.day - self._first_day + 1, lines.item] = lines.day
        np.maximum.accumulate(self._last, axis=0, out=self._last)
        self._start = np.searchsorted(lines.user, np.arange(len(past.log.users) + 1))
        self._day: tuple[int, Rows, Ints, Ints] | None = None

    def rack(self, user: int, day: int, near: sparse.csr_matrix) -> Rack:
        """Candidates of ``user`` at the start of ``day`` with their features."""
        shared, popular, seasonal = self._market(day)
        own, days = self._history(user, day)
        items, place = np.unique(own, return_inverse=True)
        age = (day - days).astype(np.float64)
        times = np.bincount(place)
        decayed = [np.bincount(place, weights=0.5 ** (age / h)) for h in HALF_LIVES]
        since, first = np.full(len(items), np.inf), np.zeros(len(items))
        np.minimum.at(since, place, age)
        np.maximum.at(first, place, age)
        interval = np.where(times > 1, (first - since) / np.maximum(times - 1, 1), np.nan)
        orders = np.unique(days)
        lag = days - (day - 364)
        own_season = np.bincount(place, weights=(lag >= -14) & (lag < 45)) > 0
        seen = np.zeros(self._items)
        seen[items] = decayed[1]
        knn = np.asarray(seen @ near).ravel()
        top = np.argpartition(-knn, NEAR)[:NEAR] if self._items > NEAR else np.arange(self._items)
        kept = np.argsort(-(times + 1e-4 * decayed[2]), kind="stable")[:OWN]
        item = np.unique(np.concatenate([items[kept], popular, seasonal, top[knn[top] > 0]]))
        knn_place = np.empty(len(item))
        knn_place[np.argsort(-knn[item], kind="stable")] = np.arange(len(item))
        mine = np.zeros((len(item), 11))
        mine[:, 5:9] = np.nan
        row = np.searchsorted(items, item)
        row[row == len(items)] = 0
        had = items[row] == item
        table = np.stack(
            [
                times,
                *decayed,
                times / len(orders),
                since,
                first,
                interval,
                since / (interval + 1),
                since == (day - orders[-1]),
                own_season,
            ],
            axis=1,
        )
        mine[had] = table[row[had]]
        gaps = np.diff(orders)
        facts = [
            len(orders),
            len(own) / len(orders),
            day - orders[-1],
            (times > 1).mean(),
            gaps.mean() if len(gaps) else np.nan,
        ]
        feature = np.concatenate(
            [
                shared[item],
                mine,
                knn[item, None],
                knn_place[:, None],
                np.tile(facts, (len(item), 1)),
            ],
            axis=1,
            dtype=np.float32,
        )
        return Rack(item, feature)

    def _history(self, user: int, day: int) -> tuple[Ints, Ints]:
        rows = slice(self._start[user], self._start[user + 1])
        days = self.past.lines.day[rows]
        return self.past.lines.item[rows][days < day], days[days < day]

    def _count(self, first: int, last: int) -> Floats:
        """(I,) sales on days first <= d < last."""
        top = len(self._until) - 1
        low, high = (min(max(d - self._first_day, 0), top) for d in (first, last))
        return np.asarray(self._until[high] - self._until[low], np.float64)

    def _market(self, day: int) -> tuple[Rows, Ints, Ints]:
        """Item features (I, .), popular and seasonal candidates; the last day is kept."""
        if self._day is None or self._day[0] != day:
            sold = [self._count(day - w, day) for w in WINDOWS]
            season = [self._count(day - 364 + a, day - 364 + b) for a, b in SEASON]
            rate = {w: (count + 0.1) / w for w, count in zip(WINDOWS, sold, strict=True)}
            last = self._last[min(day - self._first_day, len(self._last) - 1)]
            columns = [
                *sold,
                np.log(rate[7] / rate[28]),
                np.log(rate[28] / rate[91]),
                *season,
                np.minimum(day - last, 1000),
                np.maximum(day - self._born, 0),
            ]
            popular = np.argsort(-(sold[2] + 1e-3 * sold[4]), kind="stable")[:POPULAR]
            seasonal = np.argsort(-(season[1] + 0.5 * season[2]) * (day - last < 60), kind="stable")[:SEASONAL]
            self._day = day, np.stack(columns, axis=1).astype(np.float32), popular, seasonal
        return self._day[1:]


def nearness(past: Past) -> sparse.csr_matrix:
    """(I, I) the item-kNN that the features use, of everything before the past's date."""
    return similarity(past, unit="basket", weighting="tfidf", shrink=20.0, neighbours=200)
