"""What can be counted before a decision: popularity, season, stock that is gone, and the user's own rebuying.

One code path serves training and inference, so both see the same numbers, and every number comes from rows strictly
before the decision's day. A network that cannot see these loses to a frequency count (``backbone/LOG.md``).

A decision's *pool* is the short list that the pointer part of the model chooses from: the user's own items, what sells
now, what sold in the coming weeks of last year, and what goes with what the user bought. Reasoned candidates are looked up with it, but only their own gated
pointer may choose those that the pool did not hold. Everything else is the decoder's.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from .events import DAY, ORDER, REFUND, EventLog, Floats, Ints, distinct
from .neighbours import Neighbours, near_to

WINDOWS: Final = (7, 14, 28, 91, 364)
"""days of the popularity windows"""
SEASON: Final = ((0, 30), (30, 90))
"""days ahead of the decision, looked up one year (364 days: same weekday) earlier"""
FADING: Final = (60, 180)
"""half-lives, in days, of a purchase's weight"""
LATELY: Final = (180, 365)
"""days in which purchases are counted"""

ITEM_FEATURES: Final = (
    *(f"popularity_{w}d" for w in WINDOWS),
    "trend_7d_to_28d",
    "trend_28d_to_91d",
    *(f"season_{a}d_to_{b}d" for a, b in SEASON),
    "season_lift",
    "days_since_any_sale",
    "item_age",
    "bought_again",
    "buyers",
    "popular_with_returning",
    "price",
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
    "bought_these_weeks_last_year",
    *(f"times_fading_{d}d" for d in FADING),
    *(f"times_in_{d}d" for d in LATELY),
    "in_last_two_baskets",
    "rank_by_fading_times",
)
PAIR_FEATURES: Final = (
    "price_to_usual",
    "near_history",
    "near_last_basket",
    "shared_buyers",
    "family_bought",
    "text_to_history",
    "text_to_last_basket",
    "text_nearest",
    "alike_bought",
)
"""what links an item to the user: price, baskets and buyers in common with the user's own items, item numbers that differ
by a letter at the end (85123A and 85123B: one product in two colours), and its text"""
POOL_FEATURES: Final = (*ITEM_FEATURES, *OWN_FEATURES, *PAIR_FEATURES)
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


ALIKE: Final = 0.8
"""cosine of titles from which two items are variants of one another: the same mug in red"""
FAR: Final = 1e-4
"""similarity that counts as none"""
_DAYS: Final = 1 << 24
"""more days than any log has: the radix of (item, day) pairs"""


@dataclass(frozen=True)
class PoolSize:
    """How many items each source may bring to the pool."""

    own: int = 256
    popular: int = 128
    season: int = 64
    near: int = 64


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

    def own(self) -> Pool:
        """The pool as it is without candidates."""
        kept = len(self.item) - self.extra
        return Pool(item=self.item[:kept], feature=self.feature[:kept], user=self.user)


class Clock:
    """Sales of every item as of any day, from the sorted (item, day) pairs: memory grows with the log, not with days x items."""

    def __init__(self, log: EventLog, *, keep: int = 64) -> None:
        ordered = log.behaviour == ORDER
        # One count per user, item and day: a wholesaler's forty lines are one wish, not forty.
        once = distinct(log.item[ordered], log.time[ordered] // DAY, log.user[ordered])
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
        """Item features (I, len(ITEM_FEATURES) - 4), the last four of which are not the clock's, items sold lately by popularity, and items by season."""
        with self._lock:
            if (known := self._cache.get(day)) is not None:
                self._cache.move_to_end(day)
                return known
        recent = [self._count(day - w, day) for w in WINDOWS]  # 7, 14, 28, 91 and 364 days
        season = [self._count(day - 364 + a, day - 364 + b) for a, b in SEASON]
        year = recent[-1]
        end = self._until(day)
        begin = self._until(0)
        sold = end > begin
        last = np.where(sold, self._keys[np.maximum(end - 1, 0)] - self._items, day - 1000)
        gone = np.minimum(day - last, 1000).astype(np.float32)
        age = np.clip(day - self._first_day, 0, 1000).astype(np.float32)
        ever = max(int(sold.sum()), 1)  # not the catalogue: what will be added to it later must not show
        share = [np.log((c + 0.5) / (c.sum() + 0.5 * ever) * ever) for c in (*recent, *season)]
        columns = [
            *share[: len(WINDOWS)],
            share[0] - share[2],
            share[2] - share[3],
            *share[len(WINDOWS) :],
            np.log((season[0] + season[1] + 1) / (year * (SEASON[-1][1] / 364) + 1)),
            np.log1p(gone),
            np.log1p(age),
        ]
        feature = np.stack(columns, axis=1).astype(np.float32)
        value = (
            feature,
            _best_first(recent[2] + 1e-4 * recent[3]),
            _best_first((season[0] + 0.5 * season[1]) * (gone < 60)),
        )
        with self._lock:
            self._cache[day] = value
            if len(self._cache) > self._keep:
                self._cache.popitem(last=False)
        return value


def _families(items: npt.NDArray[np.str_]) -> Ints:
    """(I,) a number for each item id without the letters at its end."""
    stem = pl.Series(items.tolist(), dtype=pl.String).str.replace(r"(\d)[A-Za-z]{1,2}$", "$1")
    return stem.rank("dense").cast(pl.Int64).to_numpy()


def _best_first(score: Floats) -> Ints:
    """Items with a positive score, best first, ties by index."""
    order = np.argsort(-score, kind="stable")
    return order[: int((score > 0).sum())]


@dataclass(frozen=True)
class _Seen:
    """What a decision may see of its user."""

    facts: Floats
    """(len(USER_FEATURES),)"""
    own: Ints
    """(N,) items ever ordered"""
    own_feature: Floats
    """(N, len(OWN_FEATURES))"""
    times: Floats
    """(N,) days on which each was bought"""
    fading: Floats
    """(N,) times bought, each at half its weight after ``FADING[-1]`` days"""
    in_last: Floats
    """(N,) 1 for items of the last basket"""
    usual: float
    """log price that the user usually pays"""


class Features:
    """Pools of decisions over one log."""

    def __init__(self, log: EventLog, price: Floats, text: Floats, size: PoolSize | None = None) -> None:
        """``price``: (I,) catalogue price per item, NaN where unknown; ``text``: (I, E) unit rows, zero where unknown."""
        self.log, self._text = log, text
        self._family = _families(log.items)
        self.clock = Clock(log)
        self.neighbours = Neighbours(log)
        self.size = size or PoolSize()
        self._price = np.log(np.where(np.isfinite(price) & (price > 0), price, np.nan))
        self._price = np.where(
            np.isfinite(self._price), self._price, np.nanmedian(self._price) if np.isfinite(self._price).any() else 0.0
        )
        self._market: int | None = None

    def reading(self, log: EventLog, market: int | None) -> Features:
        """The same counts of the market, for the trajectories of another log over the same items.

        Args:
            market: the day whose market every decision reads; None: the decision's own.
        """
        other = copy.copy(self)
        other.log, other._market = log, market
        return other

    def market_day(self, at: int) -> int:
        """The day whose market a decision at Unix second ``at`` reads."""
        return at // DAY if self._market is None else self._market

    def user(self, user: int, at: int) -> Floats:
        """(len(USER_FEATURES),) what can be counted about user index ``user`` before Unix second ``at``."""
        return self._look(user, at).facts

    def pool(self, user: int, at: int, extra: Ints | None = None) -> Pool:
        """The pool of user index ``user`` at Unix second ``at``; ``extra`` items (reasoned candidates) always belong to it."""
        seen = self._look(user, at)
        day = self.market_day(at)
        item_feature, popular, seasonal = self.clock.at(day)
        links = self.neighbours.at(day)
        near, near_last = near_to(links.by_basket, seen.own, seen.fading, seen.in_last)
        (shared,) = near_to(links.by_user, seen.own, seen.fading)
        size = self.size
        pool = np.concatenate(
            [
                seen.own[: size.own],
                popular[: size.popular],
                seasonal[: size.season],
                _best_first((near + shared / 2).astype(np.float32))[: size.near],
            ]
        )
        _, first = np.unique(pool, return_index=True)
        pool = pool[np.sort(first)]
        new = np.setdiff1d(extra, pool) if extra is not None else pool[:0]
        pool = np.concatenate([pool, new])
        feature = np.zeros((len(pool), len(POOL_FEATURES)), np.float32)
        a, b = len(ITEM_FEATURES), len(ITEM_FEATURES) + len(OWN_FEATURES)
        feature[:, : a - 4] = item_feature[pool]
        feature[:, a - 4 : a] = np.stack(
            [links.again[pool], links.buyers[pool], links.returning[pool], self._price[pool]], axis=1
        )
        # An own item may also have come in as a bestseller or a candidate, beyond the cap on own ones.
        _, place, row = np.intersect1d(pool, seen.own, assume_unique=True, return_indices=True)
        feature[place, a:b] = seen.own_feature[row]
        feature[:, b] = self._price[pool] - seen.usual
        feature[:, b + 1] = np.log(near[pool] + FAR)
        feature[:, b + 2] = np.log(near_last[pool] + FAR)
        feature[:, b + 3] = np.log(shared[pool] + FAR)
        if len(seen.own):
            same = (self._family[pool][:, None] == self._family[seen.own]) & (pool[:, None] != seen.own)
            # Not as a product of matrices: of truth values it warns of invalid numbers now and then, where there are none.
            feature[:, b + 4] = np.log1p((same * seen.times).sum(axis=1))
            feature[:, b + 5 :] = self._wording(pool, seen)
        return Pool(item=pool, feature=feature, user=seen.facts, extra=len(new))

    def pools(self, asked: Sequence[tuple[int, int, Ints | None]]) -> list[Pool]:
        """:meth:`pool` for each (user, at, extra). Computed in order of time: what goes with what is counted anew for every few
        weeks and kept for the latest only, so that a walk to and fro would count it for every single decision.
        """
        found: dict[int, Pool] = {}
        for place in sorted(range(len(asked)), key=lambda place: asked[place][1]):
            found[place] = self.pool(*asked[place])
        return [found[place] for place in range(len(asked))]

    def _wording(self, pool: Ints, seen: _Seen) -> Floats:
        """(P, 4) how the pool's titles resemble those of the user's own items, each item itself left out."""
        other = pool[:, None] != seen.own[None, :]
        fading, last = (
            seen.fading / max(float(seen.fading.sum()), 1e-6),
            seen.in_last / max(float(seen.in_last.sum()), 1.0),
        )
        # Everything that goes in is finite; numpy's products warn of invalid numbers now and then all the same.
        with np.errstate(invalid="ignore"):
            cosine = np.where(other, self._text[pool] @ self._text[seen.own].T, 0.0)
            near, near_last = cosine @ fading, cosine @ last
        alike = np.log1p(((cosine > ALIKE) * seen.times).sum(axis=1))
        return np.stack([near, near_last, cosine.max(axis=1), alike], axis=1)

    def _look(self, user: int, at: int) -> _Seen:
        log, day = self.log, at // DAY
        rows = log.rows(user, day * DAY)
        behaviour = log.behaviour[rows]
        ordered = behaviour == ORDER
        items, days = log.item[rows][ordered], log.time[rows][ordered] // DAY
        quantity = log.quantity[rows][ordered]
        own, own_feature, (times, fading, in_last), facts = self._own(
            items, days, quantity, log.item[rows][behaviour == REFUND], day
        )
        usual = float(self._price[items].mean()) if len(items) else float(self._price.mean())
        season = 2 * np.pi * (day % 365.25) / 365.25
        facts.update(
            refund_share=float((behaviour == REFUND).mean()) if len(behaviour) else 0.0,
            usual_price=usual,
            value=float(np.log1p(np.nansum(quantity * log.price[rows][ordered]))),
            year_sin=float(np.sin(season)),
            year_cos=float(np.cos(season)),
        )
        return _Seen(
            facts=np.array([facts[name] for name in USER_FEATURES], np.float32),
            own=own,
            own_feature=own_feature,
            times=times,
            fading=fading,
            in_last=in_last,
            usual=usual,
        )

    def _own(
        self, items: Ints, days: Ints, quantity: Floats, refunded: Ints, day: int
    ) -> tuple[Ints, Floats, Floats, dict[str, float]]:
        """Items, their features, (3, N) times, fading times and presence in the last basket, facts; see :class:`_Seen`.

        Own items that ``size.own`` keeps come first.
        """
        if not len(items):
            nothing = dict.fromkeys(USER_FEATURES, 0.0)
            none = np.zeros((0, len(OWN_FEATURES)), np.float32)
            return np.zeros(0, np.int64), none, np.zeros((3, 0), np.float32), nothing
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
        lag, past = on_day - (day - 364), day - on_day
        season, weeks = (
            np.maximum.reduceat(((lag > low) & (lag < high)).astype(np.float32), begin)
            for low, high in ((-15, SEASON[-1][1]), (-8, 37))
        )
        fading = [np.add.reduceat(0.5 ** (past / half_life), begin) for half_life in FADING]
        lately = [np.add.reduceat((past <= window).astype(np.float32), begin) for window in LATELY]
        in_last = (last == basket_days[-1]).astype(np.float32)
        columns = [
            np.ones(len(own)),
            np.log(times),
            times / len(basket_days),
            np.log1p(since) / 3,
            np.log1p(day - first) / 3,
            np.nan_to_num(due),
            np.isnan(interval),
            in_last,
            first == basket_days[0],
            np.isin(own, refunded),
            np.log1p(np.maximum(units, 0)) / 2,
            season,
            weeks,
            *(np.log(times_faded + 1e-3) for times_faded in fading),
            *lately,
            last >= basket_days[-2:][0],
            np.log1p(np.argsort(np.argsort(-fading[-1], kind="stable"), kind="stable")),
        ]
        feature = np.stack(columns, axis=1).astype(np.float32)
        weights = np.stack([times, fading[-1], in_last]).astype(np.float32)
        if len(own) > self.size.own:
            # Most often bought first, then most recent: what a frequency count would keep.
            best = np.lexsort((since, -times))
            own, feature, weights = own[best], feature[best], weights[:, best]
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
        return own, feature, weights, facts
