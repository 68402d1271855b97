"""The rules of an :class:`~rolegen_graphs.ports.Observer`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rolegen_errors import InputError

from ..ports import Observer
from ..words import Observation
from .rules import Rules

NOBODY = "no user of this name"


def check_observer(observer: Observer, *, users: Sequence[str], at: datetime) -> tuple[Observation, ...]:
    """Hold an observer against its rules, with real users of yours who have events before ``at``.

    - The trajectory is of the user and the time that were asked for.
    - Every event lies strictly before the decision, also those of past decisions and lessons.
    - Events stand in the order of time, each once; there are at least as many in total.
    - The same question has the same answer.
    - A user without events raises ``InputError``.

    Returns:
        what it saw, for :func:`check_reasoner`.

    Raises:
        ConformanceError: with every rule that does not hold.
    """
    found = []
    with Rules(observer) as rules:
        for user in users:
            seen = rules.ask(f"for user {user!r}", observer.observe, user, at)
            if seen is None:
                continue
            found.append(seen)
            way = seen.trajectory
            rules.hold("is of the user that was asked for", way.user == user, way.user)
            rules.hold("is of the time that was asked for", way.at == at, way.at)
            late = [event.event for event in way.events if event.at >= at]
            rules.hold("events lie strictly before the decision", not late, late)
            rules.hold("folded events lie before the decision", all(fold.last < at for fold in way.folded))
            late_decisions = [past.decision for past in seen.past if past.at >= at]
            rules.hold("past decisions lie before the decision", not late_decisions, late_decisions)
            late_lessons = [lesson.lesson for lesson in seen.lessons if lesson.learnt_at > at]
            rules.hold("lessons were learnt before the decision", not late_lessons, late_lessons)
            times = [event.at for event in way.events]
            rules.hold("events stand in the order of time", times == sorted(times))
            ids = [event.event for event in way.events]
            rules.hold("every event stands once", len(set(ids)) == len(ids), ids)
            listed = len(ids) + sum(fold.events for fold in way.folded)
            rules.hold("total_events counts what is listed and folded", way.total_events >= listed, way.total_events)
            again = rules.ask("twice", observer.observe, user, at)
            rules.hold("the same question has the same answer", again == seen)
        _refuses(rules, observer, at)
    return tuple(found)


def _refuses(rules: Rules, observer: Observer, at: datetime) -> None:
    seen: object
    try:
        seen = observer.observe(NOBODY, at)
    except InputError:
        return
    except Exception as error:  # noqa: BLE001 - told with all the others
        seen = error
    rules.hold("a user without events raises InputError", False, seen)
