"""What can be derived again of feedback: propensities from the list that was drawn from, credits from orders, orders from horizons.

An order that nobody attributed yet is no fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from rolegen_graphs.attribution import order_shares
from rolegen_graphs.exploration import redrawn
from rolegen_graphs.words import Slate

from ..models import AttributionRow, DecisionRow, OutcomeRow, RemovalRow
from ..store import chunks
from .registry import Finding, Recorded, decision_check, table_check

TOLERANCE = 1e-9
"""of sums of probabilities and credits"""


def wrong_propensities(slate: Slate) -> Iterator[str]:
    """What the places of a slate say of chance and its list does not."""
    if slate.draw is None:
        if any(item.propensity is not None or item.drawn_from is not None for item in slate.items):
            yield "it has propensities, but no list that it was drawn from"
        return
    rank_of = {item: rank for rank, item in enumerate(slate.draw.items, start=1)}
    for item, derived in zip(slate.items, redrawn(slate), strict=True):
        if item.drawn_from != rank_of.get(item.item):
            yield f"place {item.rank} is drawn from rank {item.drawn_from}, its list says {rank_of.get(item.item)}"
        if item.propensity is None or abs(item.propensity - derived) > TOLERANCE:
            yield f"place {item.rank} has propensity {item.propensity}, its list says {derived:.6g}"


@decision_check("propensities")
def _propensities(found: Recorded) -> Iterator[Finding]:
    for what in wrong_propensities(found.decision.slate):
        yield "slates", f"{found.decision.decision} rolegen", what


@table_check("credits")
def wrong_credits(connection: Connection) -> Iterator[Finding]:
    """Credits without an order, and credits that do not add up to the decision's part of its order."""
    if connection.execute(select(RemovalRow.removed_at).limit(1)).first() is not None:
        return  # a decision that shared in an order may be gone, and what it took with it is not known
    query = (
        select(
            AttributionRow.decision,
            DecisionRow.user_id,
            OutcomeRow.ordered_at,
            func.sum(AttributionRow.credit).label("sum"),
        )
        .join(DecisionRow, DecisionRow.decision == AttributionRow.decision)
        .outerjoin(OutcomeRow, OutcomeRow.decision == AttributionRow.decision)
        .group_by(AttributionRow.decision, DecisionRow.user_id, OutcomeRow.ordered_at)
        .order_by(AttributionRow.decision)
    )
    found = connection.execute(query).all()
    spans: dict[str, list[tuple[str, datetime, datetime]]] = {}
    own = select(DecisionRow.user_id, DecisionRow.decision, DecisionRow.at, DecisionRow.horizon_end)
    for users in chunks(sorted({row.user_id for row in found})):
        for span in connection.execute(own.where(DecisionRow.user_id.in_(users))):
            spans.setdefault(span.user_id, []).append((span.decision, span.at, span.horizon_end))
    for row in found:
        if row.ordered_at is None:
            yield "attributions", row.decision, "it has credits, but no order"
            continue
        share = order_shares(spans[row.user_id], row.ordered_at)[row.decision]
        if abs(row.sum - share) > TOLERANCE:
            yield "attributions", row.decision, f"credits add up to {row.sum:.6g}, its part of the order is {share:.6g}"


@table_check("outcomes")
def wrong_outcomes(connection: Connection) -> Iterator[Finding]:
    """Outcomes under another user than their decision, outside its horizon, or with a value and no order."""
    query = select(
        OutcomeRow.decision,
        (OutcomeRow.user_id != DecisionRow.user_id).label("other"),
        or_(OutcomeRow.ordered_at < DecisionRow.at, OutcomeRow.ordered_at >= DecisionRow.horizon_end).label("outside"),
    ).join(DecisionRow, DecisionRow.decision == OutcomeRow.decision)
    wrong = query.where(
        or_(
            OutcomeRow.user_id != DecisionRow.user_id,
            OutcomeRow.ordered_at < DecisionRow.at,
            OutcomeRow.ordered_at >= DecisionRow.horizon_end,
            (OutcomeRow.ordered_at.is_(None)) & (OutcomeRow.value != 0),
        )
    )
    for row in connection.execute(wrong.order_by(OutcomeRow.decision)):
        what = (
            "it is of another user than its decision"
            if row.other
            else "the order lies outside the horizon of its decision"
            if row.outside
            else "it has a value and no order"
        )
        yield "outcomes", row.decision, what
