"""Feedback: what came of the decisions, and the lessons that were learnt from it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, select

from rolegen_errors import InputError
from rolegen_graphs.words import Lesson, Outcome

from . import rows
from .models import DecisionRow, LessonRow, OutcomeRow
from .store import Store, columns, now, without


class FeedbackStore(Store):
    """The part of the memory that holds outcomes and lessons."""

    def record_outcome(self, outcome: Outcome) -> None:
        """Store what came of a decision; see :meth:`record_outcomes`."""
        self.record_outcomes([outcome])

    def record_outcomes(self, outcomes: Iterable[Outcome]) -> int:
        """Store outcomes in one transaction; returns how many were written.

        A later report replaces an earlier one, except that a provisional report never replaces a final one: such a late
        arrival is not counted in the result. ``InputError`` for an unknown decision, for another user's outcome, and for
        an order outside the horizon [decision, decision + horizon), which cannot be an outcome of it.
        """
        latest = {outcome.decision: outcome for outcome in sorted(outcomes, key=lambda outcome: outcome.final)}
        recorded_at = now()
        with self._write() as connection:
            known = self._known(connection, latest)
            for outcome in latest.values():
                _check_outcome(outcome, known[outcome.decision])
            values = [
                {"user_id": outcome.user, "recorded_at": recorded_at, **without(rows.fields_of(outcome), "user")}
                for outcome in latest.values()
            ]
            written = 0
            for final in (False, True):
                some = [value for value in values if value["final"] is final]
                unless = None if final else OutcomeRow.final.is_(True)
                written += self._upsert(connection, OutcomeRow, some, unless=unless)
        return written

    def outcomes(self, run: str) -> dict[str, Outcome]:
        """The outcomes of a run's decisions, by decision id."""
        query = select(*columns(OutcomeRow)).join(DecisionRow, DecisionRow.decision == OutcomeRow.decision)
        with self._read() as connection:
            found = connection.execute(query.where(DecisionRow.run == run)).mappings().all()
        return {
            row["decision"]: Outcome(user=row["user_id"], **without(row, "user_id", "recorded_at")) for row in found
        }

    def record_lesson(self, lesson: Lesson) -> None:
        """Store one version of a lesson, idempotent on (lesson, learnt_at).

        New evidence or a retirement (``expires_at``) is a new version with its own ``learnt_at``: an earlier decision
        must keep seeing the earlier one.
        """
        with self._write() as connection:
            self._upsert(connection, LessonRow, [rows.fields_of(lesson)])

    def lessons_for(self, user: str, cohort: str, at: datetime) -> tuple[Lesson, ...]:
        """Of each lesson in scope, the latest version learnt strictly before ``at``, unless it has expired by ``at``."""
        newest = func.row_number().over(partition_by=LessonRow.lesson, order_by=LessonRow.learnt_at.desc())
        ranked = select(*columns(LessonRow), newest.label("age")).where(LessonRow.learnt_at < at).subquery("ranked")
        in_scope = or_(
            ranked.c.scope == "all",
            and_(ranked.c.scope == "cohort", ranked.c.scope_key == cohort),
            and_(ranked.c.scope == "user", ranked.c.scope_key == user),
        )
        alive = or_(ranked.c.expires_at.is_(None), ranked.c.expires_at > at)
        query = select(ranked).where(ranked.c.age == 1, in_scope, alive).order_by(ranked.c.learnt_at, ranked.c.lesson)
        with self._read() as connection:
            return tuple(rows.to_word(Lesson, row) for row in connection.execute(query).mappings())


def _check_outcome(outcome: Outcome, decision: Any) -> None:
    where = f"outcome of decision {outcome.decision}"
    if outcome.user != decision.user_id:
        raise InputError(
            f"the outcome is of user {outcome.user!r}, the decision of {decision.user_id!r}",
            where=where,
            fix="report an outcome under the user of its decision",
        )
    if outcome.ordered_at is None:
        return
    if outcome.ordered_at.tzinfo is None:
        raise InputError("the time of the order has no time zone", where=where, fix="pass an aware datetime")
    if not decision.at <= outcome.ordered_at < decision.horizon_end:
        raise InputError(
            f"the order at {outcome.ordered_at.isoformat()} lies outside the horizon from {decision.at.isoformat()} to"
            f" {decision.horizon_end.isoformat()}",
            where=where,
            fix="report orders within the horizon only, or record the decision with the right horizon_days",
        )
