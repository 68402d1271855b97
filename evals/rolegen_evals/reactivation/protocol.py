"""The protocol: decision dates, who is asked about, what counts as right, and the only door to the log.

On the first day of a month every customer who ordered before, but not in the last 90 days, is dormant. Those who order
again within 30 days are the cases; the distinct items of that first order day, net of refunds, are the target. Who does not
return is counted and left out. The catalogue is what was ever sold before the date. There are two tasks: *all* items, and
*discovery*, in which candidates and targets alike are items that the customer had never bought; a case without such
a target is left out of it and counted.

A system gets a :class:`Past`, which holds the events strictly before its date and nothing else: there is no later row in
memory that a mistake could reach. Targets never leave :class:`Cases`, which only the judge reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from rolegen_agent.dormant import dormant_users
from rolegen_agent.outcomes import first_order_baskets
from rolegen_agent.settings import DormancySettings
from rolegen_backbone.embedding import text_categories
from rolegen_backbone.events import DAY, Baskets, EventLog, seconds
from rolegen_errors import FutureError, InputError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Task = Literal["all", "discovery"]
TASKS: tuple[Task, ...] = ("all", "discovery")
HORIZON_DAYS, DORMANT_DAYS = 30, 90
PRICE_DAYS = 30
"""an item's price is the median of its first so many days, as at ingestion, but never of days yet to come"""


@dataclass(frozen=True)
class Period:
    """When a model is trained, and on which days it is asked."""

    name: str
    cut: datetime
    """models and hyper-parameters know only what lies before"""
    dates: tuple[datetime, ...]
    """decisions; counted statistics may know all before each of them"""

    @property
    def end(self) -> datetime:
        """The first moment that nobody needs: the last horizon is over."""
        return self.dates[-1] + timedelta(days=HORIZON_DAYS)


def _first(month: int) -> datetime:
    return datetime(2011, month, 1, tzinfo=UTC)


VALIDATION = Period("validation", _first(3), (_first(3), _first(4)))
TEST = Period("test", _first(6), tuple(_first(month) for month in range(6, 12)))


@dataclass(frozen=True)
class Lines:
    """Distinct (user, item, order day) of a past, by user, day and item."""

    user: Ints
    item: Ints
    day: Ints


@dataclass(frozen=True, eq=False)
class Past:
    """All that may be known at ``at``: events strictly before it, and the items sold in them."""

    at: datetime
    events: pl.DataFrame
    """canonical events"""
    items: pl.DataFrame
    """item, title, category, price; sorted by item, which is the order of all matrices"""

    def __post_init__(self) -> None:
        if self.events.height and self.events["time"].max() >= self.at:  # type: ignore[operator]
            raise FutureError(f"a past of {self.at.date()} holds later events", fix="cut the log before the date")

    @classmethod
    def of(cls, events: pl.DataFrame, items: pl.DataFrame, at: datetime) -> Past:
        """Cut a log; ``items`` needs item and title, and prices are those of the events before ``at``."""
        before = events.filter(pl.col("time") < at)
        orders = before.filter(pl.col("behaviour") == "order")
        first = pl.col("time").min().over("item")
        price = (
            orders.filter(pl.col("time") < first + timedelta(days=PRICE_DAYS), pl.col("price").is_not_null())
            .group_by("item")
            .agg(pl.col("price").median().cast(pl.Float32))
        )
        sold = (
            items.select("item", pl.col("title").fill_null(""))
            .join(orders.select("item").unique(), on="item", how="semi")
            .sort("item")
            .join(price, on="item", how="left", maintain_order="left")
            .with_columns(category=pl.lit(None, pl.String))
        )
        sold = sold.with_columns(text_categories(sold).alias("category"))
        return cls(at, before.join(sold.select("item"), on="item", how="semi"), sold)

    @cached_property
    def ids(self) -> npt.NDArray[np.str_]:
        """(I,) item ids."""
        return self.items["item"].to_numpy().astype(str)

    @cached_property
    def log(self) -> EventLog:
        """The events as arrays; user u is ``log.users[u]``."""
        return EventLog.from_frame(self.events, self.ids)

    @cached_property
    def baskets(self) -> Baskets:
        return Baskets.of(self.log)

    @cached_property
    def lines(self) -> Lines:
        baskets = self.baskets
        size = np.diff(baskets.start)
        return Lines(np.repeat(baskets.user, size), baskets.item, np.repeat(baskets.day, size))

    @cached_property
    def fingerprint(self) -> str:
        """Equal for pasts of the same events over the same items."""
        rows = np.concatenate([frame.hash_rows(seed=0).to_numpy() for frame in (self.events, self.items)])
        return hashlib.sha256(rows.tobytes()).hexdigest()

    @property
    def day(self) -> int:
        """Days since the epoch."""
        return seconds(self.at) // DAY

    def rows(self, users: Sequence[str]) -> Ints:
        """Positions of users.

        Raises:
            InputError: one of them has no event.
        """
        found = [self.log.user_index(user) for user in users]
        if None in found:
            raise InputError(f"user {users[found.index(None)]!r} has no event before {self.at.date()}")
        return np.array(found, np.int64)

    def matrix(self, weight: Floats | None = None) -> sparse.csr_matrix:
        """(U, I) sums over order days of ``weight``, one for each line; 1 by default."""
        lines = self.lines
        data = np.ones(len(lines.user)) if weight is None else weight
        shape = (len(self.log.users), len(self.ids))
        return sparse.csr_matrix((data, (lines.user, lines.item)), shape=shape)

    @cached_property
    def counts(self) -> sparse.csr_matrix:
        """(U, I) order days of each user and item."""
        return self.matrix()

    def decayed(self, half_life: float) -> sparse.csr_matrix:
        """(U, I) order days, each worth half as much for every ``half_life`` days since; 0 stands for no decay."""
        return self.matrix(0.5 ** ((self.day - self.lines.day) / half_life)) if half_life else self.counts

    def sold(self, days: int) -> Floats:
        """(I,) customers times days that bought the item in the last ``days`` days."""
        recent = self.lines.item[self.lines.day >= self.day - days]
        return np.bincount(recent, minlength=len(self.ids)).astype(np.float64)

    @cached_property
    def tie(self) -> Floats:
        """(I,) in [0, 1): what breaks ties, sales of 28 days and then of ever."""
        score = self.sold(28) + 1e-3 * self.sold(10**6)
        place = np.empty(len(score))
        place[np.argsort(score, kind="stable")] = np.arange(len(score)) / len(score)
        return place


@dataclass(frozen=True)
class Case:
    """One customer who came back, and what is right; for the judge only."""

    key: str
    user: str
    at: datetime
    basket: frozenset[str]
    new: frozenset[str]
    """the part of the basket that the customer had never bought: the target of *discovery*"""

    def target(self, task: Task) -> frozenset[str]:
        return self.basket if task == "all" else self.new


@dataclass(frozen=True)
class Cases:
    """All cases of a period, and how many were left out."""

    cases: tuple[Case, ...]
    dormant: int
    """decisions, those on customers who stayed away included"""

    def of(self, task: Task) -> list[Case]:
        return [case for case in self.cases if case.target(task)]

    def users(self, at: datetime) -> tuple[str, ...]:
        """Who is asked about at a date, in an order that says nothing."""
        return tuple(sorted(case.user for case in self.cases if case.at == at))


class Shop:
    """The log of a period, cut at its end: a validation run cannot even load what follows."""

    def __init__(self, events: pl.DataFrame, items: pl.DataFrame, period: Period) -> None:
        """``events``: canonical; ``items``: at least item and title of all of them."""
        self.period = period
        self._events, self._items = events.filter(pl.col("time") < period.end), items
        self._pasts: dict[datetime, Past] = {}

    def past(self, at: datetime) -> Past:
        """What may be known at ``at``; made once, and shared."""
        if at not in self._pasts:
            self._pasts[at] = Past.of(self._events, self._items, at)
        return self._pasts[at]

    @cached_property
    def cases(self) -> Cases:
        """Who came back, with what."""
        found, dormant = [], 0
        for at in self.period.dates:
            users = dormant_users(self._events, at, DormancySettings(days=DORMANT_DAYS))["user"].to_list()
            dormant += len(users)
            baskets = first_order_baskets(self._events, at, HORIZON_DAYS, users)
            bought = self.past(at).events.filter(pl.col("behaviour") == "order").select("user", "item").unique()
            own = {user: set(items) for user, items in bought.group_by("user").agg("item").iter_rows()}
            for user, basket in baskets.items():
                # What was never sold before cannot be ranked by anybody. It stays in the target, as a shop would count it.
                items = frozenset(basket.items)
                found.append(Case(f"{user}@{at:%Y-%m-%d}", user, at, items, items - own[user]))
        return Cases(tuple(found), dormant)
