"""How decisions ended: what examples for training a reasoner are chosen by."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from rolegen_graphs.words import Record

from .models import DecisionRow, OutcomeRow
from .store import Store, slate_item_ids


class Ending(Record):
    """One decision and what came of it."""

    decision: str
    reasoner: str
    bought: bool | None
    """whether an item of its slate was in the order that followed; None while that is not known for good"""


class EndingStore(Store):
    """The part of the memory that knows how decisions ended."""

    def endings(self, at: datetime | None = None) -> tuple[Ending, ...]:
        """Every decision, oldest first; ``at``: as outcomes were known then, and without later decisions."""
        query = (
            select(
                DecisionRow.decision,
                DecisionRow.reasoner,
                DecisionRow.horizon_end,
                OutcomeRow.ordered_at,
                OutcomeRow.refunded_at,
                OutcomeRow.items,
                OutcomeRow.final,
            )
            .outerjoin(OutcomeRow, OutcomeRow.decision == DecisionRow.decision)
            .order_by(DecisionRow.at, DecisionRow.decision)
        )
        if at is not None:
            query = query.where(DecisionRow.at < at)
        with self._read() as connection:
            found = connection.execute(query).all()
            ordered = [row.decision for row in found if row.ordered_at is not None]
            shown = slate_item_ids(connection, ordered, "rolegen")

        endings = []
        for row in found:
            # An order that was refunded later still stood at that time.
            stood = at is not None and row.refunded_at is not None and row.refunded_at >= at
            known = bool(row.final) and not stood and (at is None or row.horizon_end <= at)
            bought = row.ordered_at is not None and not set(row.items).isdisjoint(shown[row.decision])
            endings.append(Ending(decision=row.decision, reasoner=row.reasoner, bought=bought if known else None))
        return tuple(endings)
