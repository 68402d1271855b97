"""Checks of events that servers were told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from sqlalchemy import Connection, select

from rolegen_graphs.words import Behaviour

from ..models import ToldEventRow
from ..store import columns
from ..told import told_key
from .registry import Finding, table_check


@table_check("told events")
def _told(connection: Connection) -> Iterator[Finding]:
    """The key is derived again, and an event says what an event may say."""
    known = get_args(Behaviour)
    query = select(*columns(ToldEventRow)).execution_options(yield_per=1000)
    for row in connection.execute(query).mappings():
        key = told_key(
            row["user_id"],
            row["at"],
            row["item"],
            row["behaviour"],
            session=row["session"],
            event_id=row["event_id"],
        )
        if row["told"] != key:
            yield "told_events", row["told"], f"its key must be {key}"
        if row["behaviour"] not in known:
            yield "told_events", row["told"], f"the behaviour {row['behaviour']!r} is none of {', '.join(known)}"
        if not row["quantity"] > 0 or (row["price"] is not None and row["price"] < 0):
            yield "told_events", row["told"], f"the quantity is {row['quantity']}, the price {row['price']}"
