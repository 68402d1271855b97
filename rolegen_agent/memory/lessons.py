"""What lessons are learnt from, and what was learnt: outcomes that were known, versions, and a row for each evidence.

Guarantees: an outcome speaks of a lesson only from the end of its decision's horizon on, so never to a version that the
decision itself could have seen; counts of a version are those of its rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Connection, and_, case, delete, func, or_, select, true, type_coerce, update

from rolegen_errors import FutureError
from rolegen_graphs.words import Lesson, Record, Subject

from . import rows
from .models import (
    DecisionRow,
    EffectRow,
    LessonEvidenceRow,
    LessonRow,
    LessonUseRow,
    OutcomeRow,
    PathRow,
    RoundRow,
    SlateItemRow,
)
from .store import Store, columns


class KnownOutcome(Record):
    """A decision whose whole horizon had passed, with what its slate led with."""

    decision: str
    user: str
    at: datetime
    known_at: datetime
    """end of the horizon"""
    cohort: str
    forecast: float | None
    """the recommender's mean probability of an order without any path, in the last round"""
    ordered: bool
    led: frozenset[tuple[Subject, str]] = frozenset()
    """of each item of the slate that a path put forward: the path's kind, the role of its intervention, the item's category"""


class Evidence(Record):
    """What one decision's outcome says of a lesson."""

    decision: str
    led: bool
    ordered: bool
    supports: bool


class LessonStore(Store):
    """The part of the memory that lessons are learnt from and kept in."""

    def known_outcomes(self, at: datetime) -> tuple[tuple[KnownOutcome, ...], dict[str, int]]:
        """Decisions whose horizon had passed by ``at`` with a final outcome, in order of time; and what is left out, by
        reason. Where several runs decided on one user at one time, only one slate was shown: the latest recorded counts."""
        with self._read() as connection:
            heads, left_out = self._heads(connection, at)
            ids = select(DecisionRow.decision).join(OutcomeRow, OutcomeRow.decision == DecisionRow.decision)
            ids = ids.where(OutcomeRow.final.is_(True), DecisionRow.horizon_end <= at)
            last = (
                select(RoundRow.decision, func.max(RoundRow.round).label("round"))
                .where(RoundRow.decision.in_(ids))
                .group_by(RoundRow.decision)
                .subquery()
            )
            forecast = (
                select(EffectRow.decision, func.avg(EffectRow.probability_without))
                .join(last, and_(last.c.decision == EffectRow.decision, last.c.round == EffectRow.round))
                .group_by(EffectRow.decision)
            )
            expected: dict[str, float] = {decision: float(mean) for decision, mean in connection.execute(forecast)}
            shown = (
                select(
                    SlateItemRow.decision,
                    PathRow.kind,
                    type_coerce(PathRow.intervention, JSON)["role"].as_string(),
                    SlateItemRow.category,
                )
                .join(last, last.c.decision == SlateItemRow.decision)
                .join(
                    PathRow,
                    and_(
                        PathRow.decision == SlateItemRow.decision,
                        PathRow.round == last.c.round,
                        PathRow.path == SlateItemRow.path,
                    ),
                )
                .where(SlateItemRow.policy == "rolegen")
                .order_by(SlateItemRow.decision, SlateItemRow.seq)
            )
            led: dict[str, set[tuple[Subject, str]]] = defaultdict(set)
            for decision, kind, role, category in connection.execute(shown):
                found: tuple[tuple[Subject, str | None], ...] = (("path", kind), ("role", role), ("category", category))
                led[decision] |= {(subject, value) for subject, value in found if value}
        known = (
            KnownOutcome(
                decision=head.decision,
                user=head.user_id,
                at=head.at,
                known_at=head.horizon_end,
                cohort=head.cohort,
                forecast=expected.get(head.decision),
                ordered=head.ordered_at is not None,
                led=frozenset(led.get(head.decision, ())),
            )
            for head in heads
        )
        return tuple(known), left_out

    def _heads(self, connection: Connection, at: datetime) -> tuple[list[Any], dict[str, int]]:
        cohort = type_coerce(DecisionRow.observation, JSON)["trajectory"]["cohort"].as_string()
        query = (
            select(
                DecisionRow.decision,
                DecisionRow.user_id,
                DecisionRow.at,
                DecisionRow.horizon_end,
                cohort.label("cohort"),
                OutcomeRow.ordered_at,
                OutcomeRow.refunded_at,
                OutcomeRow.final,
            )
            .outerjoin(OutcomeRow, OutcomeRow.decision == DecisionRow.decision)
            .where(DecisionRow.at < at)
            .order_by(DecisionRow.at, DecisionRow.user_id, DecisionRow.recorded_at.desc(), DecisionRow.decision)
        )
        left_out: Counter[str] = Counter()
        seen: set[tuple[str, datetime]] = set()
        heads = []
        for row in connection.execute(query):
            if row.horizon_end > at:
                left_out["horizon still open"] += 1
            elif not row.final:
                left_out["no final outcome"] += 1
            elif row.refunded_at is not None and row.refunded_at >= at:
                left_out["refunded later"] += 1  # the order still stood then, and that it would not is of the future
            elif (row.user_id, row.at) in seen:
                left_out["another run decided on the same user and time"] += 1
            else:
                seen.add((row.user_id, row.at))
                heads.append(row)
        return heads, dict(left_out)

    def proposed_lessons(self, at: datetime, *, limit: int) -> tuple[tuple[str, int], ...]:
        """What reflection proposed in decisions before ``at``: text and how often, the most frequent first."""
        query = (
            select(RoundRow.lessons)
            .join(DecisionRow, DecisionRow.decision == RoundRow.decision)
            .where(DecisionRow.at < at)
        )
        with self._read() as connection:
            counted = Counter(text for (texts,) in connection.execute(query) for text in texts)
        return tuple(sorted(counted.items(), key=lambda one: (-one[1], one[0]))[:limit])

    def lessons(self, at: datetime | None = None) -> tuple[Lesson, ...]:
        """The latest version of every lesson, retired and expired ones included; of those learnt strictly before ``at``."""
        newest = func.row_number().over(partition_by=LessonRow.lesson, order_by=LessonRow.learnt_at.desc())
        ranked = select(*columns(LessonRow), newest.label("age"))
        if at is not None:
            ranked = ranked.where(LessonRow.learnt_at < at)
        inner = ranked.subquery("ranked")
        query = select(inner).where(inner.c.age == 1).order_by(inner.c.learnt_at.desc(), inner.c.lesson)
        with self._read() as connection:
            return tuple(rows.to_word(Lesson, row) for row in connection.execute(query).mappings())

    def lesson_versions(self, lesson: str) -> tuple[Lesson, ...]:
        """All versions of the lessons whose id begins with ``lesson``, oldest first."""
        query = (
            select(*columns(LessonRow))
            .where(LessonRow.lesson.startswith(lesson, autoescape=True))
            .order_by(LessonRow.lesson, LessonRow.learnt_at)
        )
        with self._read() as connection:
            return tuple(rows.to_word(Lesson, row) for row in connection.execute(query).mappings())

    def lesson_uses(self, lesson: str) -> int:
        """How many decisions were shown a lesson, in any version."""
        with self._read() as connection:
            query = select(func.count()).select_from(LessonUseRow).where(LessonUseRow.lesson == lesson)
            return connection.execute(query).scalar_one()

    def lesson_evidence(self, lesson: str, at: datetime) -> dict[str, Evidence]:
        """By decision: the latest evidence that was noted for a lesson strictly before ``at``."""
        with self._read() as connection:
            query = select(LessonEvidenceRow).where(LessonEvidenceRow.lesson == lesson, LessonEvidenceRow.noted_at < at)
            found = connection.execute(
                query.with_only_columns(*columns(LessonEvidenceRow)).order_by(LessonEvidenceRow.noted_at)
            )
            return {row["decision"]: rows.to_word(Evidence, row) for row in found.mappings()}

    def record_learning(self, learnt: Iterable[tuple[Lesson, Sequence[Evidence]]]) -> int:
        """Store versions of lessons, each with the evidence that is new in it, in one transaction; idempotent.

        Counts of evidence are taken from the rows, whatever the version says. Returns the rows of evidence written.

        Raises:
            FutureError: an outcome was not known, or not final, by the time of the version that it is to speak for.
        """
        written = 0
        with self._write() as connection:
            for lesson, evidence in learnt:
                self._upsert(connection, LessonRow, [rows.fields_of(lesson)])
                if evidence:
                    known = self._known(connection, (one.decision for one in evidence))
                    values = [
                        {
                            "lesson": lesson.lesson,
                            "noted_at": lesson.learnt_at,
                            **rows.fields_of(one),
                            "decided_at": known[one.decision].at,
                            "known_at": known[one.decision].horizon_end,
                        }
                        for one in evidence
                    ]
                    _refuse_the_future(lesson, values)
                    written += self._upsert(connection, LessonEvidenceRow, values)
                    self._refuse_unknown(connection, lesson)
                recount(connection, [lesson.lesson], since=lesson.learnt_at)
        return written

    def _refuse_unknown(self, connection: Connection, lesson: Lesson) -> None:
        """The same in SQL, against what the tables say of the decisions: outcomes that are not final, too."""
        wrong = (
            select(LessonEvidenceRow.decision)
            .join(DecisionRow, DecisionRow.decision == LessonEvidenceRow.decision)
            .outerjoin(OutcomeRow, OutcomeRow.decision == LessonEvidenceRow.decision)
            .where(
                LessonEvidenceRow.lesson == lesson.lesson,
                LessonEvidenceRow.noted_at == lesson.learnt_at,
                or_(
                    DecisionRow.horizon_end > LessonEvidenceRow.noted_at,
                    OutcomeRow.final.is_not(True),
                    LessonEvidenceRow.known_at != DecisionRow.horizon_end,
                ),
            )
            .limit(1)
        )
        found = connection.execute(wrong).scalar()
        if found is not None:
            _future(lesson, found, "has no final outcome")


def recount(connection: Connection, lessons: Sequence[str], *, since: datetime | None = None) -> None:
    """Set the counts of all versions of ``lessons``, or those learnt from ``since`` on, to what their evidence says, for
    instance after some of it was erased."""
    counted = evidence_counts(connection, lessons, since)
    query = select(LessonRow.lesson, LessonRow.learnt_at).where(
        LessonRow.lesson.in_(lessons), LessonRow.claim.is_not(None)
    )
    if since is not None:
        query = query.where(LessonRow.learnt_at >= since)
    for lesson, learnt_at in connection.execute(query).all():
        supports, contradicts = counted.get((lesson, learnt_at), (0, 0))
        connection.execute(
            update(LessonRow)
            .where(LessonRow.lesson == lesson, LessonRow.learnt_at == learnt_at)
            .values(evidence_for=supports, evidence_against=contradicts)
        )


def erase_evidence(connection: Connection, decisions: Any) -> int:
    """Delete the evidence of some decisions (a select of their ids), and count what is left; returns the deleted rows."""
    about = LessonEvidenceRow.decision.in_(decisions)
    touched = connection.execute(select(LessonEvidenceRow.lesson).where(about).distinct()).scalars().all()
    gone = connection.execute(delete(LessonEvidenceRow).where(about)).rowcount
    if touched:
        recount(connection, touched)
    return gone


def evidence_counts(
    connection: Connection, lessons: Sequence[str] | None = None, since: datetime | None = None
) -> dict[tuple[str, datetime], tuple[int, int]]:
    """(for, against) of each version: of each decision, the latest row noted by then."""
    newest = func.row_number().over(
        partition_by=(LessonRow.lesson, LessonRow.learnt_at, LessonEvidenceRow.decision),
        order_by=LessonEvidenceRow.noted_at.desc(),
    )
    noted = (
        select(LessonRow.lesson, LessonRow.learnt_at, LessonEvidenceRow.supports, newest.label("age"))
        .join(
            LessonEvidenceRow,
            and_(LessonEvidenceRow.lesson == LessonRow.lesson, LessonEvidenceRow.noted_at <= LessonRow.learnt_at),
        )
        .where(
            true() if lessons is None else LessonRow.lesson.in_(lessons),
            true() if since is None else LessonRow.learnt_at >= since,
        )
        .subquery()
    )
    supports = func.sum(case((noted.c.supports, 1), else_=0))
    query = (
        select(noted.c.lesson, noted.c.learnt_at, supports, func.count())
        .where(noted.c.age == 1)
        .group_by(noted.c.lesson, noted.c.learnt_at)
    )
    return {
        (lesson, learnt_at): (int(yes), int(total - yes)) for lesson, learnt_at, yes, total in connection.execute(query)
    }


def _refuse_the_future(lesson: Lesson, values: Sequence[rows.Values]) -> None:
    for value in values:
        if not value["decided_at"] < value["known_at"] <= lesson.learnt_at:
            _future(lesson, value["decision"], f"is known from {value['known_at'].isoformat()} on")


def _future(lesson: Lesson, decision: str, why: str) -> None:
    raise FutureError(
        f"the outcome of decision {decision} {why}, and was about to speak for a lesson of {lesson.learnt_at.isoformat()}",
        where=f"lesson {lesson.lesson}",
        fix="learn from outcomes whose horizon had passed by the time of the lesson",
    )
