"""What a student learns from: the labels and paths of a teacher's decisions, and who has decided at all."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select

from rolegen_graphs.words import Candidate, Path, RoleLabel

from . import rows
from .improvement import ImprovementStore
from .models import CandidateRow, DecisionRow, PathChoiceRow, PathRow, RoleLabelRow, RoundRow
from .records import Reasoned
from .store import chunks

MIXED = "mixed"


class TeachingStore(ImprovementStore):
    """The part of the memory that students are distilled from."""

    def reasoners(self, before: datetime) -> dict[str, int]:
        """How many decisions from before ``before`` each reasoner answered alone; ``mixed`` those of several."""
        query = (
            select(DecisionRow.reasoner, func.count())
            .where(DecisionRow.at < before)
            .group_by(DecisionRow.reasoner)
            .order_by(DecisionRow.reasoner)
        )
        with self._read() as connection:
            return {name: int(count) for name, count in connection.execute(query)}

    def reasoned(self, before: datetime, reasoner: str, *, most: int) -> list[Reasoned]:
        """The ``most`` latest decisions from before ``before`` in which ``reasoner`` answered anything, by time and decision.

        What it did not answer itself in the last round is None there: a decision in which another one stood in teaches the rest.
        """
        query = (
            select(DecisionRow.decision, DecisionRow.run, DecisionRow.user_id, DecisionRow.at)
            .where(DecisionRow.at < before, DecisionRow.reasoner.in_((reasoner, MIXED)))
            .order_by(DecisionRow.at.desc(), DecisionRow.decision)
            # Of mixed ones some may not be the reasoner's, so there may be fewer in the end.
            .limit(most)
        )
        with self._read() as connection:
            heads = connection.execute(query).all()
            answers: dict[str, tuple[int, dict[str, str]]] = {}
            for chunk in chunks([head.decision for head in heads]):
                closed = (
                    select(RoundRow.decision, RoundRow.round, RoundRow.answers)
                    .where(RoundRow.decision.in_(chunk))
                    .order_by(RoundRow.decision, RoundRow.round)
                )
                for decision, number, given in connection.execute(closed):
                    answers[decision] = (number, {answer.node: answer.reasoner for answer in given})
            last: dict[str, int | None] = {
                decision: number for decision, (number, who) in answers.items() if reasoner in who.values()
            }
            labels = self._of_rounds(connection, RoleLabelRow, last)
            paths = self._of_rounds(connection, PathRow, last)
            candidates = self._of_rounds(connection, CandidateRow, last)
            choices = self._of_rounds(connection, PathChoiceRow, last)
        found = []
        for head in reversed(heads):
            key = head.decision
            if key not in last:
                continue
            who = answers[key][1]
            read, proposed = who.get("reason") == reasoner, who.get("simulate") == reasoner
            found.append(
                Reasoned(
                    decision=key,
                    run=head.run,
                    user=head.user_id,
                    at=head.at,
                    labels=tuple(rows.to_word(RoleLabel, one) for one in labels.get(key, ())) if read else None,
                    paths=tuple(rows.to_word(Path, one) for one in paths.get(key, ())) if proposed else None,
                    candidates=tuple(rows.to_word(Candidate, one) for one in candidates.get(key, ())),
                    chosen=tuple(one["path"] for one in choices.get(key, ()) if one["chosen"]),
                )
            )
        return found
