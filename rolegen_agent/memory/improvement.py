"""What updates of the artefacts are made from, and what became of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, select

from rolegen_graphs.words import Candidate, Outcome, RoleLabel

from . import rows
from .models import CandidateRow, DecisionRow, OutcomeRow, PathChoiceRow, PromotionRow, RoleLabelRow, RoundRow
from .records import Experience, Promotion
from .store import Store, chunks, columns, now, without


class ImprovementStore(Store):
    """The part of the memory that the outer loop's updates read and write."""

    def experiences(self, before: datetime) -> list[Experience]:
        """Decisions whose final outcome was known strictly before ``before``, by time and decision.

        An order is known when it happened, its absence when the horizon is over, however late either was reported. One that
        was refunded at or after ``before`` still stood then: what it was is not known any more, so it is left out.
        """
        known = or_(
            OutcomeRow.ordered_at < before,
            and_(OutcomeRow.ordered_at.is_(None), DecisionRow.horizon_end <= before),
        )
        query = (
            select(
                DecisionRow.run,
                DecisionRow.at,
                DecisionRow.reasoner,
                *columns(OutcomeRow, without=("recorded_at",)),
                func.max(RoundRow.round).label("last_round"),
            )
            .join(OutcomeRow, OutcomeRow.decision == DecisionRow.decision)
            .join(RoundRow, RoundRow.decision == DecisionRow.decision, isouter=True)
            .where(OutcomeRow.final.is_(True), DecisionRow.at < before, known)
            .where(or_(OutcomeRow.refunded_at.is_(None), OutcomeRow.refunded_at < before))
            .group_by(DecisionRow.decision, OutcomeRow.decision)
            .order_by(DecisionRow.at, DecisionRow.decision)
        )
        with self._read() as connection:
            found = connection.execute(query).mappings().all()
            last = {row["decision"]: row["last_round"] for row in found}
            candidates = self._of_rounds(connection, CandidateRow, last)
            labels = self._of_rounds(connection, RoleLabelRow, last)
            choices = self._of_rounds(connection, PathChoiceRow, last)
        experiences = []
        for row in found:
            decision = row["decision"]
            # Decisions from before paths were selected have no choices: all of their candidates were used.
            made = choices.get(decision)
            used = {choice["path"] for choice in made if choice["chosen"]} if made else None
            grounded = [
                one
                for one in candidates.get(decision, ())
                if one["item"] is not None and (used is None or one["path"] in used)
            ]
            experiences.append(
                Experience(
                    decision=decision,
                    run=row["run"],
                    user=row["user_id"],
                    at=row["at"],
                    reasoner=row["reasoner"],
                    candidates=tuple(rows.to_word(Candidate, one) for one in grounded),
                    labels=tuple(rows.to_word(RoleLabel, one) for one in labels.get(decision, ())),
                    outcome=Outcome(
                        user=row["user_id"],
                        **without(row, "user_id", "run", "at", "reasoner", "last_round"),
                    ),
                )
            )
        return experiences

    def record_promotion(self, promotion: Promotion) -> None:
        """Note what became of an update; idempotent on (at, from_fingerprint, wanted)."""
        with self._write() as connection:
            values = {**rows.fields_of(promotion), "recorded_at": now()}
            self._upsert(connection, PromotionRow, [values], keep=("recorded_at",))

    def promotions(self) -> tuple[Promotion, ...]:
        """All updates that were tried, oldest first."""
        query = select(*columns(PromotionRow, without=("recorded_at",))).order_by(
            PromotionRow.at, PromotionRow.recorded_at, PromotionRow.wanted
        )
        with self._read() as connection:
            return tuple(rows.to_word(Promotion, row) for row in connection.execute(query).mappings())

    @staticmethod
    def _of_rounds(connection: Any, row: Any, last: dict[str, int | None]) -> dict[str, list[Any]]:
        """The rows of the last round of each decision, in their order."""
        found: dict[str, list[Any]] = {}
        for chunk in chunks(sorted(last)):
            query = select(*columns(row)).where(row.decision.in_(chunk)).order_by(row.decision, row.round, row.seq)
            for one in connection.execute(query).mappings():
                if one["round"] == last[one["decision"]]:
                    found.setdefault(one["decision"], []).append(one)
        return found
