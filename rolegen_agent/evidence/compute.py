"""All role statistics of a log in one pass over it."""

from __future__ import annotations

import time
from datetime import datetime

import polars as pl

from .baskets import copurchase
from .buying import gateway, replenishment, target, target_name
from .consideration import anchor, comparison
from .effects import effects
from .incidental import incidental
from .intent import bridge, entries, trigger
from .log import read_log
from .market import Market
from .next_order import fit_next_order
from .options import EvidenceOptions
from .role_effects import NAMES as EFFECT_NAMES
from .role_effects import role_effects
from .store import CATEGORY_PAIRS, EFFECTS, ITEMS, NAMES, SIBLINGS, Evidence
from .units import Kind


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
    started = time.perf_counter()
    options = options or EvidenceOptions()
    log = read_log(events, items, at=at)
    states = entries(log, options)
    bridges, category_bridges = bridge(log, states, options)
    complements, siblings, large_baskets = copurchase(log, options)
    tables = {
        "trigger": trigger(log, states, options),
        "bridge": bridges,
        "anchor": anchor(log, options),
        "comparison": comparison(log, options),
        "complement": complements,
        "gateway": gateway(log, options),
        "replenishment": replenishment(log, options),
        "target": target(log, options),
    }
    # The strongest pair of an item is a maximum over many: its interval says nothing about absence of effect.
    single = {role: table for role, table in tables.items() if role not in ("bridge", "complement")}
    tables["incidental"] = incidental(single, options)
    tables[EFFECTS], effect_counts = effects(log, options)
    names = {**NAMES, "target": target_name(log)}
    kinds: dict[str, Kind] = dict.fromkeys(NAMES, "association")
    if not log.exposed.is_empty():
        tables |= role_effects(tables[EFFECTS], options, log.items)
        names |= EFFECT_NAMES
        kinds |= dict.fromkeys(EFFECT_NAMES, "dr")
    tables[CATEGORY_PAIRS] = category_bridges
    tables[SIBLINGS] = siblings
    tables[ITEMS] = log.items.select("item", "title", "category")
    return Evidence(
        at=at,
        tables=tables,
        counts={**log.counts, "large_baskets_left_out_of_pairs": large_baskets, **effect_counts},
        options=options,
        names=names,
        kinds=kinds,
        next_order=fit_next_order(
            events, items, Market(events.filter(pl.col("time") < at), items), at=at, options=options
        ),
        seconds=time.perf_counter() - started,
    )
