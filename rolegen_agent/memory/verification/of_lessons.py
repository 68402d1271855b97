"""Checks of lessons: their counts, and that none was born from, or shown to, what came after it."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, and_, select

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
