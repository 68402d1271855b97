"""How long role evidence takes: a million events at once, and one month on top of a year.

=============================  ==========================================================================================
``speed.seconds.anew``         of 13 months computed in one go, for each million of their events; ``cpu_seconds`` of the processor, the same way
``speed.seconds.update``       of the 13th month on top of the twelve before, for each million of all events; from the ledger in memory
``speed.cpu_ratio.update``     processor time of ``anew`` over that of ``update``
``speed.events.anew``          events of the log; ``users_read.update`` and ``events_read.update``: shares that had to be read again
=============================  ==========================================================================================

``speed`` is a planted shop with exposures into which as many users come every month, who stay for four; ``speed_orders`` the bundled
log of orders, whose customers stay for years. Categories are those of the 13th month in both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from rolegen_agent import RoleGen
from rolegen_agent.artefacts import known_items
from rolegen_agent.evidence import EvidenceOptions, update_evidence
from rolegen_agent.ingest import bundled_log

from ..worlds import WORLDS, Knobs, plant
from ..worlds.log import START
from .effects import options_of

MONTHS, MONTH = 13, timedelta(days=30)
COHORT = 1_300
"""users who come in each month: 1.2 million events"""
REAL_END = datetime(2011, 1, 1, tzinfo=UTC)
PROJECT = '[data]\npreset = "online_retail_ii"\nevents = "orders.parquet"\n'
Progress = Callable[[str, int, int], None]


def speed_figures(work: Path, *, quick: bool, progress: Progress) -> dict[str, float]:
    """All figures of the module."""
    found: dict[str, float] = {}
    for done, (task, (events, items, end, options)) in enumerate(
        (("speed", _planted(COHORT // 20 if quick else COHORT)), ("speed_orders", _real(work, 20 if quick else 1)))
    ):
        progress("speed", done, 2)
        found |= _timed(task, events.filter(pl.col("time") < end), items, end, options)
    progress("speed", 2, 2)
    return found


def _timed(
    task: str, events: pl.DataFrame, items: pl.DataFrame, end: datetime, options: EvidenceOptions
) -> dict[str, float]:
    year = end - MONTH
    kept = update_evidence(events.filter(pl.col("time") < year), items, at=year, options=options).ledger
    millions = events.height / 1e6
    begun = time.perf_counter(), time.process_time()
    update_evidence(events, items, at=end, options=options)
    between = time.perf_counter(), time.process_time()
    update = update_evidence(events, items, at=end, options=options, earlier=kept)
    ended = time.perf_counter(), time.process_time()
    touched = events.filter(pl.col("time") >= year)["user"].unique()
    anew, again = between[1] - begun[1], ended[1] - between[1]
    return {
        f"{task}.seconds.anew": (between[0] - begun[0]) / millions,
        f"{task}.cpu_seconds.anew": anew / millions,
        f"{task}.seconds.update": (ended[0] - between[0]) / millions,
        f"{task}.cpu_seconds.update": again / millions,
        f"{task}.cpu_ratio.update": anew / again,
        f"{task}.events.anew": float(events.height),
        f"{task}.users_read.update": update.read / update.users,
        f"{task}.events_read.update": events.filter(pl.col("user").is_in(touched.implode())).height / events.height,
    }


def _planted(cohort: int) -> tuple[pl.DataFrame, pl.DataFrame, datetime, EvidenceOptions]:
    shop = WORLDS["staged"].open(0, Knobs())
    months = []
    for month in range(MONTHS):
        came = pl.lit(f"{month:02d}-")
        months.append(
            plant(shop, cohort, seed=month).events.with_columns(
                time=pl.col("time") + month * MONTH, user=came + pl.col("user"), session=came + pl.col("session")
            )
        )
    events = pl.concat(months).sort("user", "time", maintain_order=True)
    events = events.with_columns(event=pl.int_range(pl.len(), dtype=pl.Int64))
    return events, shop.goods.frame(), START + MONTHS * MONTH, options_of(shop)


def _real(work: Path, one_in: int) -> tuple[pl.DataFrame, pl.DataFrame, datetime, EvidenceOptions]:
    folder = work / f"orders-{one_in}"
    folder.mkdir(parents=True, exist_ok=True)
    pl.scan_parquet(bundled_log()).filter(pl.col("CustomerID") % one_in == 0).sink_parquet(folder / "orders.parquet")
    (folder / "rolegen.toml").write_text(PROJECT, "utf-8")
    with RoleGen.open(folder) as shop:
        shop.ingest()
        events = pl.read_parquet(shop.project.events)
        return events, known_items(shop.project, REAL_END), REAL_END, EvidenceOptions()
