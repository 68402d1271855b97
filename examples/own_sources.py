"""What a shop has already, behind the loop's ports: items of its own retrieval, and a table of orders as outcomes.

    python examples/own_sources.py shop 2011-09-01 sqlite:///orders.sqlite 12350

With the command line, name them in ``rolegen.toml``; both are importable things, or entry points:

    [parts]
    own = "own_sources:own"             # group rolegen.parts
    outcomes = "own_sources:orders"     # group rolegen.outcomes; then: rolegen feedback --from-source
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
from sqlalchemy import Engine, bindparam, create_engine, text

from rolegen_agent import RoleGen
from rolegen_agent.artefacts import Artefacts
from rolegen_graphs import Parts
from rolegen_graphs.words import Observation, Proposal, Reading


class BoughtTogether:
    """Puts forward what other people bought on a day on which they bought one of the user's items."""

    name = "bought together"

    def __init__(self, learnt: Artefacts, count: int = 3) -> None:
        orders = learnt.events.filter(pl.col("behaviour") == "order")  # they end before the decision
        self._baskets = orders.select("user", "item", day=pl.col("time").dt.date()).unique()
        self._count = count

    def propose(self, seen: Observation, reading: Reading) -> Sequence[Proposal]:
        way = seen.trajectory
        bought = [event.item for event in way.events if event.behaviour == "order"]
        if not bought:
            return []
        others = self._baskets.filter(pl.col("user") != way.user)
        beside = others.join(others.filter(pl.col("item").is_in(bought)), on=["user", "day"], how="semi")
        counted = beside.filter(~pl.col("item").is_in(bought)).group_by("item").len()
        best = counted.sort("len", "item", descending=[True, False]).head(self._count).rows()
        top = max((count for _, count in best), default=1)
        return [
            Proposal(
                item=item, role="complement", score=count / top, why=f"bought on {count} days beside the user's items"
            )
            for item, count in best
        ]


class OrdersTable:
    """Outcomes from ``orders(customer, item, ordered_at, paid)``, one row an order line, times as ISO texts in UTC."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def reports(self, since: datetime) -> Iterator[Mapping[str, object]]:
        lines = text(
            "SELECT customer, ordered_at, item, paid FROM orders WHERE ordered_at >= :since"
            " ORDER BY customer, ordered_at, item"
        ).bindparams(bindparam("since", since.astimezone(UTC).isoformat()))
        with self._engine.connect() as connection:
            order: dict[str, object] = {}
            for customer, when, item, paid in connection.execution_options(stream_results=True).execute(lines):
                if (customer, when) != (order.get("user"), order.get("ordered_at")):
                    if order:
                        yield order
                    order = {"user": customer, "ordered_at": when, "items": (), "value": 0.0}
                order["items"] = (*order["items"], item)  # type: ignore[misc]
                order["value"] = order["value"] + paid  # type: ignore[operator]
            if order:
                yield order


def own(parts: Parts, learnt: Artefacts) -> Parts:
    """For ``[parts] own``: a source of candidates beside the reasoner."""
    return replace(parts, sources=[BoughtTogether(learnt)])


def orders() -> OrdersTable:
    """For ``[parts] outcomes``: the address of the database is a matter of the environment."""
    return OrdersTable(create_engine(os.environ["ORDERS_DATABASE"]))


def main(folder: str, at: str, database: str, user: str) -> None:
    """One decision with the source, then what came of it."""
    with RoleGen.open(folder, parts=own) as shop:
        for path in shop.decide(user, at).rounds[-1].paths:
            sys.stdout.write(f"{path.source or 'reasoner'}: {path.intervention.text}\n")
        report = shop.outcomes_from_source(OrdersTable(create_engine(database)))
        sys.stdout.write(f"{report.rows} orders, {report.recorded} after a decision\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
