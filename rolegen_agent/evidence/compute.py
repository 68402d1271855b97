"""All role statistics of a log: from the ledger of its users to one table for each role."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from .baskets import copurchase
from .buying import gateway, replenishment, target, target_name
from .consideration import anchor, comparison
from .effects import effect_table
from .incidental import incidental
from .intent import bridge, trigger
from .ledger import Ledger, Reading, UserReader, read_ledger
from .market import Market
from .next_order import fit_next_order
from .options import EvidenceOptions
from .role_effects import NAMES as EFFECT_NAMES
from .role_effects import role_effects
from .store import CATEGORY_PAIRS, EFFECTS, ITEMS, NAMES, SIBLINGS, Evidence
from .units import Kind


@dataclass(frozen=True)
class Update:
    """Evidence as of a moment, what it can be brought up to date from, and what that took this time."""

    evidence: Evidence
    ledger: Ledger
    users: int
    """all users of the log"""
    read: int
    """users whose events were read; the rows of the others stood"""
    why_anew: str | None
    """why everybody was read; None where an earlier ledger was built upon"""


def compute_evidence(
    events: pl.DataFrame, items: pl.DataFrame, *, at: datetime, options: EvidenceOptions | None = None
) -> Evidence:
    """Role evidence from the events strictly before ``at``; later ones are never read, only counted.

    Args:
        events: the ingested log: event, user, item, time (UTC), behaviour, quantity, price, session.
        items: the catalogue: item, title, category, price.
        at: the as-of time, with a timezone.

    Returns:
        One table for each role of the taxonomy. Where the log has no support for a role (say, no views for
        ``comparison``) its table is empty. Where exposures are logged, trigger, bridge, anchor, comparison, target and incidental are
        doubly robust effects (see ``effects.py``); all else is association, and says so.

    Raises:
        InputError: a column is missing, or ``at`` has no timezone.
    """
    return update_evidence(events, items, at=at, options=options).evidence


def update_evidence(
    events: pl.DataFrame,
    items: pl.DataFrame,
    *,
    at: datetime,
    options: EvidenceOptions | None = None,
    earlier: Ledger | None = None,
    reader: UserReader | None = None,
) -> Update:
    """What ``compute_evidence`` gives, where an earlier ledger stands for all users whose events have not changed since.

    Users with new or late events, new refunds, or items that changed their category are read again, with all of their events before ``at``.
    Computed from the rows of all users, kept or fresh, are the tables; from the log itself only the next-order model.

    Args:
        earlier: ``Update.ledger`` of another time, earlier or not, or one that ``Ledger.load`` read; None computes everything anew.
        reader: makes the rows of users, see :func:`~rolegen_agent.evidence.ledger.read_ledger`.
    """
    started = time.perf_counter()
    options = options or EvidenceOptions()
    found = read_ledger(events, items, at=at, options=options, earlier=earlier, reader=reader)
    scope, rows = found.ledger.scope, found.ledger.rows
    bridges, category_bridges = bridge(rows["left"], rows["moved"], scope, options)
    complements, siblings, large_baskets = copurchase(rows["orders"], scope, options)
    tables = {
        "trigger": trigger(rows["trigger"], scope, options),
        "bridge": bridges,
        "anchor": anchor(rows["anchor"], scope, options),
        "comparison": comparison(rows["comparison"], scope, options),
        "complement": complements,
        "gateway": gateway(rows["gateway"], scope, options),
        "replenishment": replenishment(rows["replenishment"], rows["intervals"], scope, options),
        "target": target(rows["target"], scope, options),
    }
    # The strongest pair of an item is a maximum over many: its interval says nothing about absence of effect.
    single = {role: table for role, table in tables.items() if role not in ("bridge", "complement")}
    tables["incidental"] = incidental(single, options)
    tables[EFFECTS], effect_counts = effect_table(rows, scope, options)
    names = {**NAMES, "target": target_name(scope)}
    kinds: dict[str, Kind] = dict.fromkeys(NAMES, "association")
    if scope.has_exposures:
        tables |= role_effects(tables[EFFECTS], options, scope.items)
        names |= EFFECT_NAMES
        kinds |= dict.fromkeys(EFFECT_NAMES, "dr")
    tables[CATEGORY_PAIRS] = category_bridges
    tables[SIBLINGS] = siblings
    tables[ITEMS] = scope.items.select("item", "title", "category")
    past = events.filter(pl.col("time") < at)
    evidence = Evidence(
        at=at,
        tables=tables,
        counts={
            "events_before": past.height,
            "events_later_ignored": events.height - past.height,
            "events_of_unknown_items": past.join(scope.items, on="item", how="anti").height,
            "events_engaged": int(rows["tally"]["engaged"].sum()),
            "net_order_lines": rows["orders"].height,
            "refunded_user_item_pairs": int(rows["tally"]["refunded"].sum()),
            "users": found.ledger.users.height,
            "items": scope.items.height,
            "large_baskets_left_out_of_pairs": large_baskets,
            **effect_counts,
        },
        options=options,
        names=names,
        kinds=kinds,
        next_order=fit_next_order(events, Market(past, items), rows, scope, options),
        seconds=time.perf_counter() - started,
        told=_told(found, earlier),
    )
    return Update(evidence, found.ledger, found.ledger.users.height, found.read, found.why_anew)


def _told(found: Reading, earlier: Ledger | None) -> str:
    users = found.ledger.users.height
    if earlier is None or found.why_anew is not None:
        return f"all {users:,} users read: {found.why_anew}"
    return f"{found.read:,} of {users:,} users read, the others stand as of {earlier.scope.at.date()}"
