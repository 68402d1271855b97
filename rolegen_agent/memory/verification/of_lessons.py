"""Checks of lessons: their counts, and that none was born from, or shown to, what came after it."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, and_, or_, select

from ..lessons import evidence_counts
from ..models import DecisionRow, LessonEvidenceRow, LessonRow, LessonUseRow
from .registry import Finding, table_check


@table_check("lesson counts")
def _counts(connection: Connection) -> Iterator[Finding]:
    """The counts of every version are what its rows of evidence say."""
    counted = evidence_counts(connection)
    query = select(LessonRow.lesson, LessonRow.learnt_at, LessonRow.evidence_for, LessonRow.evidence_against)
    for row in connection.execute(query.where(LessonRow.claim.is_not(None))):
        real = counted.get((row.lesson, row.learnt_at), (0, 0))
        if (row.evidence_for, row.evidence_against) != real:
            told = f"{row.evidence_for} for, {row.evidence_against} against"
            key = f"{row.lesson} {row.learnt_at.isoformat()}"
            yield "lessons", key, f"{told}, its evidence says {real[0]} and {real[1]}"


@table_check("lesson evidence")
def _evidence(connection: Connection) -> Iterator[Finding]:
    """Each row speaks for its lesson where an order followed if and only if the claim was followed, and has its decision's times.

    Whether there was an order is not compared with the outcome: one that changed later is noted by the next version.
    """
    evidence = LessonEvidenceRow
    query = (
        select(
            evidence.lesson,
            evidence.decision,
            evidence.noted_at,
            evidence.led,
            evidence.ordered,
            evidence.supports,
            or_(evidence.decided_at != DecisionRow.at, evidence.known_at != DecisionRow.horizon_end).label("moved"),
            LessonRow.claim,
        )
        .join(LessonRow, and_(LessonRow.lesson == evidence.lesson, LessonRow.learnt_at == evidence.noted_at))
        .join(DecisionRow, DecisionRow.decision == evidence.decision)
    )
    for row in connection.execute(query.execution_options(yield_per=1000)):
        key = f"{row.lesson} {row.decision} {row.noted_at.isoformat()}"
        if row.moved:
            yield "lesson_evidence", key, "its times are not those of the decision"
        if row.claim is not None:
            followed = row.led if row.claim.direction == "lead" else not row.led
            if row.supports != (followed == row.ordered):
                said, real = ("for", "against") if row.supports else ("against", "for")
                yield "lesson_evidence", key, f"it counts {said} the lesson, what it notes speaks {real} it"


@table_check("lessons and outcomes")
def _own_outcome(connection: Connection) -> Iterator[Finding]:
    """A lesson is never born from, nor applied to, its own outcome."""
    evidence = select(LessonEvidenceRow.lesson, LessonEvidenceRow.decision)
    early = evidence.join(DecisionRow, DecisionRow.decision == LessonEvidenceRow.decision)
    for row in connection.execute(early.where(DecisionRow.horizon_end > LessonEvidenceRow.noted_at)):
        yield "lesson_evidence", f"{row.lesson} {row.decision}", "the decision spoke before its outcome was known"
    uses = select(LessonUseRow.lesson, LessonUseRow.decision)
    seen = uses.join(DecisionRow, DecisionRow.decision == LessonUseRow.decision)
    for row in connection.execute(seen.where(LessonUseRow.learnt_at >= DecisionRow.at)):
        yield "lesson_uses", f"{row.decision} {row.lesson}", "the decision was shown a lesson from its future"
    own = uses.join(
        LessonEvidenceRow,
        and_(
            LessonEvidenceRow.lesson == LessonUseRow.lesson,
            LessonEvidenceRow.decision == LessonUseRow.decision,
            LessonEvidenceRow.noted_at <= LessonUseRow.learnt_at,
        ),
    )
    for row in connection.execute(own):
        yield (
            "lesson_uses",
            f"{row.decision} {row.lesson}",
            "the decision was shown a lesson that its own outcome spoke for",
        )
