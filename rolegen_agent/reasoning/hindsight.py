"""What followed each event of a trajectory, as far as it had happened by the decision time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from rolegen_graphs.words import Event

from ..evidence.store import Evidence


@dataclass(frozen=True)
class Hindsight:
    """What is known at the decision time about what followed each event; never about what followed the decision."""

    first_day: date | None
    came_back: bool
    """a second order within ``return_days`` of the first"""
    next_in_category: dict[int, timedelta]
    entered_next: dict[datetime, frozenset[str]]
    """by the time of a visit: the categories that the next visit entered"""
    ended: frozenset[date]
    """order days after which nothing was ordered for ``return_days``"""
    bought_later: dict[str, list[tuple[datetime, str, float]]]
    """by category: time, item, price of orders"""

    @classmethod
    def of(cls, events: list[Event], evidence: Evidence, at: datetime) -> Hindsight:
        pause = timedelta(days=evidence.options.return_days)
        horizon = timedelta(days=evidence.options.horizon_days)
        active = timedelta(days=evidence.options.active_days)
        orders = [event for event in events if event.behaviour == "order"]
        times: dict[date, datetime] = {}
        bought: dict[str, list[tuple[datetime, str, float]]] = defaultdict(list)
        for event in orders:
            times.setdefault(event.at.date(), event.at)
            bought[event.category].append((event.at, event.item, event.price or 0.0))
        days = list(times.items())
        following = [*(when for _, when in days[1:]), at]
        ended = frozenset(day for (day, when), after in zip(days, following, strict=False) if after - when >= pause)
        next_in: dict[int, timedelta] = {}
        later: dict[str, datetime] = {}
        held: dict[str, datetime] = {}
        for event in reversed(events):
            if held.get(event.category, event.at) != event.at:
                later[event.category] = held[event.category]
            if event.category in later:
                next_in[event.event] = later[event.category] - event.at
            held[event.category] = event.at
        visits: dict[datetime, set[str]] = defaultdict(set)
        for event in events:
            if event.behaviour in ("view", "cart", "order"):
                visits[event.at].add(event.category)
        entered: dict[datetime, frozenset[str]] = {}
        last: dict[str, datetime] = {}
        previous: datetime | None = None
        for when, categories in visits.items():
            fresh = frozenset(c for c in categories if c not in last or when - last[c] > active)
            if previous is not None and when - previous <= horizon:
                entered[previous] = fresh
            previous = when
            last.update(dict.fromkeys(categories, when))
        return cls(
            first_day=days[0][0] if days else None,
            came_back=len(days) > 1 and days[1][1] - days[0][1] <= pause,
            next_in_category=next_in,
            entered_next=entered,
            ended=ended,
            bought_later=dict(bought),
        )
