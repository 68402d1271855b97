"""Runs all checks: over the tables in queries, and over one decision after the other, so that memory stays small."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import func, select

from rolegen_errors import RoleGenError

from ..decisions import DecisionStore
from ..models import DecisionRow, LessonUseRow
from .registry import DECISION_CHECKS, TABLE_CHECKS, Difference, Recorded

_CHUNK = 500


@dataclass
class Verification:
    """What was looked at so far; complete once the differences are all read."""

    decisions: int = 0
    differences: int = 0


class VerificationStore(DecisionStore):
    """The part of the memory that looks after itself."""

    def verify(
        self,
        *,
        known_items: Collection[str] | None = None,
        progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
        tally: Verification | None = None,
    ) -> Iterator[Difference]:
        """Every difference between what is stored and what follows from the rest, as it is found.

        Other programs may write meanwhile: each decision, and each check of tables, is read in one state of the database.

        Args:
            known_items: ids of the catalogue; without them items are not looked up.
            progress: called with stage ("tables" or "decisions"), done and total.
            tally: is counted up.
        """
        counted = tally if tally is not None else Verification()
        for difference in self._differences(known_items, progress, counted):
            counted.differences += 1
            yield difference

    def _differences(
        self, known: Collection[str] | None, progress: Callable[[str, int, int], None], counted: Verification
    ) -> Iterator[Difference]:
        for done, (name, check) in enumerate(TABLE_CHECKS.items()):
            progress("tables", done, len(TABLE_CHECKS))
            with self._read() as connection:
                for finding in check(connection):
                    yield Difference(name, *finding)
        progress("tables", len(TABLE_CHECKS), len(TABLE_CHECKS))
        with self._read() as connection:
            total = connection.execute(select(func.count()).select_from(DecisionRow)).scalar_one()
        for decision in self._decision_ids():
            yield from self._of_decision(decision, known)
            counted.decisions += 1
            progress("decisions", counted.decisions, max(total, counted.decisions))

    def _decision_ids(self) -> Iterator[str]:
        """All of them in the order of their keys, a few hundred at a time."""
        last = ""
        while True:
            query = select(DecisionRow.decision).where(DecisionRow.decision > last).order_by(DecisionRow.decision)
            with self._read() as connection:
                found = connection.execute(query.limit(_CHUNK)).scalars().all()
            yield from found
            if len(found) < _CHUNK:
                return
            last = found[-1]

    def _of_decision(self, key: str, known: Collection[str] | None) -> Iterator[Difference]:
        try:
            decision = self.get(key)
        except (RoleGenError, ValueError, KeyError, TypeError) as error:
            with self._read() as connection:
                there = connection.execute(select(DecisionRow.decision).where(DecisionRow.decision == key)).scalar()
            if there is not None:  # else it was removed meanwhile
                told = error.what if isinstance(error, RoleGenError) else f"{type(error).__name__}: {error}"
                yield Difference("words", "decisions", key, f"it cannot be rebuilt: {told.splitlines()[0]}")
            return
        uses = select(LessonUseRow.lesson, LessonUseRow.learnt_at).where(LessonUseRow.decision == key)
        with self._read() as connection:
            used = connection.execute(uses.order_by(LessonUseRow.seq)).all()
        recorded = Recorded(decision, tuple((lesson, at.isoformat()) for lesson, at in used), known)
        for name, check in DECISION_CHECKS.items():
            for finding in check(recorded):
                yield Difference(name, *finding)
