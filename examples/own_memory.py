"""A memory of your own: every decision goes to the project's memory, and its slate into a table that the shop reads.

    python examples/own_memory.py shop 2011-09-01 sqlite:///mails.sqlite 12350

The loop memory itself is any SQLite file or PostgreSQL database: set ``[memory] url``.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from sqlalchemy import Column, DateTime, Engine, Integer, MetaData, String, Table, create_engine

from rolegen_agent import RoleGen
from rolegen_graphs.ports import Memory
from rolegen_graphs.words import Decision

SLATES = Table(
    "slates",
    MetaData(),
    Column("customer", String, primary_key=True),
    Column("decided_at", DateTime(timezone=True), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("item", String, nullable=False),
)


class Mailing:
    """Remembers as ``memory`` does, and keeps ``slates`` up to date; the same decision again changes nothing."""

    def __init__(self, memory: Memory, engine: Engine) -> None:
        self._memory, self._engine = memory, engine
        SLATES.create(engine, checkfirst=True)

    def record(self, decision: Decision) -> None:
        mine = (SLATES.c.customer == decision.user) & (SLATES.c.decided_at == decision.at)
        with self._engine.begin() as connection:
            connection.execute(SLATES.delete().where(mine))
            rows = [
                {"customer": decision.user, "decided_at": decision.at, "place": place.rank, "item": place.item}
                for place in decision.slate.items
            ]
            connection.execute(SLATES.insert(), rows)
        self._memory.record(decision)  # last: what it holds is not decided again, so the table must be right by then


def main(folder: str, at: str, database: str, user: str) -> None:
    """One decision, and how many places the shop's table has then."""
    engine = create_engine(database)
    with RoleGen.open(
        folder, parts=lambda parts, _: replace(parts, memory=Mailing(_kept(parts.memory), engine))
    ) as shop:
        shop.decide(user, at)
    with engine.connect() as connection:
        sys.stdout.write(f"{len(connection.execute(SLATES.select()).all())} places\n")


def _kept(memory: Memory | None) -> Memory:
    if memory is None:
        raise ValueError("the project has no memory")
    return memory


if __name__ == "__main__":
    main(*sys.argv[1:])
