"""Orders credited to decisions and path steps, and kept in the memory.

An order counts for the latest decision on its user whose horizon holds it; earlier ones that hold it too get nothing, and
several at the same time (of different runs) share it. Within a decision see :mod:`rolegen_graphs.attribution`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING

from rolegen_errors import ProjectError
from rolegen_graphs.attribution import attribute, order_shares
from rolegen_graphs.ports import Recommender
from rolegen_graphs.words import Attribution, Outcome

from ..memory.records import Span

if TYPE_CHECKING:
    from ..memory import Memory

CHUNK = 100
"""decisions of one transaction"""
TOLERANCE = 1e-9
"""of sums of credits"""


@dataclass
class AttributionReport:
    """``orders = attributed + earlier + elsewhere + untrained + changed`` unless it was stopped."""

    orders: int
    """decisions with a net order"""
    attributed: int = 0
    earlier: int = 0
    """their credit was known already"""
    elsewhere: int = 0
    """a later decision claims the order"""
    untrained: int = 0
    """nothing is trained for their time any more"""
    changed: int = 0
    """their outcome changed meanwhile: the same command again looks at them"""
    steps: int = 0
    """path steps that got a credit now"""


def attribute_orders(
    memory: Memory,
    recommender_at: Callable[[datetime], Recommender],
    *,
    run: str | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Event | None = None,
) -> AttributionReport:
    """Credit every order whose credit is missing or no longer right; repeating it changes nothing.

    Args:
        recommender_at: whose rollouts say what a step is worth, for decisions at a time; ``ProjectError`` where there is none.
        force: compute again what is there, for instance with a new model.
    """
    spans = memory.ordered_spans(run=run)
    report, recommenders = AttributionReport(len(spans)), dict[datetime, Recommender | None]()
    for low in range(0, len(spans), CHUNK):
        if stop is not None and stop.is_set():
            break
        found: dict[str, Sequence[Attribution]] = {}
        of: dict[str, Outcome] = {}
        shares: dict[str, float] = {}
        part = spans[low : low + CHUNK]
        rivals: dict[str, list[Span]] = {}
        for span in memory.spans(users=(span.user for span in part)):
            rivals.setdefault(span.user, []).append(span)
        for span in part:
            outcome = memory.find_outcome(span.decision)
            if outcome is None or outcome.ordered_at is None:
                report.changed += 1  # it was refunded a moment ago
                continue
            own = [(one.decision, one.at, one.horizon_end) for one in rivals[span.user]]
            share = order_shares(own, outcome.ordered_at)[span.decision]
            known = memory.attributions(decision=span.decision)
            right = abs(sum(one.credit for one in known) - share) < TOLERANCE
            if right and (known or not share) and not force:
                report.earlier += bool(share)
                report.elsewhere += not share
                continue
            if span.at not in recommenders:
                recommenders[span.at] = _trained(recommender_at, span.at)
            recommender = recommenders[span.at]
            if recommender is None:
                report.untrained += 1
                continue
            found[span.decision] = attribute(memory.get(span.decision), outcome, recommender, share)
            of[span.decision], shares[span.decision] = outcome, share
        for key in memory.record_attributions(found, of=of) if found else ():
            report.attributed += bool(shares[key])
            report.elsewhere += not shares[key]
            report.steps += sum(one.step is not None for one in found.pop(key))
        report.changed += len(found)
        progress(min(low + CHUNK, len(spans)), len(spans))
    return report


def _trained(recommender_at: Callable[[datetime], Recommender], at: datetime) -> Recommender | None:
    """None where nothing is trained for that time: counted, and the other orders go on."""
    try:
        return recommender_at(at)
    except ProjectError:
        return None
