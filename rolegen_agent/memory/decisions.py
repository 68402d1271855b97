"""Decisions: recorded whole, rebuilt exactly, listed, and what earlier ones may tell a later one."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, or_, select, update
from sqlalchemy.sql import ColumnElement

from rolegen_errors import FutureError, InputError
from rolegen_graphs.keys import decision_id
from rolegen_graphs.words import Decision, Fate, PastDecision, Role

from ..telemetry import current_trace_id
from . import rows
from .digests import refresh, tallied
from .models import (
    Base,
    BegunRow,
    CandidateRow,
    DecisionRow,
    LessonEvidenceRow,
    LessonUseRow,
    OutcomeRow,
    RoleLabelRow,
    RoundRow,
    SlateItemRow,
    SlateRow,
)
from .records import DecisionSummary, RunSummary
from .rows import Values
from .store import Store, below, chunks, columns, now, slate_item_ids, slates_of, without

# Statements of the hot path are built once: that takes longer than to run them.
_RECORDED = select(DecisionRow.decision).where(DecisionRow.decision.in_(bindparam("keys", expanding=True)))


_PAST = (
    select(
        DecisionRow.decision,
        DecisionRow.at,
        DecisionRow.horizon_end,
        OutcomeRow.ordered_at,
        OutcomeRow.final,
        OutcomeRow.refunded_at,
    )
    .outerjoin(OutcomeRow, OutcomeRow.decision == DecisionRow.decision)
    .where(DecisionRow.user_id == bindparam("user"), DecisionRow.at < bindparam("before"))
    .order_by(DecisionRow.at, DecisionRow.decision)
)
_PAST_OF_RUN = _PAST.where(DecisionRow.run == bindparam("run"))
_BEGUN_NO_MORE = delete(BegunRow).where(BegunRow.decision == bindparam("key"))


class DecisionStore(Store):
    """The part of the memory that holds decisions."""

    def begin(self, run: str, user: str, at: datetime) -> str:
        """Note that a decision starts, and return its id. Calls that a killed decision made are then still known by run
        and user, for :meth:`usage`, :meth:`calls` and :meth:`erase`."""
        key = decision_id(run, user, at)
        values = {"decision": key, "run": run, "user_id": user, "at": at, "begun_at": now()}
        with self._write_once() as connection:
            self._upsert(connection, BegunRow, [values], keep=("begun_at",))
        return key

    def record(self, decision: Decision) -> None:
        """Store a finished decision with everything in it, in one transaction.

        Recording it again replaces rounds and slates, so that the result equals recording it once; outcomes and slates
        of other policies stay. Raises ``FutureError`` if it saw an event, lesson or decision at or after its time, and
        ``InputError`` if its (run, user, at) is already stored under another id. The OpenTelemetry trace that is being
        recorded here, if any, is kept beside it (:meth:`trace_of`).
        """
        rows.check(decision)
        values = rows.decision_values(decision, self.horizon_days, now()) | {"trace_id": current_trace_id()}
        own = [(decision.decision, "rolegen", decision.slate)]
        own.append((decision.decision, "backbone", decision.slate_without_reasoning))
        heads, items = rows.slate_values(own)
        tables: list[tuple[type[Base], list[Values]]] = [
            (RoundRow, rows.round_values(decision)),
            *rows.part_values(decision),
            (LessonUseRow, rows.lesson_use_values(decision)),
            (SlateRow, heads),
            (SlateItemRow, items),
        ]
        key = decision.decision
        with self._write() as connection:
            new = self._rows(connection, self._insert(DecisionRow).on_conflict_do_nothing(), values) == 1
            if not new:
                self._take_again(connection, decision, values)
            with tallied(connection, [key], new=new):
                if not new:
                    _clear_for_rerecording(connection, key)
                for row, many in tables:
                    if many:
                        connection.execute(self._insert(row), many)
                if decision.observation.lessons:
                    _refuse_own_outcome(connection, decision)
                connection.execute(_BEGUN_NO_MORE, {"key": key})
                refresh(connection, [key])

    def _take_again(self, connection: Connection, decision: Decision, values: Values) -> None:
        changed = {name: values[name] for name in ("reasoner", "observation", "worth", "horizon_end")}
        if values["trace_id"] is not None:  # without one, the trace of the time before still tells most
            changed["trace_id"] = values["trace_id"]
        same = and_(*(getattr(DecisionRow, name) == values[name] for name in ("decision", "run", "user_id", "at")))
        # The update also locks the row, so that two processes that record one decision take turns.
        if not connection.execute(update(DecisionRow).where(same).values(changed)).rowcount:
            raise InputError(
                f"run {decision.run!r}, user {decision.user!r}, at {decision.at.isoformat()} and id"
                f" {decision.decision!r} do not belong together: one of them is stored with another partner",
                where=self.url,
                fix="make ids with rolegen_agent.memory.decision_id(run, user, at)",
            )

    def get(self, decision: str) -> Decision:
        """The decision as it was recorded, equal in every field (times come back in UTC). ``InputError`` if unknown."""
        with self._read() as connection:
            head = connection.execute(select(*columns(DecisionRow)).where(DecisionRow.decision == decision)).mappings()
            found = head.one_or_none()
            if found is None:
                raise InputError(
                    f"memory has no decision {decision!r}", where=self.url, fix="list them with Memory.decisions()"
                )
            parts: dict[int, dict[str, list[Any]]] = {}
            rounds = [dict(row) for row in below(connection, RoundRow, decision, RoundRow.round)]
            for each in rounds:
                parts[each["round"]] = {part.name: [] for part in rows.PARTS}
            for part in rows.PARTS:
                row: Any = part.row
                for values in below(connection, row, decision, row.round, row.seq):
                    parts[values["round"]][part.name].append(rows.to_word(part.word, values))
            slates = slates_of(connection, decision)
        return Decision(
            decision=found["decision"],
            run=found["run"],
            user=found["user_id"],
            at=found["at"],
            observation=found["observation"],
            rounds=tuple(rows.to_round(each, parts[each["round"]]) for each in rounds),
            slate=slates["rolegen"],
            slate_without_reasoning=slates["backbone"],
            reasoner=found["reasoner"],
            worth=found["worth"],
        )

    def trace_of(self, decision: str) -> str | None:
        """The OpenTelemetry trace in which a decision was made, as 32 hexadecimal digits; None where nothing was traced."""
        with self._read() as connection:
            return connection.execute(select(DecisionRow.trace_id).where(DecisionRow.decision == decision)).scalar()

    def finished(self, run: str) -> set[tuple[str, datetime]]:
        """(user, decision time in UTC) of every recorded decision of ``run``: what a resumed batch may skip."""
        with self._read() as connection:
            found = connection.execute(select(DecisionRow.user_id, DecisionRow.at).where(DecisionRow.run == run))
            return {(user, at) for user, at in found}

    def recorded(self, decisions: Collection[str]) -> set[str]:
        """Those of ``decisions``, by id, that are recorded."""
        found: set[str] = set()
        with self._read_once() as connection:  # what one part tells does not hang on another's
            for chunk in chunks(sorted(decisions)):
                found.update(connection.execute(_RECORDED, {"keys": chunk}).scalars())
        return found

    def decisions(
        self,
        *,
        run: str | None = None,
        user: str | None = None,
        item: str | None = None,
        role: Role | None = None,
        fate: Fate | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[DecisionSummary, ...]:
        """A page of decisions, latest first. ``item``: shown in its slate or grounded as a candidate; ``role``: given to
        one of its events; ``fate``: of one of its candidates."""
        query = select(*columns(DecisionRow, without=("observation", "worth")))
        if run is not None:
            query = query.where(DecisionRow.run == run)
        if user is not None:
            query = query.where(DecisionRow.user_id == user)
        if item is not None:
            shown_item = _has(SlateItemRow, SlateItemRow.item == item, SlateItemRow.policy == "rolegen")
            query = query.where(or_(shown_item, _has(CandidateRow, CandidateRow.item == item)))
        if role is not None:
            query = query.where(_has(RoleLabelRow, RoleLabelRow.role == role))
        if fate is not None:
            query = query.where(_has(CandidateRow, CandidateRow.fate == fate))
        query = query.order_by(DecisionRow.at.desc(), DecisionRow.decision).limit(limit).offset(offset)
        with self._read() as connection:
            found = connection.execute(query).mappings().all()
        return tuple(DecisionSummary(user=row["user_id"], **without(row, "user_id")) for row in found)

    def find_latest(self, user: str, run: str | None = None) -> str | None:
        """Id of the user's decision with the latest decision time (the latest recorded one on a tie), or None."""
        query = select(DecisionRow.decision).where(DecisionRow.user_id == user)
        if run is not None:
            query = query.where(DecisionRow.run == run)
        latest = (DecisionRow.at.desc(), DecisionRow.recorded_at.desc(), DecisionRow.decision)
        with self._read() as connection:
            return connection.execute(query.order_by(*latest).limit(1)).scalar()

    def past_decisions(self, user: str, at: datetime, *, run: str | None = None) -> tuple[PastDecision, ...]:
        """The user's decisions strictly before ``at``, oldest first, with what was known of them before ``at``.

        ``ordered`` is True once the order lies before ``at``, False once the whole horizon [decision, decision +
        horizon) has passed without one, and None until then. ``run`` limits them to one run, so that other
        configurations in the same database do not change what this one sees.
        """
        with self._read() as connection:
            found = connection.execute(
                _PAST if run is None else _PAST_OF_RUN, {"user": user, "before": at, "run": run}
            ).all()
            items = slate_item_ids(connection, [row.decision for row in found], "rolegen")

        def ordered(row: Any) -> bool | None:
            if row.ordered_at is not None:
                return True if row.ordered_at < at else None
            if row.refunded_at is not None and row.refunded_at >= at:
                return None  # the order still stood then, and that it would not is of the future
            return False if row.final and row.horizon_end <= at else None

        return tuple(
            PastDecision(decision=row.decision, at=row.at, items=tuple(items[row.decision]), ordered=ordered(row))
            for row in found
        )

    def runs(self) -> tuple[RunSummary, ...]:
        """One summary for each run, by name."""
        heads = (
            select(
                DecisionRow.run,
                func.count().label("decisions"),
                func.count(DecisionRow.user_id.distinct()).label("users"),
                func.count(OutcomeRow.decision).label("outcomes"),
                func.count(OutcomeRow.ordered_at).label("ordered"),
                func.min(DecisionRow.at).label("first_at"),
                func.max(DecisionRow.at).label("last_at"),
            )
            .outerjoin(OutcomeRow, OutcomeRow.decision == DecisionRow.decision)
            .group_by(DecisionRow.run)
        )
        unfinished = BegunRow.decision.not_in(select(DecisionRow.decision))
        with self._read() as connection:
            found = {row["run"]: dict(row) for row in connection.execute(heads).mappings()}
            begun = select(BegunRow.run, func.count().label("begun")).where(unfinished).group_by(BegunRow.run)
            started = {row.run: row.begun for row in connection.execute(begun)}
        nothing = {"decisions": 0, "users": 0, "outcomes": 0, "ordered": 0, "first_at": None, "last_at": None}
        return tuple(
            RunSummary(begun=started.get(run, 0), **{**nothing, "run": run, **found.get(run, {})})
            for run in sorted({*found, *started})
        )


def _clear_for_rerecording(connection: Connection, key: str) -> None:
    for row in (RoundRow, LessonUseRow):  # what hangs below a round goes with it
        connection.execute(delete(row).where(row.decision == key))
    connection.execute(delete(SlateRow).where(SlateRow.decision == key, SlateRow.policy.in_(rows.OWN_POLICIES)))


def _refuse_own_outcome(connection: Connection, decision: Decision) -> None:
    """No decision may be shown a version of a lesson that its own outcome spoke for."""
    own = (
        select(LessonUseRow.lesson)
        .join(
            LessonEvidenceRow,
            and_(
                LessonEvidenceRow.lesson == LessonUseRow.lesson,
                LessonEvidenceRow.decision == LessonUseRow.decision,
                LessonEvidenceRow.noted_at <= LessonUseRow.learnt_at,
            ),
        )
        .where(LessonUseRow.decision == decision.decision)
        .limit(1)
    )
    found = connection.execute(own).scalar()
    if found is not None:
        raise FutureError(
            f"lesson {found} was learnt from the outcome of the very decision that it was shown to",
            where=f"decision {decision.decision}",
            fix="show a decision only lessons learnt strictly before it",
        )


def _has(row: Any, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return select(row.decision).where(row.decision == DecisionRow.decision, *conditions).exists()
