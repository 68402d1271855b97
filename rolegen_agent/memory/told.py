"""What a running server reads and writes: events that it was told, and the decisions that stand at a moment.

Told events run ahead of the log. The log, once it is ingested, is what counts; what was told serves until then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, select, union_all
from sqlalchemy.sql import ColumnElement

from . import rows
from .columns import UtcTime
from .improvement import ImprovementStore
from .models import (
    CandidateRow,
    DecisionRow,
    DigestRow,
    PathChoiceRow,
    PathRow,
    RemovalRow,
    RoleLabelRow,
    RoundRow,
    SlateItemRow,
    SlateRow,
    ToldEventRow,
)
from .records import Standing, StandingCandidate, StandingLabel, ToldEvent
from .store import chunks, columns, now


def told_key(
    user: str, at: datetime, item: str, behaviour: str, *, session: str | None = None, event_id: str | None = None
) -> str:
    """What makes two told events the same: the shop's own id of the event, or all that it says of it but the amounts."""
    when = at.astimezone(UTC).isoformat()
    named = ["id", user, event_id] if event_id is not None else ["", user, when, item, behaviour, session]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]


class ToldStore(ImprovementStore):
    """The part of the memory that servers share."""

    def record_told(self, events: Sequence[ToldEvent]) -> int:
        """Keep what a shop told, in one transaction; returns how many of them were not known yet.

        The first telling of an event counts: a second one changes nothing.
        """
        if not events:
            return 0
        received = now()
        values = [
            {**{name: value for name, value in rows.fields_of(one).items() if name != "user"}, "user_id": one.user}
            | {"received_at": received}
            for one in sorted(events, key=lambda one: one.told)  # in key order: two writers never wait in a circle
        ]
        statement = self._insert(ToldEventRow).on_conflict_do_nothing(index_elements=["told"])
        with self._write() as connection:
            return sum(self._rows(connection, statement, one) for one in values)

    def told_events(
        self, users: Iterable[str], after: datetime, *, limit: int
    ) -> dict[str, tuple[tuple[ToldEvent, ...], datetime]]:
        """For each user of whom anything later than ``after`` was told: the latest ``limit`` events in order of time, and when
        the last of them came in."""
        found: dict[str, list[Any]] = {}
        with self._read() as connection:
            for chunk in chunks(list(dict.fromkeys(users))):
                given = {"users": chunk, "after": after, "most": limit}
                for row in connection.execute(_TOLD, given).mappings():
                    found.setdefault(row["user_id"], []).append(row)
        return {
            user: (tuple(_to_told(row) for row in some), max(row["received_at"] for row in some))
            for user, some in found.items()
        }

    def heard_of(self, user: str) -> bool:
        """Whether there is a decision on the user, or something was told: most strangers cost no more than this question."""
        with self._read() as connection:
            return connection.execute(_HEARD_OF, {"user": user}).first() is not None

    def told_since(self, received: datetime) -> dict[str, datetime]:
        """Users of whom something was told at or after ``received``, each with the latest time at which it came in."""
        query = (
            select(ToldEventRow.user_id, func.max(ToldEventRow.received_at).label("latest"))
            .where(ToldEventRow.received_at >= received)
            .group_by(ToldEventRow.user_id)
        )
        with self._read() as connection:
            return {row.user_id: row.latest for row in connection.execute(query)}

    def decided_since(self, recorded: datetime) -> dict[str, str]:
        """Decisions recorded at or after ``recorded``, each with its user."""
        query = select(DigestRow.decision, DigestRow.user_id).where(DigestRow.recorded_at >= recorded)
        with self._read() as connection:
            return {row.decision: row.user_id for row in connection.execute(query)}

    def latest_removal(self) -> datetime | None:
        """When something was erased or pruned last."""
        with self._read() as connection:
            return connection.execute(select(func.max(RemovalRow.removed_at))).scalar()

    def standing_users(self, at: datetime, *, run: str | None = None, limit: int) -> list[str]:
        """Users who have a decision that stands at ``at``, those of the latest decisions first."""
        query = (
            select(DecisionRow.user_id)
            .where(DecisionRow.at <= at, DecisionRow.horizon_end > at)
            .group_by(DecisionRow.user_id)
            .order_by(func.max(DecisionRow.at).desc(), DecisionRow.user_id)
            .limit(limit)
        )
        if run is not None:
            query = query.where(DecisionRow.run == run)
        with self._read() as connection:
            return list(connection.execute(query).scalars())

    def standing(
        self, users: Iterable[str], at: datetime, *, run: str | None = None
    ) -> tuple[dict[str, Standing], dict[str, datetime]]:
        """For each user the decision that stands at ``at``, where there is one, and the time of the next, where one is made
        already.

        A decision stands from its time on to the end of its horizon, or until the user's next one; of several at one time the
        one recorded last. No later decision is read.

        Args:
            run: look at the decisions of one run only.
        """
        heads: dict[str, Any] = {}
        following: dict[str, datetime] = {}
        latest, later = _STANDING[run is not None]
        with self._read() as connection:
            for chunk in chunks(list(dict.fromkeys(users))):
                given = {"users": chunk, "at": at} | ({} if run is None else {"run": run})
                heads |= {row["user_id"]: row for row in connection.execute(latest, given).mappings()}
                following |= {row.user_id: row.next for row in connection.execute(later, given)}
            parts = _Parts()
            for chunk in chunks([head["decision"] for head in heads.values()]):
                parts.read(connection, chunk)
        found = {
            user: Standing(
                decision=head["decision"],
                run=head["run"],
                user=user,
                at=head["at"],
                horizon_end=head["horizon_end"],
                reasoner=head["reasoner"],
                slate=parts.slates[head["decision"]],
                candidates=parts.candidates(head["decision"]),
                labels=tuple(StandingLabel(*one) for one in parts.labels.get(head["decision"], ())),
            )
            for user, head in heads.items()
            if head["decision"] in parts.slates
        }
        return found, following


def _standing(*mine: ColumnElement[bool]) -> tuple[Any, Any]:
    """Statements for the decisions that stand, and for the times of the next ones."""
    users = DecisionRow.user_id.in_(bindparam("users", expanding=True))
    at = bindparam("at", type_=UtcTime())
    latest = (
        select(DecisionRow.user_id, func.max(DecisionRow.at).label("at"))
        .where(users, DecisionRow.at <= at, DecisionRow.horizon_end > at, *mine)
        .group_by(DecisionRow.user_id)
        .subquery()
    )
    heads = (
        select(*columns(DecisionRow, without=("observation", "worth", "trace_id")))
        .join(latest, and_(latest.c.user_id == DecisionRow.user_id, latest.c.at == DecisionRow.at))
        .where(*mine)
        .order_by(DecisionRow.recorded_at, DecisionRow.decision.desc())
    )
    later = (
        select(DecisionRow.user_id, func.min(DecisionRow.at).label("next"))
        .where(users, DecisionRow.at > at, *mine)
        .group_by(DecisionRow.user_id)
    )
    return heads, later


def _of_last_round(row: Any, *wanted: Any) -> Any:
    keys = RoundRow.decision.in_(bindparam("keys", expanding=True))
    last = (
        select(RoundRow.decision, func.max(RoundRow.round).label("round"))
        .where(keys)
        .group_by(RoundRow.decision)
        .subquery()
    )
    query = select(row.decision, *wanted).join(last, and_(last.c.decision == row.decision, last.c.round == row.round))
    return query.order_by(row.decision, row.seq)


def _latest_told() -> Any:
    place = func.row_number().over(
        partition_by=ToldEventRow.user_id, order_by=(ToldEventRow.at.desc(), ToldEventRow.told.desc())
    )
    numbered = (
        select(*columns(ToldEventRow), place.label("place"))
        .where(
            ToldEventRow.user_id.in_(bindparam("users", expanding=True)),
            ToldEventRow.at > bindparam("after", type_=UtcTime()),
        )
        .subquery()
    )
    return select(numbered).where(numbered.c.place <= bindparam("most")).order_by(numbered.c.place.desc())


# Statements of the hot path are built once: that takes longer than to run them.
_STANDING = {False: _standing(), True: _standing(DecisionRow.run == bindparam("run"))}
_TOLD = _latest_told()
_HEARD_OF = union_all(
    select(DecisionRow.user_id).where(DecisionRow.user_id == bindparam("user")),
    select(ToldEventRow.user_id).where(ToldEventRow.user_id == bindparam("user")),
).limit(1)
_CANDIDATES = _of_last_round(CandidateRow, CandidateRow.item, CandidateRow.role, CandidateRow.path, CandidateRow.score)
_LABELS = _of_last_round(RoleLabelRow, RoleLabelRow.event, RoleLabelRow.role, RoleLabelRow.confidence)
_CHOICES = _of_last_round(PathChoiceRow, PathChoiceRow.path, PathChoiceRow.chosen)
_WHYS = _of_last_round(PathRow, PathRow.path, PathRow.why)
_SLATES = select(*columns(SlateRow)).where(
    SlateRow.decision.in_(bindparam("keys", expanding=True)), SlateRow.policy == "rolegen"
)
_ITEMS = (
    select(*columns(SlateItemRow))
    .where(SlateItemRow.decision.in_(bindparam("keys", expanding=True)), SlateItemRow.policy == "rolegen")
    .order_by(SlateItemRow.decision, SlateItemRow.seq)
)


class _Parts:
    """What hangs below some decisions, by decision."""

    def __init__(self) -> None:
        self.grounded: dict[str, list[Any]] = {}
        self.labels: dict[str, list[Any]] = {}
        self.choices: dict[str, dict[int, bool]] = {}
        self.why: dict[tuple[str, int], str] = {}
        self.slates: dict[str, Any] = {}

    def read(self, connection: Connection, keys: Sequence[str]) -> None:
        """Add what hangs below some more decisions, of their last rounds."""
        given = {"keys": keys}
        for decision, *one in connection.execute(_CANDIDATES, given):
            self.grounded.setdefault(decision, []).append(one)
        for decision, *one in connection.execute(_LABELS, given):
            self.labels.setdefault(decision, []).append(one)
        for decision, path, chosen in connection.execute(_CHOICES, given):
            self.choices.setdefault(decision, {})[path] = chosen
        for decision, path, why in connection.execute(_WHYS, given):
            self.why[decision, path] = why
        items: dict[str, list[Any]] = {}
        for row in connection.execute(_ITEMS, given).mappings():
            items.setdefault(row["decision"], []).append(row)
        for row in connection.execute(_SLATES, given).mappings():
            self.slates[row["decision"]] = rows.to_slate(row, items.get(row["decision"], ()))

    def candidates(self, decision: str) -> tuple[StandingCandidate, ...]:
        """Those that the slate was made with; decisions from before paths were selected used all of them."""
        made = self.choices.get(decision)
        return tuple(
            StandingCandidate(item, role, path, score, self.why.get((decision, path), ""))
            for item, role, path, score in self.grounded.get(decision, ())
            if item is not None and (made is None or made.get(path, False))
        )


def _to_told(row: Any) -> ToldEvent:
    return ToldEvent(user=row["user_id"], **{name: row[name] for name in ToldEvent.model_fields if name != "user"})
