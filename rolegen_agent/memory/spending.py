"""What LLM requests of a run have used so far, as one sum that all threads, programs and restarts share."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, select

from ..llm.usage import Spending
from .models import SpendingRow
from .store import Store

WHOLE_RUN = ""
"""in the place of a decision"""
REMOVED = "removed"
"""in the place of all decisions of a run that were erased or pruned: what they cost stays part of the run"""


class SpendingStore(Store):
    """The part of the memory that holds sums of spending."""

    def spend(
        self,
        run: str,
        decision: str,
        more: Spending,
        admit: Callable[[Spending, Spending], None] = lambda of_decision, of_run: None,
    ) -> None:
        """Add ``more`` to what a decision and its run have used, in one transaction.

        ``admit`` gets both sums with ``more`` in them; what it raises undoes the addition and passes through.
        """
        with self._write() as connection:
            of_run = self._add(connection, run, WHOLE_RUN, more)  # first, so that writers queue up for the same row
            admit(self._add(connection, run, decision, more), of_run)

    def spent(self, run: str, decision: str = WHOLE_RUN) -> Spending:
        """What a run, or one decision of it, has used; requests under way count with their estimates."""
        query = select(SpendingRow.calls, SpendingRow.tokens, SpendingRow.usd).where(
            SpendingRow.run == run, SpendingRow.decision == decision
        )
        with self._read() as connection:
            found = connection.execute(query).one_or_none()
        return Spending() if found is None else Spending(found.calls, found.tokens, found.usd)

    @cached_property
    def _adding(self) -> Any:
        """The statement, built once: it runs four times for every request, and building it takes longer than running it."""
        names = ("calls", "tokens", "usd")
        statement = self._insert(SpendingRow)
        added = {name: getattr(SpendingRow, name) + statement.excluded[name] for name in names}
        return statement.on_conflict_do_update(index_elements=["run", "decision"], set_=added).returning(
            SpendingRow.calls, SpendingRow.tokens, SpendingRow.usd
        )

    def _add(self, connection: Connection, run: str, decision: str, more: Spending) -> Spending:
        values = {"run": run, "decision": decision, "calls": more.calls, "tokens": more.tokens, "usd": more.usd}
        found = connection.execute(self._adding, values).one()
        return Spending(found.calls, found.tokens, found.usd)


class RunLedger:
    """The ``Ledger`` of one run, kept in the memory."""

    def __init__(self, store: SpendingStore, run: str) -> None:
        self._store, self._run = store, run

    def add(
        self,
        decision: str,
        more: Spending,
        admit: Callable[[Spending, Spending], None] = lambda of_decision, of_run: None,
    ) -> None:
        self._store.spend(self._run, decision, more, admit)

    def total(self) -> Spending:
        return self._store.spent(self._run)
