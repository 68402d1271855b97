"""Reads a user's past out of the ingested log: the observer of the loop, and the one door that events come through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from rolegen_errors import FutureError, InputError
from rolegen_graphs.words import Behaviour, Event, Lesson, Observation, PastDecision, Trajectory

from .evidence.log import EVENT_COLUMNS, ITEM_COLUMNS, require_columns
from .evidence.market import DAY_US, microseconds

Ints = npt.NDArray[np.int64]
BEHAVIOURS: tuple[Behaviour, ...] = ("expose", "view", "cart", "order", "refund")
_VIEW, _ORDER, _REFUND = 1, 3, 4


class Remembers(Protocol):
    """What the observer asks of the loop memory: only what was known strictly before ``at``."""

    def lessons_for(self, user: str, cohort: str, at: datetime) -> Sequence[Lesson]: ...

    def past_decisions(self, user: str, at: datetime) -> Sequence[PastDecision]: ...


class LogObserver:
    """Observations from an event log that is indexed once, so that one user costs microseconds.

    Args:
        events: the ingested log, see :func:`~rolegen_agent.evidence.compute_evidence`.
        items: the catalogue. Events of items that it lacks are never shown; ``unknown_items`` counts them.
        memory: lessons and past decisions; None = there are none.
        dormant: why a user counts as dormant, by user or by (user, time); None = the time since the last event.
        max_events: longer histories are cut to the most telling events.
        telling: items that the evidence says something about; they are kept before others.
        typical_spend: what a customer's value is measured by, see :func:`typical_spend`; None leaves it unknown.
    """

    def __init__(
        self,
        events: pl.DataFrame,
        items: pl.DataFrame,
        *,
        memory: Remembers | None = None,
        dormant: Callable[[str, datetime], str] | Mapping[str, str] | None = None,
        max_events: int = 120,
        telling: frozenset[str] = frozenset(),
        typical_spend: float | None = None,
    ) -> None:
        require_columns(events, EVENT_COLUMNS, "events")
        require_columns(items, ITEM_COLUMNS, "items")
        if max_events < 1:
            raise InputError("max_events must be at least 1", where=str(max_events), fix="leave it at its default")
        self._memory, self._dormant, self._max_events = memory, dormant, max_events
        self._typical_spend = typical_spend
        catalogue = items.sort("item").with_row_index("code")
        self._items: list[str] = catalogue["item"].to_list()
        self._titles: list[str] = catalogue["title"].to_list()
        self._categories: list[str] = catalogue["category"].to_list()
        rows = events.join(catalogue.select("item", "code"), on="item", how="inner", maintain_order="left").sort(
            "user", "time", "event"
        )
        self.unknown_items = events.height - rows.height
        """events that are left out because the catalogue lacks their item"""
        self._event: Ints = rows["event"].to_numpy().astype(np.int64)
        self._code: Ints = rows["code"].to_numpy().astype(np.int64)
        self._us: Ints = rows["time"].cast(pl.Datetime("us", "UTC")).to_physical().to_numpy().astype(np.int64)
        kinds = rows["behaviour"].cast(pl.Enum(BEHAVIOURS)).to_physical()
        self._behaviour: Ints = kinds.to_numpy().astype(np.int64)
        self._quantity = rows["quantity"].cast(pl.Float64).to_numpy()
        self._price = rows["price"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        spans = rows.with_row_index("row").group_by("user", maintain_order=True).agg(pl.col("row").min(), pl.len())
        self._span: dict[str, tuple[int, int]] = {user: (row, row + n) for user, row, n in spans.iter_rows()}
        self._telling = np.fromiter((item in telling for item in self._items), dtype=np.bool_, count=len(self._items))

    def observe(self, user: str, at: datetime) -> Observation:
        """The user's events strictly before ``at``, with cohort, lessons and past decisions.

        Raises:
            InputError: the user has no event before ``at``, or ``at`` has no timezone.
            FutureError: the memory handed out something that was learnt or decided at or after ``at``.
        """
        now = microseconds(at)
        start, end = self._span.get(user, (0, 0))
        stop = start + int(np.searchsorted(self._us[start:end], now))
        if stop == start:
            known = "has no event before that time" if end > start else "is not in the log"
            raise InputError(
                f"user {user!r} {known}",
                where=f"decision time {at.isoformat()}",
                fix="check the id, choose a later time, or list the dormant users: rolegen dormant --at DATE",
            )
        order_days = np.unique(self._us[start:stop][self._behaviour[start:stop] == _ORDER] // DAY_US)
        kinds = self._behaviour[start:stop]
        engaged = np.flatnonzero((kinds >= _VIEW) & (kinds <= _ORDER))
        last = self._us[start + engaged[-1]] if len(engaged) else self._us[stop - 1]
        idle = float(now - last) / DAY_US
        cohort = cohort_of(len(order_days), idle)
        trajectory = Trajectory(
            user=user,
            at=at,
            events=tuple(self._event_at(row) for row in self._chosen(start, stop)),
            total_events=stop - start,
            orders=len(order_days),
            value=self._value(start, stop),
            days_since_last=idle,
            dormant_because=self._reason(user, at, len(order_days), idle),
            cohort=cohort,
        )
        if self._memory is None:
            return Observation(trajectory=trajectory)
        lessons = tuple(self._memory.lessons_for(user, cohort, at))
        past = tuple(self._memory.past_decisions(user, at))
        for what, key, when in (
            *(("lesson", lesson.lesson, lesson.learnt_at) for lesson in lessons),
            *(("decision", decision.decision, decision.at) for decision in past),
        ):
            if when >= at:
                raise FutureError(
                    f"a {what} from {when.isoformat()} was about to reach a decision at {at.isoformat()}",
                    where=f"{what} {key}, user {user}",
                    fix="the memory must answer with what it knew strictly before the decision time",
                )
        return Observation(trajectory=trajectory, lessons=lessons, past=past)

    def _chosen(self, start: int, stop: int) -> Ints:
        """Rows to show, in time order. Of a long history: the newest half, then rebought items, those of the first
        order, those with evidence, then the newest of the rest."""
        rows = np.arange(start, stop)
        if len(rows) <= self._max_events:
            return rows
        newest = self._max_events // 2
        rest = rows[: len(rows) - newest]
        ordered = rows[self._behaviour[rows] == _ORDER]
        pairs = np.unique(np.stack([self._code[ordered], self._us[ordered] // DAY_US]), axis=1)
        codes, days = np.unique(pairs[0], return_counts=True)
        order_days = np.zeros(len(rest), dtype=np.int64)
        if len(codes):
            place = np.minimum(np.searchsorted(codes, self._code[rest]), len(codes) - 1)
            order_days = np.where(codes[place] == self._code[rest], days[place], 0)
        order_days[self._behaviour[rest] != _ORDER] = 0
        first = self._us[rest] // DAY_US == (self._us[ordered[0]] // DAY_US if len(ordered) else -1)
        first &= self._behaviour[rest] == _ORDER
        weight = np.where(order_days > 1, order_days, 0)
        keys = (-self._us[rest], ~self._telling[self._code[rest]], ~first, -weight)
        best = rest[np.lexsort(keys)][: self._max_events - newest]
        return np.concatenate([np.sort(best), rows[len(rows) - newest :]])

    def _event_at(self, row: int) -> Event:
        code, price = self._code[row], float(self._price[row])
        return Event(
            event=int(self._event[row]),
            at=datetime.fromtimestamp(self._us[row] // 1_000_000, UTC).replace(
                microsecond=int(self._us[row] % 1_000_000)
            ),
            item=self._items[code],
            title=self._titles[code],
            category=self._categories[code],
            behaviour=BEHAVIOURS[self._behaviour[row]],
            quantity=float(self._quantity[row]),
            price=None if price != price else price,
        )

    def _value(self, start: int, stop: int) -> float | None:
        """Spent before the decision, over what the median customer spent; refunds are taken off."""
        kinds, amount = self._behaviour[start:stop], self._price[start:stop] * self._quantity[start:stop]
        priced = ~np.isnan(amount) & ((kinds == _ORDER) | (kinds == _REFUND))
        if not self._typical_spend or not priced.any():
            return None
        sign = np.where(kinds[priced] == _ORDER, 1.0, -1.0)
        return round(max(0.0, float((sign * np.abs(amount[priced])).sum())) / self._typical_spend, 6)

    def _reason(self, user: str, at: datetime, orders: int, idle: float) -> str:
        if callable(self._dormant):
            return self._dormant(user, at)
        if self._dormant is not None and user in self._dormant:
            return self._dormant[user]
        what = f"ordered on {orders} day{'s' if orders != 1 else ''}" if orders else "never ordered"
        return f"{what}; last seen {idle:.0f} days before the decision"


def typical_spend(events: pl.DataFrame) -> float | None:
    """What the median customer with an order spent in ``events``, net of refunds; None where no order has a price."""
    amount = (pl.col("price").cast(pl.Float64) * pl.col("quantity").cast(pl.Float64)).abs()
    spent = (
        events.lazy()
        .filter(pl.col("behaviour").is_in(["order", "refund"]) & pl.col("price").is_not_null())
        .with_columns(net=pl.when(pl.col("behaviour") == "order").then(amount).otherwise(-amount))
        .group_by("user")
        .agg(pl.col("net").sum())
        .filter(pl.col("net") > 0)
        .select(pl.col("net").median())
        .collect()
        .item()
    )
    return float(spent) if spent is not None else None


def cohort_of(orders: int, idle_days: float) -> str:
    """A short readable key such as ``lapsed/4+ orders/90-180 days``; users of one cohort share lessons."""
    kind = "lapsed" if orders else "browser"
    size = "4+ orders" if orders >= 4 else "2-3 orders" if orders >= 2 else "1 order" if orders else "no order"
    for low, high in ((0, 30), (30, 90), (90, 180), (180, 365)):
        if idle_days < high:
            return f"{kind}/{size}/{low}-{high} days"
    return f"{kind}/{size}/365+ days"
