"""What LLM requests of a run have used so far, as one sum that all threads, programs and restarts share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, TextClause, select, text

from ..llm.budget import Admit
from ..llm.usage import Spending
from .models import SpendingRow
from .store import Store

WHOLE_RUN = ""
"""in the place of a decision"""
REMOVED = "removed"
"""in the place of all decisions of a run that were erased or pruned: what they cost stays part of the run"""
_COUNTED = ("calls", "tokens", "usd")


def _adding(*decisions: str) -> TextClause:
    """The statement for the decisions of these parameters. Written out, since SQLAlchemy builds one of several rows anew each
    time that it runs, which takes longer than to run it."""
    rows = ", ".join(f"(:run, :{decision}, :calls, :tokens, :usd)" for decision in decisions)
    added = ", ".join(f"{name} = llm_spending.{name} + excluded.{name}" for name in _COUNTED)
    return text(
        f"INSERT INTO llm_spending (run, decision, calls, tokens, usd) VALUES {rows}"  # noqa: S608 - of constants alone
        f" ON CONFLICT (run, decision) DO UPDATE SET {added} RETURNING decision, calls, tokens, usd"
    )


_ADD, _ADD_TO_BOTH = _adding("decision"), _adding("decision", "whole")


class SpendingStore(Store):
    """The part of the memory that holds sums of spending."""

    def spend(
        self,
        run: str,
        decision: str,
        more: Spending,
        admit: Admit | None = None,
    ) -> None:
        """Add ``more`` to what a decision and its run have used, in one transaction.

        ``admit`` gets both sums with ``more`` in them; what it raises undoes the addition and passes through. Without it the
        row of the run, which all writers want, is not held from one message to the server to the next.
        """
        if admit is None:
            with self._write_once() as connection:
                self._add_to_both(connection, run, decision, more)
        else:
            with self._write() as connection:
                admit(*self._add_to_both(connection, run, decision, more))

    def spent(self, run: str, decision: str = WHOLE_RUN) -> Spending:
        """What a run, or one decision of it, has used; requests under way count with their estimates."""
        query = select(SpendingRow.calls, SpendingRow.tokens, SpendingRow.usd).where(
            SpendingRow.run == run, SpendingRow.decision == decision
        )
        with self._read_once() as connection:
            found = connection.execute(query).one_or_none()
        return Spending() if found is None else Spending(found.calls, found.tokens, found.usd)

    def _add(self, connection: Connection, run: str, decision: str, more: Spending) -> None:
        connection.execute(_ADD, _values(run, decision, more))

    def _add_to_both(
        self, connection: Connection, run: str, decision: str, more: Spending
    ) -> tuple[Spending, Spending]:
        """The sums of the decision and of the run. That of the run comes last: all writers wait for it."""
        found = connection.execute(_ADD_TO_BOTH, {**_values(run, decision, more), "whole": WHOLE_RUN})
        sums = {row.decision: Spending(row.calls, row.tokens, row.usd) for row in found}
        return sums[decision], sums[WHOLE_RUN]


def _values(run: str, decision: str, more: Spending) -> dict[str, Any]:
    return {"run": run, "decision": decision, **{name: getattr(more, name) for name in _COUNTED}}


class RunLedger:
    """The ``Ledger`` of one run, kept in the memory."""

    def __init__(self, store: SpendingStore, run: str) -> None:
        self._store, self._run = store, run

    def add(
        self,
        decision: str,
        more: Spending,
        admit: Admit | None = None,
    ) -> None:
        self._store.spend(self._run, decision, more, admit)

    def total(self) -> Spending:
        return self._store.spent(self._run)
