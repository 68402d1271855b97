"""The rules of an :class:`~rolegen_graphs.ports.OutcomeSource`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from rolegen_errors import InputError

from ..ports import OutcomeSource
from ..reports import OutcomeReport, parse_report
from .rules import Rules


def check_outcome_source(source: OutcomeSource, *, since: datetime) -> tuple[OutcomeReport, ...]:
    """Hold a source against its rules, with a time from which on there are orders.

    - Everything is a report, or the fields of one, with times that have a zone.
    - There is at least one; no order lies before the time that was asked for.
    - The same question has the same answer, and a later time drops what lies before it, nothing else.

    Returns:
        what it told.

    Raises:
        ConformanceError: with every rule that does not hold.
    """
    with Rules(source) as rules:
        found = _asked(rules, source, since)
        rules.hold("tells at least one report", bool(found))
        ordered = sorted({one.ordered_at for one in found if one.ordered_at is not None})
        early = [when for when in ordered if when < since]
        rules.hold("tells no order from before the time that was asked for", not early, early[:3])
        rules.hold("the same question has the same answer", _asked(rules, source, since) == found)
        if ordered:
            last = ordered[-1]
            kept = [one for one in found if one.ordered_at is not None and one.ordered_at >= last]
            later = [one for one in _asked(rules, source, last) if one.ordered_at is not None]
            rules.hold("a later time drops what lies before it, and nothing else", later == kept, later[:3])
    return tuple(found)


def _asked(rules: Rules, source: OutcomeSource, since: datetime) -> list[OutcomeReport]:
    given = rules.ask(f"from {since.isoformat()} on", lambda: list(source.reports(since))) or []
    return [one for one in (_report(rules, report) for report in given) if one is not None]


def _report(rules: Rules, given: OutcomeReport | Mapping[str, object]) -> OutcomeReport | None:
    if isinstance(given, OutcomeReport):
        return given
    if not rules.hold("a report is an OutcomeReport or a mapping", isinstance(given, Mapping), type(given).__name__):
        return None
    try:
        return parse_report(given)
    except InputError as error:
        rules.hold("everything is a report", False, error.what)
        return None
