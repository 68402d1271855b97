"""Feedback: what came of the decisions, and the lessons that were learnt from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, and_, bindparam, delete, func, or_, select
from sqlalchemy.sql import ColumnElement

from rolegen_errors import InputError
from rolegen_graphs.reports import supersedes
from rolegen_graphs.words import Attribution, Lesson, Outcome

from . import rows
from .digests import note_outcomes, tallied
from .models import AttributionRow, DeadLetterRow, DecisionRow, LessonRow, OutcomeRow
from .records import DeadLetter, Span
from .store import Store, chunks, columns, now, without

Fate = Literal["new", "same", "late"]
"""of a reported outcome: it was written, it said nothing new, or something is known that holds against it"""


class FeedbackStore(Store):
    """The part of the memory that holds outcomes, the credit for them, what could not be one, and lessons."""

    def record_outcome(self, outcome: Outcome) -> None:
        """Store what came of a decision; see :meth:`record_outcomes`."""
        self.record_outcomes([outcome])

    def record_outcomes(self, outcomes: Iterable[Outcome]) -> int:
        """Store outcomes in one transaction; returns how many were written.

        Which of two outcomes of a decision holds says :func:`rolegen_graphs.reports.supersedes`: what was known later, and
        without such a time the later report, except that a provisional one never replaces a final one. Those that came too
        late are not counted in the result. ``InputError`` for an unknown decision, for another user's outcome, and for
        an order outside the horizon [decision, decision + horizon), which cannot be an outcome of it.
        """
        return sum(fate != "late" for fate in self.settle(outcomes))

    def settle(
        self, outcomes: Iterable[Outcome], letters: Iterable[DeadLetter] = (), solved: Iterable[str] = ()
    ) -> list[Fate]:
        """Store outcomes, keep what could not be one, and drop letters that now are, all in one transaction.

        Returns what became of each outcome, in order.

        Where an outcome changes, the credit that rests on it is dropped: it is to be attributed again.
        """
        given = list(outcomes)
        recorded_at = now()
        with self._write() as connection:
            known = self._known(connection, (outcome.decision for outcome in given), lock=True)
            held = _outcomes(connection, OutcomeRow.decision.in_, sorted(known))
            before = dict(held)
            for outcome in given:
                _check_outcome(outcome, known[outcome.decision])
                old = held.get(outcome.decision)
                if old is None or supersedes(outcome, old):
                    held[outcome.decision] = outcome
            changed = [key for key, outcome in held.items() if outcome != before.get(key)]
            values = [
                {"user_id": held[key].user, "recorded_at": recorded_at, **without(rows.fields_of(held[key]), "user")}
                for key in changed
            ]
            self._upsert(connection, OutcomeRow, values)
            with tallied(connection, changed):
                note_outcomes(connection, [held[key] for key in changed])
            for chunk in chunks(changed):
                connection.execute(delete(AttributionRow).where(AttributionRow.decision.in_(chunk)))
            self._keep(connection, letters, recorded_at)
            for chunk in chunks(sorted(solved)):
                connection.execute(delete(DeadLetterRow).where(DeadLetterRow.letter.in_(chunk)))
        return [
            "late" if held[one.decision] != one else "same" if before.get(one.decision) == one else "new"
            for one in given
        ]

    def _keep(self, connection: Connection, letters: Iterable[DeadLetter], received_at: datetime) -> None:
        unique = {letter.letter: letter for letter in letters}
        for _, letter in sorted(unique.items()):  # in key order, so that two writers never wait in a circle
            values = {"user_id": letter.user, "received_at": received_at, **without(rows.fields_of(letter), "user")}
            again = {"reason": letter.reason, "tries": DeadLetterRow.tries + 1}
            statement = self._insert(DeadLetterRow).values(values)
            connection.execute(statement.on_conflict_do_update(index_elements=["letter"], set_=again))

    def outcomes(self, run: str) -> dict[str, Outcome]:
        """The outcomes of a run's decisions, by decision id."""
        with self._read() as connection:
            return _outcomes(connection, lambda runs: DecisionRow.run.in_(runs), [run])

    def find_outcome(self, decision: str) -> Outcome | None:
        """What is known of one decision's outcome, or None."""
        with self._read() as connection:
            return _outcomes(connection, OutcomeRow.decision.in_, [decision]).get(decision)

    def spans(self, *, decisions: Iterable[str] = (), users: Iterable[str] = ()) -> tuple[Span, ...]:
        """Time and horizon of the named decisions, and of all decisions on the named users; unknown ones are left out."""
        found: dict[str, Span] = {}
        with self._read() as connection:
            for column, names in ((DecisionRow.decision, decisions), (DecisionRow.user_id, users)):
                for chunk in chunks(sorted(set(names))):
                    for row in connection.execute(_SPANS.where(column.in_(chunk))).mappings():
                        found[row["decision"]] = Span(user=row["user_id"], **without(row, "user_id"))
        return tuple(sorted(found.values(), key=lambda span: (span.at, span.decision)))

    def first_decision_at(self) -> datetime | None:
        """The earliest decision time; None while nothing was decided."""
        with self._read() as connection:
            return connection.execute(select(func.min(DecisionRow.at))).scalar()

    def spans_behind(self, known_at: datetime, *, run: str | None = None) -> tuple[Span, ...]:
        """Decisions before ``known_at`` whose outcome was not known up to then, or up to the end of their horizon."""
        query = (
            _SPANS.outerjoin(OutcomeRow, OutcomeRow.decision == DecisionRow.decision)
            .where(DecisionRow.at < known_at)
            .where(
                or_(
                    OutcomeRow.known_at.is_(None),
                    and_(OutcomeRow.known_at < known_at, OutcomeRow.known_at < DecisionRow.horizon_end),
                )
            )
            .order_by(DecisionRow.at, DecisionRow.decision)
        )
        if run is not None:
            query = query.where(DecisionRow.run == run)
        with self._read() as connection:
            found = connection.execute(query).mappings().all()
        return tuple(Span(user=row["user_id"], **without(row, "user_id")) for row in found)

    def dead_letters(self, *, limit: int | None = None) -> tuple[DeadLetter, ...]:
        """Reports that could not be recorded, the oldest first."""
        order = (DeadLetterRow.received_at, DeadLetterRow.source, DeadLetterRow.row, DeadLetterRow.letter)
        with self._read() as connection:
            found = connection.execute(select(*columns(DeadLetterRow)).order_by(*order).limit(limit)).mappings().all()
        return tuple(DeadLetter(user=row["user_id"], **without(row, "user_id", "received_at")) for row in found)

    def count_dead_letters(self) -> int:
        """How many reports wait there."""
        with self._read() as connection:
            return int(connection.execute(select(func.count()).select_from(DeadLetterRow)).scalar_one())

    def drop_dead_letter(self, letter: str) -> None:
        """Give one up. ``InputError`` if there is none of that name."""
        with self._write() as connection:
            if not connection.execute(delete(DeadLetterRow).where(DeadLetterRow.letter == letter)).rowcount:
                raise InputError(
                    f"there is no dead letter {letter[:80]!r}",
                    where=self.url,
                    fix="list them with `rolegen feedback dead-letters`",
                )

    def record_attributions(
        self, parts: Mapping[str, Sequence[Attribution]], *, of: Mapping[str, Outcome] | None = None
    ) -> set[str]:
        """Replace the credit of each named decision, in one transaction; a decision may have none.

        ``of``: the outcomes that it rests on. Where another one is known by now it is not written, for it would stay: what is
        missing is computed again, what is there is not. Returns the decisions that were written.
        """
        with self._write() as connection:
            self._known(connection, parts, lock=True)
            held = {} if of is None else _outcomes(connection, OutcomeRow.decision.in_, sorted(of))
            written = {key for key in parts if of is None or (key in of and held.get(key) == of[key])}
            for chunk in chunks(sorted(written)):
                connection.execute(delete(AttributionRow).where(AttributionRow.decision.in_(chunk)))
            values = [{"seq": seq, **rows.fields_of(part)} for key in written for seq, part in enumerate(parts[key])]
            if values:
                connection.execute(self._insert(AttributionRow), values)
        return written

    def attributions(self, *, run: str | None = None, decision: str | None = None) -> tuple[Attribution, ...]:
        """The credit of steps, by decision; of one run or one decision, or all."""
        query = select(*columns(AttributionRow)).order_by(AttributionRow.decision, AttributionRow.seq)
        if run is not None:
            own = select(DecisionRow.decision).where(DecisionRow.run == run)
            query = query.where(AttributionRow.decision.in_(own))
        if decision is not None:
            query = query.where(AttributionRow.decision == decision)
        with self._read() as connection:
            return tuple(rows.to_word(Attribution, row) for row in connection.execute(query).mappings())

    def ordered_spans(self, *, run: str | None = None) -> tuple[Span, ...]:
        """Decisions with a net order, in the order of their times."""
        query = (
            _SPANS.join(OutcomeRow, OutcomeRow.decision == DecisionRow.decision)
            .where(OutcomeRow.ordered_at.is_not(None))
            .order_by(DecisionRow.at, DecisionRow.decision)
        )
        if run is not None:
            query = query.where(DecisionRow.run == run)
        with self._read() as connection:
            found = connection.execute(query).mappings().all()
        return tuple(Span(user=row["user_id"], **without(row, "user_id")) for row in found)

    def record_lesson(self, lesson: Lesson) -> None:
        """Store one version of a lesson, idempotent on (lesson, learnt_at).

        New evidence or a retirement (``expires_at``) is a new version with its own ``learnt_at``: an earlier decision
        must keep seeing the earlier one.
        """
        with self._write() as connection:
            self._upsert(connection, LessonRow, [rows.fields_of(lesson)])

    def lessons_for(self, user: str, cohort: str, at: datetime) -> tuple[Lesson, ...]:
        """Of each lesson in scope, the latest version learnt strictly before ``at``, if it is in force and has not expired by
        ``at``."""
        with self._read_once() as connection:
            found = connection.execute(_IN_FORCE, {"user": user, "cohort": cohort, "seen_at": at})
            return tuple(rows.to_word(Lesson, row) for row in found.mappings())


def _in_force() -> Any:
    """Lessons of a user and a cohort at a time, built once: every decision asks."""
    newest = func.row_number().over(partition_by=LessonRow.lesson, order_by=LessonRow.learnt_at.desc())
    at = bindparam("seen_at", type_=LessonRow.learnt_at.type)
    ranked = select(*columns(LessonRow), newest.label("age")).where(LessonRow.learnt_at < at).subquery("ranked")
    in_scope = or_(
        ranked.c.scope == "all",
        and_(ranked.c.scope == "cohort", ranked.c.scope_key == bindparam("cohort")),
        and_(ranked.c.scope == "user", ranked.c.scope_key == bindparam("user")),
    )
    alive = or_(ranked.c.expires_at.is_(None), ranked.c.expires_at > at)
    found = select(ranked).where(ranked.c.age == 1, ranked.c.status == "active", in_scope, alive)
    return found.order_by(ranked.c.learnt_at, ranked.c.lesson)


_IN_FORCE = _in_force()
_SPANS = select(DecisionRow.decision, DecisionRow.run, DecisionRow.user_id, DecisionRow.at, DecisionRow.horizon_end)


def _outcomes(
    connection: Connection, condition: Callable[[Sequence[str]], ColumnElement[bool]], names: Sequence[str]
) -> dict[str, Outcome]:
    query = select(*columns(OutcomeRow)).join(DecisionRow, DecisionRow.decision == OutcomeRow.decision)
    return {
        row["decision"]: Outcome(user=row["user_id"], **without(row, "user_id", "recorded_at"))
        for chunk in chunks(names)
        for row in connection.execute(query.where(condition(chunk))).mappings()
    }


def _check_outcome(outcome: Outcome, decision: Any) -> None:
    where = f"outcome of decision {outcome.decision}"
    if outcome.user != decision.user_id:
        raise InputError(
            f"the outcome is of user {outcome.user!r}, the decision of {decision.user_id!r}",
            where=where,
            fix="report an outcome under the user of its decision",
        )
    for name, time in (
        ("the order", outcome.ordered_at),
        ("the refund", outcome.refunded_at),
        ("the report", outcome.known_at),
    ):
        if time is not None and time.tzinfo is None:
            raise InputError(f"the time of {name} has no time zone", where=where, fix="pass an aware datetime")
    if outcome.ordered_at is None:
        return
    if not decision.at <= outcome.ordered_at < decision.horizon_end:
        raise InputError(
            f"the order at {outcome.ordered_at.isoformat()} lies outside the horizon from {decision.at.isoformat()} to"
            f" {decision.horizon_end.isoformat()}",
            where=where,
            fix="report orders within the horizon only, or record the decision with the right horizon_days",
        )
