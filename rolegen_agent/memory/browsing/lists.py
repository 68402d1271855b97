"""Lists of decisions and sums over them, whose cost does not grow with the number of decisions.

A list is read in the order of an index, from where the page before it ended (keyset paging). Filters that no index serves are
tried on the :data:`LOOKED_AT` next decisions of that order at most; a page that found too few by then says so, and goes on
from there. Sums come from the rows that are kept by day.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import Text, and_, func, literal, or_, select, true, tuple_
from sqlalchemy.orm import aliased
from sqlalchemy.sql import ColumnElement

from rolegen_errors import InputError
from rolegen_graphs.words import Lesson

from .. import rows
from ..digests import SPENT
from ..models import (
    BegunRow,
    DecisionDayRow,
    DecisionRow,
    DigestRow,
    LessonEvidenceRow,
    LessonRow,
    LessonUseRow,
    PromptDayRow,
    PromptRow,
)
from ..records import PromptText
from ..store import Store, columns
from .records import Digest, DigestPage, Figures, Filters, LessonEvidence, Pair, PromptUse

Sort = Literal["recorded", "time", "cost", "seconds"]
SORTS: tuple[Sort, ...] = get_args(Sort)
LOOKED_AT = 8_000
"""decisions that one page looks at where no index finds the wanted ones"""
_BY: dict[Sort, Any] = {
    "recorded": DigestRow.recorded_at,
    "time": DigestRow.at,
    "cost": DigestRow.cost_usd,
    "seconds": DigestRow.seconds,
}
_LINE = [column for column in columns(DigestRow) if column.name != "words"]


class BrowsingStore(Store):
    """The part of the memory that pages read."""

    def browse(
        self, wanted: Filters, *, sort: Sort = "recorded", after: str | None = None, limit: int = 50
    ) -> DigestPage:
        """A page of decisions: the latest, dearest or slowest first.

        Args:
            after: ``next`` of the page before.

        Raises:
            InputError: ``after`` is none.
        """
        by = _BY[sort]
        indexed = _indexed(wanted, sort)
        if after is not None:
            value, key = _read_cursor(after, by)
            indexed.append(tuple_(by, DigestRow.decision) < tuple_(literal(value, by.type), literal(key, Text())))
        order = by.desc(), DigestRow.decision.desc()
        near = select(*columns(DigestRow)).where(*indexed).order_by(*order)
        rest = _Rest(wanted, sort)
        with self._read() as connection:
            if rest.any():
                inner = near.limit(LOOKED_AT).subquery("near")
                query = select(inner).where(*rest.conditions(inner.c)).limit(limit + 1)
                query = query.order_by(inner.c[by.key].desc(), inner.c.decision.desc())
            else:
                query = near.limit(limit + 1)
            found = connection.execute(query).mappings().all()
            if len(found) > limit:
                last = found[limit - 1]
                return DigestPage(lines=_lines(found[:limit]), next=_cursor(last[by.key], last["decision"]))
            edge = None
            if rest.any():
                further = select(by, DigestRow.decision).where(*indexed).order_by(*order).offset(LOOKED_AT - 1).limit(2)
                edges = connection.execute(further).all()
                edge = edges[0] if len(edges) == 2 else None
        end = None if edge is None else _cursor(*edge)
        return DigestPage(lines=_lines(found), next=end, looked_at=None if edge is None else LOOKED_AT)

    def digest(self, decision: str) -> Digest | None:
        """The digest of one decision, or None."""
        with self._read() as connection:
            query = select(*_LINE).where(DigestRow.decision == decision)
            found = connection.execute(query).mappings().one_or_none()
        return None if found is None else _lines([found])[0]

    def knows_user(self, user: str) -> bool:
        """Whether there is a decision on a user."""
        with self._read() as connection:
            query = select(DigestRow.decision).where(DigestRow.user_id == user).limit(1)
            return connection.execute(query).first() is not None

    def figures(self, wanted: Filters) -> tuple[Figures, ...]:
        """Sums by day of decision times and reasoner, in order of time. Only run, cohort, reasoner and times are heeded."""
        days = DecisionDayRow
        names = ("decisions", "known", "awakened", "collapsed", "value", *SPENT)
        query = select(days.day, days.reasoner, *_sums(days, names)).group_by(days.day, days.reasoner)
        for name in ("run", "cohort", "reasoner"):
            if (value := getattr(wanted, name)) is not None:
                query = query.where(getattr(days, name) == value)
        if wanted.since is not None:
            query = query.where(days.day >= wanted.since.replace(hour=0, minute=0, second=0, microsecond=0))
        if wanted.until is not None:
            query = query.where(days.day < wanted.until)
        with self._read() as connection:
            found = connection.execute(query.order_by(days.day, days.reasoner)).mappings()
            return tuple(rows.to_word(Figures, row) for row in found)

    def run_sizes(self) -> dict[str, int]:
        """How many decisions each run has, the run with the latest decision time first."""
        days = DecisionDayRow
        query = (
            select(days.run, func.sum(days.decisions)).group_by(days.run).order_by(func.max(days.day).desc(), days.run)
        )
        with self._read() as connection:
            return {run: int(count) for run, count in connection.execute(query)}

    def choices(self) -> dict[str, list[str]]:
        """What there is to filter by: runs, cohorts, reasoners and prompts, each with the most frequent first."""
        days = DecisionDayRow
        found: dict[str, list[str]] = {}
        with self._read() as connection:
            for name in ("run", "cohort", "reasoner"):
                column = getattr(days, name)
                query = select(column).group_by(column).order_by(func.sum(days.decisions).desc(), column).limit(200)
                found[name] = [value for value in connection.execute(query).scalars() if value]
            asked = select(PromptDayRow.prompt, PromptDayRow.prompt_version).distinct()
            found["prompt"] = sorted(f"{name}@{version}" for name, version in connection.execute(asked))
        return found

    def version(self) -> str:
        """Changes when a decision, a call of one or an outcome is added; for pages that keep up with a batch."""
        days = DecisionDayRow
        counted = _sums(days, ("decisions", "known", "awakened", "calls"))
        with self._read() as connection:
            sums = connection.execute(select(*counted)).one()
            begun = connection.execute(select(func.count()).select_from(BegunRow)).scalar_one()
        return "-".join(str(int(value or 0)) for value in (*sums, begun))

    def under_way(self) -> int:
        """Decisions that were begun and are not recorded: under way, or left by a kill."""
        recorded = select(DecisionRow.decision).where(DecisionRow.decision == BegunRow.decision).exists()
        query = select(func.count()).select_from(BegunRow).where(~recorded, BegunRow.user_id != "")
        with self._read() as connection:
            return int(connection.execute(query).scalar_one())

    def pairs(self, first: str, second: str, *, limit: int = 50) -> tuple[Pair, ...]:
        """Decisions that two runs made on the same users at the same times, the latest of the first run first."""
        one, other = aliased(DigestRow), aliased(DigestRow)
        query = (
            select(one.decision, other.decision)
            .join(other, and_(other.user_id == one.user_id, other.at == one.at, other.run == second))
            .where(one.run == first)
            .order_by(one.recorded_at.desc(), one.decision.desc())
            .limit(limit)
        )
        with self._read() as connection:
            keys = [tuple(row) for row in connection.execute(query)]
            wanted = {key for pair in keys for key in pair}
            found = connection.execute(select(*_LINE).where(DigestRow.decision.in_(wanted))).mappings()
            lines = {line.decision: line for line in _lines(found.all())}
        return tuple(Pair(first=lines[a], second=lines[b]) for a, b in keys if a in lines and b in lines)

    def prompt_uses(self, name: str | None = None) -> tuple[PromptUse, ...]:
        """Every prompt that recorded decisions asked with, by name, the latest used first."""
        use = PromptDayRow
        key = (use.prompt, use.prompt_version, use.prompt_hash)
        query = select(
            *key,
            *_sums(use, ("decisions", "known", "awakened", *SPENT)),
            func.min(use.day).label("first_day"),
            func.max(use.day).label("last_day"),
        ).group_by(*key)
        if name is not None:
            query = query.where(use.prompt == name)
        with self._read() as connection:
            found = connection.execute(query.order_by(use.prompt, func.max(use.day).desc(), *key[1:])).mappings()
            return tuple(rows.to_word(PromptUse, row) for row in found)

    def prompt_texts(self, name: str) -> tuple[PromptText, ...]:
        """All texts that one prompt ever had, the first used first."""
        query = select(*columns(PromptRow)).where(PromptRow.name == name)
        with self._read() as connection:
            found = connection.execute(query.order_by(PromptRow.recorded_at, PromptRow.version)).mappings()
            return tuple(rows.to_word(PromptText, row) for row in found)

    def evidence_from(self, decision: str) -> tuple[LessonEvidence, ...]:
        """Which lessons a decision's outcome spoke for or against; of each the latest note."""
        return self._evidence(LessonEvidenceRow.decision == decision, limit=200)

    def evidence_for(self, lesson: str, *, limit: int = 50) -> tuple[LessonEvidence, ...]:
        """Which decisions' outcomes spoke of a lesson, the latest noted first."""
        return self._evidence(LessonEvidenceRow.lesson == lesson, limit=limit)

    def _evidence(self, about: ColumnElement[bool], *, limit: int) -> tuple[LessonEvidence, ...]:
        noted = LessonEvidenceRow
        version = and_(LessonRow.lesson == noted.lesson, LessonRow.learnt_at == noted.noted_at)
        query = (
            select(*columns(LessonRow), noted.decision, noted.noted_at, noted.led, noted.ordered, noted.supports)
            .join(LessonRow, version)
            .where(about)
            .order_by(noted.noted_at.desc(), noted.lesson, noted.decision)
            .limit(limit)
        )
        with self._read() as connection:
            return tuple(
                LessonEvidence(
                    lesson=rows.to_word(Lesson, row),
                    **{name: row[name] for name in ("decision", "noted_at", "led", "ordered", "supports")},
                )
                for row in connection.execute(query).mappings()
            )


def _indexed(wanted: Filters, sort: Sort) -> list[ColumnElement[bool]]:
    """The filters that an index serves: decision times only in their own order, else the whole index would be read for a span."""
    found: list[ColumnElement[bool]] = []
    if wanted.run is not None:
        found.append(DigestRow.run == wanted.run)
    if wanted.user is not None:
        found.append(DigestRow.user_id == wanted.user)
    if sort == "time":
        found += _span(wanted, DigestRow)
    return found


def _span(wanted: Filters, line: Any) -> list[ColumnElement[bool]]:
    since = [] if wanted.since is None else [line.at >= wanted.since]
    return since if wanted.until is None else [*since, line.at < wanted.until]


class _Rest:
    """The filters that are tried on one decision after the other."""

    def __init__(self, wanted: Filters, sort: Sort) -> None:
        self.wanted, self.sort = wanted, sort

    def any(self) -> bool:
        served = {"run", "user", "since", "until"} if self.sort == "time" else {"run", "user"}
        return bool(set(self.wanted.wanted()) - served)

    def conditions(self, line: Any) -> list[ColumnElement[bool]]:
        wanted = self.wanted
        found: list[ColumnElement[bool]] = [
            getattr(line, name) == value
            for name in ("cohort", "reasoner", "outcome", "collapsed")
            if (value := getattr(wanted, name)) is not None
        ]
        if self.sort != "time":
            found += _span(wanted, line)
        if wanted.role is not None:
            found.append(line.roles.contains(f" {wanted.role} ", autoescape=True))
        if wanted.prompt is not None:
            found.append(line.prompts.contains(f" {wanted.prompt} ", autoescape=True))
        if wanted.lesson is not None:
            shown = select(LessonUseRow.decision).where(
                LessonUseRow.decision == line.decision, LessonUseRow.lesson == wanted.lesson
            )
            found.append(shown.exists())
        if wanted.text:
            said = line.words.contains(wanted.text.lower(), autoescape=True)
            found.append(or_(said, line.decision.startswith(wanted.text, autoescape=True)))
        return found or [true()]


def _sums(table: Any, names: Sequence[str]) -> list[Any]:
    """Sums by name, 0 where there is nothing."""
    return [func.coalesce(func.sum(getattr(table, name)), 0).label(name) for name in names]


def _lines(found: Sequence[Any]) -> tuple[Digest, ...]:
    kept = {column.name for column in _LINE} - {"user_id", "roles", "prompts"}
    return tuple(
        Digest(
            user=row["user_id"],
            roles=tuple(row["roles"].split()),
            prompts=tuple(row["prompts"].split()),
            **{name: row[name] for name in kept},
        )
        for row in found
    )


def _cursor(value: datetime | float, decision: str) -> str:
    return f"{value.isoformat() if isinstance(value, datetime) else repr(value)}~{decision}"


def _read_cursor(text: str, by: Any) -> tuple[datetime | float, str]:
    head, mark, key = text.partition("~")
    try:
        if by.key in ("recorded_at", "at"):
            found = datetime.fromisoformat(head)
            if found.tzinfo is not None and mark:
                return found, key
        elif mark and math.isfinite(number := float(head)):
            return number, key
    except ValueError:
        pass
    raise InputError("the list cannot go on from there: the address was cut", fix="begin with its first page")
