"""A trajectory as compact text within a token budget.

Events are grouped by day. While the budget lasts every event is a line of its own; beyond it the events that carry
evidence stay, then orders and refunds, then carts, then the latest of the rest. The others of a day are folded by
category, and days without a line of their own are folded together. Whatever is folded is counted in the text. No user
id and no item id is shown: the model needs neither, and what it does not know it cannot name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from rolegen_prompts import estimate_tokens, inline

from ..words import Behaviour, Event, Observation, Role, Statistic, Trajectory

Statistics = Callable[[Observation], Mapping[int, Sequence[tuple[Role, Statistic]]]]
"""For each event id what the log says for the roles of that event, the most telling first."""

_PER_EVENT = 2
"""statistics shown beside one event"""
_RANK: dict[Behaviour, int] = {"order": 1, "refund": 1, "cart": 2, "view": 3, "expose": 4}
_TOP_CATEGORIES = 5


@dataclass(frozen=True)
class RenderedTrajectory:
    """The text, and the ids of the events that stand in it as lines of their own: only these may be cited."""

    text: str
    shown: frozenset[int]


def render_trajectory(
    trajectory: Trajectory,
    *,
    tokens: int,
    statistics: Mapping[int, Sequence[tuple[Role, Statistic]]] | None = None,
) -> RenderedTrajectory:
    """Render ``trajectory`` so that its estimated size stays within ``tokens``.

    At least one event is shown whatever the budget, since without any there is nothing to reason about.
    """
    known = statistics or {}
    last = len(trajectory.events) - 1
    by_worth = sorted(
        range(len(trajectory.events)),
        key=lambda i: (trajectory.events[i].event not in known, _RANK[trajectory.events[i].behaviour], last - i),
    )
    fewest, most = min(1, len(by_worth)), len(by_worth)
    while fewest < most:  # the size grows with the number of shown events: the largest number that fits, by bisection
        middle = (fewest + most + 1) // 2
        if estimate_tokens(_text(trajectory, frozenset(by_worth[:middle]), known)) <= tokens:
            fewest = middle
        else:
            most = middle - 1
    shown = frozenset(by_worth[:fewest])
    ids = frozenset(trajectory.events[i].event for i in shown)
    return RenderedTrajectory(_text(trajectory, shown, known), ids)


def _text(trajectory: Trajectory, shown: frozenset[int], known: Mapping[int, Sequence[tuple[Role, Statistic]]]) -> str:
    lines = [_head(trajectory, len(shown))]
    folded: list[Event] = []  # of whole days without a line of their own
    indexed = list(enumerate(trajectory.events))
    for _, group in groupby(indexed, key=lambda pair: pair[1].at.date()):
        day = list(group)
        if not any(i in shown for i, _ in day):
            folded += [event for _, event in day]
            continue
        if folded:
            lines.append(_folded_days(folded))
            folded = []
        lines.append(f"{day[0][1].at:%Y-%m-%d} ({_ago(day[0][1].at, trajectory.at)})")
        lines += [_line(event, known.get(event.event, ())) for i, event in day if i in shown]
        rest = [event for i, event in day if i not in shown]
        if rest:
            lines.append(f"  and {len(rest)} more: {_by_category(rest)}")
    if folded:
        lines.append(_folded_days(folded))
    return "\n".join(lines)


def _head(trajectory: Trajectory, shown: int) -> str:
    folded = len(trajectory.events) - shown
    left_out = trajectory.total_events - len(trajectory.events)
    return (
        f"decision time {trajectory.at:%Y-%m-%d %H:%M}; last event {trajectory.days_since_last:.0f} days before it\n"
        f"dormant because: {inline(trajectory.dormant_because, 200)}; cohort: {inline(trajectory.cohort)}\n"
        f"{trajectory.total_events} events in the log: {shown} shown with an id, {folded} folded, {left_out} left out; "
        f"{trajectory.orders} order days"
    )


def _line(event: Event, statistics: Sequence[tuple[Role, Statistic]]) -> str:
    price = "" if event.price is None else f" x {event.price:.2f}"
    line = (
        f"  [{event.event}] {event.behaviour}, {event.quantity:g}{price} | {inline(event.category) or 'no category'} | "
        f'"{inline(event.title)}"'
    )
    told = "; ".join(f"{role}: {statistic_text(one)}" for role, one in statistics[:_PER_EVENT])
    return f"{line} | {told}" if told else line


def statistic_text(one: Statistic) -> str:
    """``lift 1.82 [1.21, 2.70] n=143, no effect = 1, association``."""
    kind = "effect" if one.kind == "dr" else "association"
    return (
        f"{inline(one.name, 40)} {one.value:.3g} [{one.low:.3g}, {one.high:.3g}] n={one.support}, "
        f"no effect = {one.neutral:g}, {kind}"
    )


def _folded_days(events: Sequence[Event]) -> str:
    days = len({event.at.date() for event in events})
    first, last = f"{events[0].at:%Y-%m-%d}", f"{events[-1].at:%Y-%m-%d}"
    span = first if first == last else f"{first} to {last}, {days} days"
    return f"{span}: {len(events)} events: {_by_category(events)}"


def _by_category(events: Sequence[Event]) -> str:
    counts = Counter((event.behaviour, event.category) for event in events)
    told = [
        f"{number} {behaviour} in {inline(category) or 'no category'}"
        for (behaviour, category), number in counts.most_common(_TOP_CATEGORIES)
    ]
    rest = counts.total() - sum(number for _, number in counts.most_common(_TOP_CATEGORIES))
    return ", ".join([*told, f"{rest} elsewhere"] if rest else told)


def _ago(at: datetime, now: datetime) -> str:
    return f"{(now - at).days} days before"
