"""What LLM requests of a run have used so far, as one sum that all threads, programs and restarts share."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, select

from ..llm.usage import Spending
from .models import SpendingRow
from .store import Store

_WHOLE_RUN = ""
"""in the place of a decision"""


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
            of_run = self._add(connection, run, _WHOLE_RUN, more)  # first, so that writers queue up for the same row
            admit(self._add(connection, run, decision, more), of_run)

    def spent(self, run: str, decision: str = _WHOLE_RUN) -> Spending:
        """What a run, or one decision of it, has used; requests under way count with their estimates."""
        query = select(SpendingRow.calls, SpendingRow.tokens, SpendingRow.usd).where(
            SpendingRow.run == run, SpendingRow.decision == decision
        )
        with self._read() as connection:
            found = connection.execute(query).one_or_none()
        return Spending() if found is None else Spending(found.calls, found.tokens, found.usd)

    def _add(self, connection: Connection, run: str, decision: str, more: Spending) -> Spending:
        statement = self._insert(SpendingRow).values(
            run=run, decision=decision, calls=more.calls, tokens=more.tokens, usd=more.usd
        )
        new = statement.excluded
        added = {
            "calls": SpendingRow.calls + new.calls,
            "tokens": SpendingRow.tokens + new.tokens,
            "usd": SpendingRow.usd + new.usd,
        }
        found = connection.execute(
            statement.on_conflict_do_update(index_elements=["run", "decision"], set_=added).returning(
                SpendingRow.calls, SpendingRow.tokens, SpendingRow.usd
            )
        ).one()
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
