"""Slates of every policy: the decision's own two, and those of the baselines that it is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, select

from rolegen_errors import InputError
from rolegen_graphs.words import Slate

from . import rows
from .models import DecisionRow, SlateItemRow, SlateRow
from .store import Store, columns, slate_item_ids, slates_of


class SlateStore(Store):
    """The part of the memory that holds slates."""

    def record_slate(self, decision: str, policy: str, slate: Slate) -> None:
        """Store what another policy would have shown; see :meth:`record_slates`."""
        self.record_slates([(decision, policy, slate)])

    def record_slates(self, slates: Iterable[tuple[str, str, Slate]]) -> int:
        """Store slates of baselines as (decision id, policy, slate) in one transaction; returns how many.

        A stored slate of the same decision and policy is replaced. ``InputError`` for an unknown decision, and for the
        policies ``rolegen`` and ``backbone``, which only :meth:`record` writes.
        """
        latest = {(decision, policy): slate for decision, policy, slate in slates}
        for decision, policy in latest:
            if policy in rows.OWN_POLICIES:
                raise InputError(
                    f"the slate of policy {policy!r} is part of the decision itself",
                    where=f"decision {decision}",
                    fix="record the decision, or give the slate another policy name",
                )
        heads, items = rows.slate_values((*key, latest[key]) for key in sorted(latest))
        with self._write() as connection:
            self._known(connection, {decision for decision, _ in latest})
            self._upsert(connection, SlateRow, heads)
            if heads:
                old = delete(SlateItemRow).where(
                    SlateItemRow.decision == bindparam("of"), SlateItemRow.policy == bindparam("by")
                )
                connection.execute(old, [{"of": head["decision"], "by": head["policy"]} for head in heads])
            if items:
                connection.execute(self._insert(SlateItemRow), items)
        return len(latest)

    def slate(self, decision: str, policy: str) -> Slate:
        """The slate of one policy for one decision; ``InputError`` if there is none."""
        with self._read() as connection:
            found = slates_of(connection, decision)
        if policy not in found:
            raise InputError(
                f"decision {decision!r} has no slate of policy {policy!r}",
                where=self.url,
                fix=f"choose one of {', '.join(sorted(found)) or '(none: the decision is unknown)'}",
            )
        return found[policy]

    def slates(self, run: str, policy: str) -> dict[str, list[str]]:
        """For each decision of ``run`` that has a slate of ``policy``: its item ids in the order shown."""
        own = SlateRow.decision.in_(select(DecisionRow.decision).where(DecisionRow.run == run))
        with self._read() as connection:
            known = connection.execute(select(SlateRow.decision).where(own, SlateRow.policy == policy)).scalars().all()
            return slate_item_ids(connection, known, policy)

    def shown(self, run: str | None = None) -> Sequence[Any]:
        """What decisions showed, of one run or all: rows of decision, run, user_id, at, rank, item, propensity, drawn_from."""
        query = (
            select(
                DecisionRow.decision,
                DecisionRow.run,
                DecisionRow.user_id,
                DecisionRow.at,
                SlateItemRow.rank,
                SlateItemRow.item,
                SlateItemRow.propensity,
                SlateItemRow.drawn_from,
            )
            .join(SlateItemRow, SlateItemRow.decision == DecisionRow.decision)
            .where(SlateItemRow.policy == "rolegen")
            .order_by(DecisionRow.at, DecisionRow.user_id, DecisionRow.decision, SlateItemRow.seq)
        )
        if run is not None:
            query = query.where(DecisionRow.run == run)
        with self._read() as connection:
            return connection.execute(query).all()

    def full_slates(self, run: str, policy: str) -> dict[str, Slate]:
        """For each decision of ``run`` that has a slate of ``policy``: the slate with all that is known of it."""
        own = select(DecisionRow.decision).where(DecisionRow.run == run)
        heads = select(*columns(SlateRow)).where(SlateRow.decision.in_(own), SlateRow.policy == policy)
        items = (
            select(*columns(SlateItemRow))
            .where(SlateItemRow.decision.in_(own), SlateItemRow.policy == policy)
            .order_by(SlateItemRow.decision, SlateItemRow.seq)
        )
        with self._read() as connection:
            shown: dict[str, list[Any]] = {}
            for row in connection.execute(items).mappings():
                shown.setdefault(row["decision"], []).append(row)
            found = connection.execute(heads).mappings().all()
        return {row["decision"]: rows.to_slate(row, shown.get(row["decision"], ())) for row in found}

    def policies(self, run: str) -> tuple[str, ...]:
        """The policies that have a slate in ``run``, by name."""
        query = select(SlateRow.policy).distinct().join(DecisionRow, DecisionRow.decision == SlateRow.decision)
        with self._read() as connection:
            return tuple(sorted(connection.execute(query.where(DecisionRow.run == run)).scalars()))
