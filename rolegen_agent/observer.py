"""Reads a user's past out of the ingested log: the observer of the loop, and the one door that events come through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from rolegen_errors import FutureError, InputError
from rolegen_graphs.ports import Observer
from rolegen_graphs.words import Behaviour, Event, Fold, Lesson, Observation, PastDecision, Trajectory

from .evidence.log import EVENT_COLUMNS, ITEM_COLUMNS, require_columns
from .evidence.market import DAY_US, microseconds

Ints = npt.NDArray[np.int64]
BEHAVIOURS: tuple[Behaviour, ...] = ("expose", "view", "cart", "order", "refund")
_EXPOSE, _VIEW, _ORDER, _REFUND = 0, 1, 3, 4


class Remembers(Protocol):
    """What the observer asks of the loop memory: only what was known strictly before ``at``."""

    def lessons_for(self, user: str, cohort: str, at: datetime) -> Sequence[Lesson]: ...

    def past_decisions(self, user: str, at: datetime) -> Sequence[PastDecision]: ...


class Chooses(Protocol):
    """Which of the lessons in scope a decision gets, see :class:`rolegen_agent.lessons.Retrieval`."""

    def choose(self, trajectory: Trajectory, lessons: Sequence[Lesson]) -> tuple[tuple[Lesson, ...], bool]:
        """The lessons, and whether there were some that are withheld."""
        ...


class LogObserver:
    """Observations from an event log that is indexed once, so that one user costs microseconds.

    Args:
        events: the ingested log, see :func:`~rolegen_agent.evidence.compute_evidence`; events of one moment stay in its order.
        items: the catalogue. Events of items that it lacks are never shown; ``unknown_items`` counts them.
        memory: lessons and past decisions; None = there are none.
        lessons: which of the lessons in scope are shown; None shows all.
        dormant: why a user counts as dormant, by user or by (user, time); None = the time since the last event.
        max_events: of a longer history the most telling events are listed, what was only shown last, and the others folded.
        telling: items that the evidence says something about; they are kept before others.
        typical_spend: what a customer's value is measured by, see :func:`typical_spend`; None leaves it unknown.
    """

    def __init__(
        self,
        events: pl.DataFrame,
        items: pl.DataFrame,
        *,
        memory: Remembers | None = None,
        lessons: Chooses | None = None,
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
        self._lessons = lessons
        self._typical_spend = typical_spend
        catalogue = items.sort("item").with_row_index("code")
        self._items: list[str] = catalogue["item"].to_list()
        self._titles: list[str] = catalogue["title"].to_list()
        self._categories: list[str] = catalogue["category"].to_list()
        rows = events.join(catalogue.select("item", "code"), on="item", how="inner", maintain_order="left").sort(
            "user", "time", maintain_order=True
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
        self._session: list[str | None] = rows["session"].to_list()
        # A visit is a session, or a day where there is none; neighbouring rows of one visit share a number.
        begins = pl.any_horizontal(
            pl.col("user").ne_missing(pl.col("user").shift()),
            pl.col("session").ne_missing(pl.col("session").shift()),
            pl.col("session").is_null() & (pl.col("time").dt.date() != pl.col("time").dt.date().shift()),
        )
        self._visit: Ints = rows.select(begins.cum_sum())["user"].to_numpy().astype(np.int64)
        kinds_of = catalogue["category"].rank("dense").to_numpy().astype(np.int64)
        self._category: Ints = kinds_of[self._code]
        self._category_names = dict(zip(kinds_of.tolist(), self._categories, strict=True))
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
                f"user {user[:80]!r} {known}",
                where=f"decision time {at.isoformat()}",
                fix="check the id, choose a later time, or list the dormant users: rolegen dormant --at DATE",
            )
        order_days = np.unique(self._us[start:stop][self._behaviour[start:stop] == _ORDER] // DAY_US)
        kinds = self._behaviour[start:stop]
        engaged = np.flatnonzero((kinds >= _VIEW) & (kinds <= _ORDER))
        last = self._us[start + engaged[-1]] if len(engaged) else self._us[stop - 1]
        idle = float(now - last) / DAY_US
        cohort = cohort_of(len(order_days), idle)
        chosen = self._chosen(start, stop)
        trajectory = Trajectory(
            user=user,
            at=at,
            events=tuple(self._event_at(row) for row in chosen),
            total_events=stop - start,
            orders=len(order_days),
            value=self._value(start, stop),
            days_since_last=idle,
            dormant_because=self._reason(user, at, len(order_days), idle),
            cohort=cohort,
            folded=self._folded(start, stop, chosen),
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
        withheld = False
        if self._lessons is not None:
            lessons, withheld = self._lessons.choose(trajectory, lessons)
        return Observation(trajectory=trajectory, lessons=lessons, lessons_withheld=withheld, past=past)

    def _chosen(self, start: int, stop: int) -> Ints:
        """Rows to show, in time order. Of a long history: the newest half, then rebought items, those of the first
        order, those with evidence, then the newest of the rest.

        What was only shown comes last. A look that a showing asked for brings that showing along, since without it the look would read
        as one of the user's own accord.
        """
        rows = np.arange(start, stop)
        if len(rows) <= self._max_events:
            return rows
        done = rows[self._behaviour[rows] != _EXPOSE]
        ordered = rows[self._behaviour[rows] == _ORDER]
        pairs = np.unique(np.stack([self._code[ordered], self._us[ordered] // DAY_US]), axis=1)
        codes, days = np.unique(pairs[0], return_counts=True)
        order_days = np.zeros(len(done), dtype=np.int64)
        if len(codes):
            place = np.minimum(np.searchsorted(codes, self._code[done]), len(codes) - 1)
            order_days = np.where(codes[place] == self._code[done], days[place], 0)
        order_days[self._behaviour[done] != _ORDER] = 0
        first = self._us[done] // DAY_US == (self._us[ordered[0]] // DAY_US if len(ordered) else -1)
        first &= self._behaviour[done] == _ORDER
        weight = np.where(order_days > 1, order_days, 0)
        keys = (-self._us[done], ~self._telling[self._code[done]], ~first, -weight)
        asked = dict(zip(done.tolist(), self._asked_by(done, rows).tolist(), strict=True))
        chosen: set[int] = set()
        for room, order in (
            (self._max_events // 2, done[::-1]),
            (self._max_events, done[np.lexsort(keys)]),
            (self._max_events, rows[::-1]),
        ):
            for row in order.tolist():
                with_it = {row, asked.get(row, -1)} - {-1} - chosen
                if len(chosen) + len(with_it) <= room:
                    chosen |= with_it
                if len(chosen) >= room:
                    break
        return np.sort(np.fromiter(chosen, dtype=np.int64, count=len(chosen)))

    def _asked_by(self, done: Ints, rows: Ints) -> Ints:
        """The row in which the item of each of ``done`` was last shown before in the same visit; -1 where it was not."""
        shown = rows[self._behaviour[rows] == _EXPOSE]
        if not len(shown) or not len(done):
            return np.full(len(done), -1)
        low = rows[0]

        def key(of: Ints) -> Ints:
            found: Ints = (self._visit[of] - self._visit[low]) * len(self._items) + self._code[of]
            return found

        span = len(rows)
        places = np.sort(key(shown) * span + shown - low)
        before = places[np.searchsorted(places, key(done) * span + done - low) - 1]
        return np.where(before // span == key(done), before % span + low, -1)

    def _folded(self, start: int, stop: int, chosen: Ints) -> tuple[Fold, ...]:
        """The rows that are not ``chosen``, one fold for each stretch of them between two chosen ones."""
        if len(chosen) == stop - start:
            return ()
        rows = np.setdiff1d(np.arange(start, stop), chosen, assume_unique=True)
        stretch = np.searchsorted(chosen, rows)
        keys, counts = np.unique(
            np.stack([stretch, self._behaviour[rows], self._category[rows]]), axis=1, return_counts=True
        )
        visited = np.unique(np.stack([stretch, self._visit[rows]]), axis=1)[0]
        numbers, begins = np.unique(stretch, return_index=True)
        ends = [*(begins[1:] - 1), len(rows) - 1]
        folds = []
        for number, first, last in zip(numbers, begins, ends, strict=True):
            low, high = np.searchsorted(keys[0], [number, number + 1])
            told = [
                (BEHAVIOURS[keys[1, i]], self._category_names[int(keys[2, i])], int(counts[i]))
                for i in range(low, high)
            ]
            folds.append(
                Fold(
                    first=self._time(rows[first]),
                    last=self._time(rows[last]),
                    visits=int(np.count_nonzero(visited == number)),
                    counts=tuple(sorted(told, key=lambda one: -one[2])),
                )
            )
        return tuple(folds)

    def _time(self, row: int) -> datetime:
        second, microsecond = divmod(int(self._us[row]), 1_000_000)
        return datetime.fromtimestamp(second, UTC).replace(microsecond=microsecond)

    def _event_at(self, row: int) -> Event:
        code, price = self._code[row], float(self._price[row])
        return Event(
            event=int(self._event[row]),
            at=self._time(row),
            item=self._items[code],
            title=self._titles[code],
            category=self._categories[code],
            behaviour=BEHAVIOURS[self._behaviour[row]],
            quantity=float(self._quantity[row]),
            price=None if price != price else price,
            session=self._session[row],
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


class Begins(Protocol):
    """What is told that a decision starts."""

    def begin(self, run: str, user: str, at: datetime) -> str: ...


class BeginningObserver:
    """An observer that tells the memory of each decision of ``run`` before anybody is asked."""

    def __init__(self, observer: Observer, memory: Begins, run: str) -> None:
        self._observer, self._memory, self._run = observer, memory, run

    def observe(self, user: str, at: datetime) -> Observation:
        """As the observer within."""
        seen = self._observer.observe(user, at)  # a user without a past is an error, and no decision begins
        self._memory.begin(self._run, user, at)
        return seen


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
