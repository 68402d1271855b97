"""What can be counted before a decision: popularity, season, stock that is gone, and the user's own rebuying.

One code path serves training and inference, so both see the same numbers, and every number comes from rows strictly
before the decision's day. A network that cannot see these loses to a frequency count (``backbone/LOG.md``).

A decision's *pool* is the short list that the pointer part of the model chooses from: the user's own items, what sells
now and what sold in the coming weeks of last year. Reasoned candidates are looked up with it, but only their own gated
pointer may choose those that the pool did not hold. Everything else is the decoder's.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Final

import numpy as np

from .events import DAY, ORDER, REFUND, EventLog, Floats, Ints

WINDOWS: Final = (7, 28, 91, 364)
"""days of the popularity windows"""
SEASON: Final = ((0, 30), (30, 90))
"""days ahead of the decision, looked up one year (364 days: same weekday) earlier"""

ITEM_FEATURES: Final = (
    *(f"popularity_{w}d" for w in WINDOWS),
    "trend_7d_to_28d",
    "trend_28d_to_91d",
    *(f"season_{a}d_to_{b}d" for a, b in SEASON),
    "season_lift",
    "days_since_any_sale",
    "item_age",
)
OWN_FEATURES: Final = (
    "owned",
    "times_bought",
    "share_of_baskets",
    "days_since_bought",
    "days_since_first_bought",
    "due",
    "due_missing",
    "in_last_basket",
    "in_first_basket",
    "refunded",
    "units_per_order",
    "bought_same_season_last_year",
)
POOL_FEATURES: Final = (*ITEM_FEATURES, *OWN_FEATURES, "price_to_usual")
USER_FEATURES: Final = (
    "baskets",
    "distinct_items",
    "items_per_basket",
    "repeat_share",
    "days_since_last",
    "days_since_first",
    "mean_gap",
    "gap_regularity",
    "overdue",
    "refund_share",
    "usual_price",
    "value",
    "year_sin",
    "year_cos",
)


_DAYS: Final = 1 << 24
"""more days than any log has: the radix of (item, day) pairs"""


@dataclass(frozen=True)
class PoolSize:
    """How many items each source may bring to the pool."""

    own: int = 192
    popular: int = 96
    season: int = 64


@dataclass(frozen=True)
class Pool:
    """The pool of one decision, P distinct items."""

    item: Ints
    """(P,)"""
    feature: Floats
    """(P, len(POOL_FEATURES))"""
    user: Floats
    """(len(USER_FEATURES),)"""
    extra: int = 0
    """how many of the last items only the reasoned candidates brought in: the pool's own pointer may not choose them"""


class Clock:
    """Sales of every item as of any day, from the sorted (item, day) pairs: memory grows with the log, not with days x items."""

    def __init__(self, log: EventLog, *, keep: int = 64) -> None:
        ordered = log.behaviour == ORDER
        # One count per user, item and day: a wholesaler's forty lines are one wish, not forty.
        once = np.unique(np.stack([log.item[ordered], log.time[ordered] // DAY, log.user[ordered]], axis=1), axis=0)
        self._base = np.int64(_DAYS)
        self._keys = once[:, 0] * self._base + once[:, 1]
        self._items = np.arange(len(log.items), dtype=np.int64) * self._base
        self._first_day = np.full(len(log.items), np.iinfo(np.int32).max, dtype=np.int64)
        np.minimum.at(self._first_day, once[:, 0], once[:, 1])
        self._cache: OrderedDict[int, tuple[Floats, Ints, Ints]] = OrderedDict()
        self._keep = keep
        self._lock = Lock()

    def _until(self, day: int) -> Ints:
        """(I,) position of each item's first sale at or after ``day``."""
        return np.searchsorted(self._keys, self._items + day, side="left")

    def _count(self, first: int, last: int) -> Floats:
        """(I,) sales on days first <= day < last."""
        return (self._until(max(last, 0)) - self._until(max(first, 0))).astype(np.float32)

    def at(self, day: int) -> tuple[Floats, Ints, Ints]:
        """Item features (I, len(ITEM_FEATURES)), items sold lately by popularity, and items by season."""
        with self._lock:
            if (known := self._cache.get(day)) is not None:
                self._cache.move_to_end(day)
                return known
        recent = [self._count(day - w, day) for w in WINDOWS]
        season = [self._count(day - 364 + a, day - 364 + b) for a, b in SEASON]
        year = recent[-1]
        end = self._until(day)
        begin = self._until(0)
        sold = end > begin
        last = np.where(sold, self._keys[np.maximum(end - 1, 0)] - self._items, day - 1000)
        gone = np.minimum(day - last, 1000).astype(np.float32)
        age = np.clip(day - self._first_day, 0, 1000).astype(np.float32)
        share = [np.log((c + 0.5) / (c.sum() + 0.5 * len(c)) * len(c)) for c in (*recent, *season)]
        columns = [
            *share[: len(WINDOWS)],
            share[0] - share[1],
            share[1] - share[2],
            *share[len(WINDOWS) :],
            np.log((season[0] + season[1] + 1) / (year * (SEASON[-1][1] / 364) + 1)),
            np.log1p(gone),
            np.log1p(age),
        ]
        feature = np.stack(columns, axis=1).astype(np.float32)
        value = (
            feature,
            _best_first(recent[1] + 1e-4 * recent[2]),
            _best_first((season[0] + 0.5 * season[1]) * (gone < 60)),
        )
        with self._lock:
            self._cache[day] = value
            if len(self._cache) > self._keep:
                self._cache.popitem(last=False)
        return value


def _best_first(score: Floats) -> Ints:
    """Items with a positive score, best first, ties by index."""
    order = np.argsort(-score, kind="stable")
    return order[: int((score > 0).sum())]


class Features:
    """Pools of decisions over one log."""

    def __init__(self, log: EventLog, price: Floats, size: PoolSize | None = None) -> None:
        """``price``: (I,) catalogue price per item, NaN where unknown."""
        self.log = log
        self.clock = Clock(log)
        self.size = size or PoolSize()
        self._price = np.log(np.where(np.isfinite(price) & (price > 0), price, np.nan))
        self._price = np.where(
            np.isfinite(self._price), self._price, np.nanmedian(self._price) if np.isfinite(self._price).any() else 0.0
        )

    def user(self, user: int, at: int) -> Floats:
        """(len(USER_FEATURES),) what can be counted about user index ``user`` before Unix second ``at``."""
        return self._look(user, at)[0]

    def pool(self, user: int, at: int, extra: Ints | None = None) -> Pool:
        """The pool of user index ``user`` at Unix second ``at``; ``extra`` items (reasoned candidates) always belong to it."""
        facts, own, own_feature, usual = self._look(user, at)
        item_feature, popular, seasonal = self.clock.at(at // DAY)
        pool = np.concatenate([own[: self.size.own], popular[: self.size.popular], seasonal[: self.size.season]])
        _, first = np.unique(pool, return_index=True)
        pool = pool[np.sort(first)]
        new = np.setdiff1d(extra, pool) if extra is not None else pool[:0]
        pool = np.concatenate([pool, new])
        feature = np.zeros((len(pool), len(POOL_FEATURES)), np.float32)
        a, b = len(ITEM_FEATURES), len(ITEM_FEATURES) + len(OWN_FEATURES)
        feature[:, :a] = item_feature[pool]
        # An own item may also have come in as a bestseller or a candidate, beyond the cap on own ones.
        _, place, row = np.intersect1d(pool, own, assume_unique=True, return_indices=True)
        feature[place, a:b] = own_feature[row]
        feature[:, b] = self._price[pool] - usual
        return Pool(item=pool, feature=feature, user=facts, extra=len(new))

    def _look(self, user: int, at: int) -> tuple[Floats, Ints, Floats, float]:
        """User features, own items with their features, and the log price that the user usually pays."""
        log, day = self.log, at // DAY
        rows = log.rows(user, day * DAY)
        behaviour = log.behaviour[rows]
        ordered = behaviour == ORDER
        items, days = log.item[rows][ordered], log.time[rows][ordered] // DAY
        quantity = log.quantity[rows][ordered]
        own, own_feature, facts = self._own(items, days, quantity, log.item[rows][behaviour == REFUND], day)
        usual = float(self._price[items].mean()) if len(items) else float(self._price.mean())
        season = 2 * np.pi * (day % 365.25) / 365.25
        facts.update(
            refund_share=float((behaviour == REFUND).mean()) if len(behaviour) else 0.0,
            usual_price=usual,
            value=float(np.log1p(np.nansum(quantity * log.price[rows][ordered]))),
            year_sin=float(np.sin(season)),
            year_cos=float(np.cos(season)),
        )
        return np.array([facts[name] for name in USER_FEATURES], np.float32), own, own_feature, usual

    def _own(
        self, items: Ints, days: Ints, quantity: Floats, refunded: Ints, day: int
    ) -> tuple[Ints, Floats, dict[str, float]]:
        """The user's own items with their features, those that ``size.own`` keeps first, and facts about the user."""
        if not len(items):
            nothing = dict.fromkeys(USER_FEATURES, 0.0)
            return np.zeros(0, np.int64), np.zeros((0, len(OWN_FEATURES)), np.float32), nothing
        # Sorted (item, day) pairs as one integer each: np.unique over rows would be ten times slower.
        pair = np.unique(items * _DAYS + days)
        bought, on_day = pair // _DAYS, pair % _DAYS
        basket_days = np.unique(on_day)
        begin = np.flatnonzero(np.r_[True, bought[1:] != bought[:-1]])
        own, times = bought[begin], np.diff(np.r_[begin, len(pair)])
        first, last = on_day[begin], on_day[begin + times - 1]
        since = (day - last).astype(np.float32)
        interval = np.where(times > 1, (last - first) / np.maximum(times - 1, 1), np.nan)
        due = np.clip(np.log((since + 1) / (interval + 1)), -3, 3)
        units = np.bincount(np.searchsorted(own, items), weights=quantity, minlength=len(own)) / times
        lag = on_day - (day - 364)
        season = np.maximum.reduceat(((lag > -15) & (lag < SEASON[-1][1])).astype(np.float32), begin)
        columns = [
            np.ones(len(own)),
            np.log(times),
            times / len(basket_days),
            np.log1p(since) / 3,
            np.log1p(day - first) / 3,
            np.nan_to_num(due),
            np.isnan(interval),
            last == basket_days[-1],
            first == basket_days[0],
            np.isin(own, refunded),
            np.log1p(np.maximum(units, 0)) / 2,
            season,
        ]
        feature = np.stack(columns, axis=1).astype(np.float32)
        if len(own) > self.size.own:
            # Most often bought first, then most recent: what a frequency count would keep.
            best = np.lexsort((since, -times))
            own, feature = own[best], feature[best]
        gaps = np.diff(basket_days)
        mean_gap = float(gaps.mean()) if len(gaps) else 0.0
        since_last = float(day - basket_days[-1])
        facts = {
            "baskets": float(np.log(len(basket_days))),
            "distinct_items": float(np.log(len(begin))) / 3,
            "items_per_basket": float(np.log(len(pair) / len(basket_days))) / 3,
            "repeat_share": float((times > 1).mean()),
            "days_since_last": float(np.log1p(since_last)) / 3,
            "days_since_first": float(np.log1p(day - basket_days[0])) / 3,
            "mean_gap": float(np.log1p(mean_gap)) / 3,
            "gap_regularity": float(gaps.std() / (mean_gap + 1)) if len(gaps) > 1 else 0.0,
            "overdue": float(np.clip(np.log((since_last + 1) / (mean_gap + 1)), -3, 3)) if len(gaps) else 0.0,
        }
        return own, feature, facts
