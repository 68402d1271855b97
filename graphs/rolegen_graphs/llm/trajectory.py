"""A trajectory as compact text within a token budget.

Events are grouped by visit: by session, or by day where the log has no sessions. While the budget lasts every event is a
line of its own; beyond it the events that carry evidence stay, then orders and refunds, then carts, then the latest of
the rest. The others of a visit are folded by category, and visits without a line of their own are folded together.
Whatever is folded is counted in the text. No user id, item id, session id or event id is shown: the model needs none of
them, and what it does not know it cannot name. An event is called by its number, its place among the events of the
trajectory from 1 on, which is the same in every prompt of a decision; :class:`Numbers` maps both ways.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from itertools import groupby

from rolegen_prompts import estimate_tokens, inline

from ..words import Behaviour, Event, Fold, Observation, Role, Statistic, Trajectory

Statistics = Callable[[Observation], Mapping[int, Sequence[tuple[Role, Statistic]]]]
"""For each event id what the log says for the roles of that event, the most telling first."""

_PER_EVENT = 2
"""statistics shown beside one event"""
_RANK: dict[Behaviour, int] = {"order": 1, "refund": 1, "cart": 2, "view": 3, "expose": 4}
_TOP_CATEGORIES = (5, 2, 0)
"""kinds of folded events that are told apart, and how many are when a single event and they do not fit the budget"""


@dataclass(frozen=True)
class RenderedTrajectory:
    """The text, and the numbers of the events that stand in it as lines of their own: only these may be cited."""

    text: str
    shown: frozenset[int]


class Numbers:
    """The numbers by which prompts and answers call the events of one trajectory: short, where ids have 19 digits."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._events = trajectory.events
        self._number = {event.event: place for place, event in enumerate(trajectory.events, start=1)}

    def of(self, event: int) -> int | None:
        """The number of an event id; None for one that the trajectory does not list."""
        return self._number.get(event)

    def event(self, number: int) -> Event:
        """The event behind a number that passed the fact checks."""
        return self._events[number - 1]


def render_trajectory(
    trajectory: Trajectory,
    *,
    tokens: int,
    statistics: Mapping[int, Sequence[tuple[Role, Statistic]]] | None = None,
) -> RenderedTrajectory:
    """Render ``trajectory`` so that its estimated size stays within ``tokens``.

    At least one event is shown whatever the budget, since without any there is nothing to reason about.
    """
    for kinds in _TOP_CATEGORIES:
        drawn = _largest(_Drawing(trajectory, statistics or {}, kinds), trajectory, tokens)
        if estimate_tokens(drawn.text) <= tokens:
            break
    return drawn


def _largest(drawing: _Drawing, trajectory: Trajectory, tokens: int) -> RenderedTrajectory:
    """The drawing with the largest number of shown events that fits, but with one at least."""
    last = len(trajectory.events) - 1
    by_worth = sorted(
        range(len(trajectory.events)),
        key=lambda i: (i not in drawing.evidence, _RANK[trajectory.events[i].behaviour], last - i),
    )
    fewest, most = min(1, len(by_worth)), len(by_worth)
    while fewest < most:  # the size grows with the number of shown events: the largest number that fits, by bisection
        middle = (fewest + most + 1) // 2
        if estimate_tokens(drawing.text(frozenset(by_worth[:middle]))) <= tokens:
            fewest = middle
        else:
            most = middle - 1
    shown = frozenset(by_worth[:fewest])
    return RenderedTrajectory(drawing.text(shown), frozenset(i + 1 for i in shown))


def carries_evidence(statistics: Iterable[tuple[Role, Statistic]]) -> bool:
    """Whether the log says something of the event: the interval of one of its statistics leaves out "no effect"."""
    return any(one.low > one.neutral or one.high < one.neutral for _, one in statistics)


@dataclass
class _Folded:
    """Neighbouring visits without a line of their own, added up until one has a line."""

    visits: int = 0
    first: datetime | None = None
    last: datetime | None = None
    counts: Counter[tuple[Behaviour, str]] = field(default_factory=Counter)

    def add(self, first: datetime, last: datetime, visits: int, counts: Mapping[tuple[Behaviour, str], int]) -> None:
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)
        self.visits += visits
        self.counts.update(counts)

    def lines(self, kinds: int) -> list[str]:
        if self.first is None or self.last is None:
            return []
        first, last = f"{self.first:%Y-%m-%d}", f"{self.last:%Y-%m-%d}"
        span = first if first == last else f"{first} to {last}"
        visits = f", {self.visits} visits" if self.visits > 1 else ""
        return [f"{span}{visits}: {self.counts.total()} events: {_by_category(self.counts, kinds)}"]


class _Drawing:
    """One trajectory, taken apart once and drawn with any choice of shown events."""

    def __init__(
        self, trajectory: Trajectory, known: Mapping[int, Sequence[tuple[Role, Statistic]]], kinds: int
    ) -> None:
        self._trajectory, self._known, self._kinds = trajectory, known, kinds
        self.evidence = frozenset(
            i for i, event in enumerate(trajectory.events) if carries_evidence(known.get(event.event, ()))
        )
        self._lines: dict[int, str] = {}

    def text(self, shown: frozenset[int]) -> str:
        lines, folded = [self._head(shown)], _Folded()
        for part in self._parts:
            if isinstance(part, Fold):
                folded.add(part.first, part.last, part.visits, {(what, where): n for what, where, n in part.counts})
                continue
            visible = [i for i in part if i in shown]
            rest = Counter((self._event(i).behaviour, self._event(i).category) for i in part if i not in shown)
            if not visible:
                folded.add(self._event(part[0]).at, self._event(part[-1]).at, 1, rest)
                continue
            lines += [*folded.lines(self._kinds), self._visit(self._event(part[0]).at), *map(self._line, visible)]
            folded = _Folded()
            if rest:
                lines.append(f"  and {rest.total()} more: {_by_category(rest, self._kinds)}")
        return "\n".join([*lines, *folded.lines(self._kinds)])

    @cached_property
    def _parts(self) -> list[list[int] | Fold]:
        """Visits (as the places of their events) and folds, in time order."""
        visits = [[i for i, _ in group] for _, group in groupby(enumerate(self._trajectory.events), key=_visit_of)]
        parts: list[list[int] | Fold] = [*visits, *self._trajectory.folded]
        return sorted(parts, key=lambda part: part.first if isinstance(part, Fold) else self._event(part[0]).at)

    @cached_property
    def _visits_a_day(self) -> Counter[date]:
        return Counter(self._event(part[0]).at.date() for part in self._parts if not isinstance(part, Fold))

    def _event(self, place: int) -> Event:
        return self._trajectory.events[place]

    def _head(self, shown: frozenset[int]) -> str:
        trajectory = self._trajectory
        folded = len(trajectory.events) - len(shown) + sum(fold.events for fold in trajectory.folded)
        left_out = trajectory.total_events - len(shown) - folded
        lost = len(self.evidence - shown)
        return (
            f"decision time {trajectory.at:%Y-%m-%d %H:%M}; last event {trajectory.days_since_last:.0f} days before it\n"
            f"dormant because: {inline(trajectory.dormant_because, 200)}; cohort: {inline(trajectory.cohort)}\n"
            f"{trajectory.total_events} events in the log: {len(shown)} shown with an id, {folded} folded"
            f"{f' ({lost} of them with evidence)' if lost else ''}, {left_out} left out; {trajectory.orders} order days"
        )

    def _visit(self, at: datetime) -> str:
        clock = f" {at:%H:%M}" if self._visits_a_day[at.date()] > 1 else ""
        return f"{at:%Y-%m-%d}{clock} ({(self._trajectory.at - at).days} days before)"

    def _line(self, place: int) -> str:
        if place not in self._lines:
            event = self._event(place)
            self._lines[place] = _line(place + 1, event, self._known.get(event.event, ()))
        return self._lines[place]


def _visit_of(placed: tuple[int, Event]) -> str | date:
    event = placed[1]
    return event.at.date() if event.session is None else event.session


def _line(number: int, event: Event, statistics: Sequence[tuple[Role, Statistic]]) -> str:
    price = "" if event.price is None else f" x {event.price:.2f}"
    line = (
        f"  [{number}] {event.behaviour}, {event.quantity:g}{price} | {inline(event.category) or 'no category'} | "
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


def _by_category(counts: Counter[tuple[Behaviour, str]], kinds: int) -> str:
    if not kinds:
        return "of any kind"
    top = counts.most_common(kinds)
    told = [f"{number} {behaviour} in {inline(category) or 'no category'}" for (behaviour, category), number in top]
    rest = counts.total() - sum(number for _, number in top)
    return ", ".join([*told, f"{rest} elsewhere"] if rest else told)
