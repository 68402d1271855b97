"""Outcomes from the ingested log, for every decision of which the log knows more than the memory does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from threading import Event
from typing import TYPE_CHECKING

import polars as pl

from ..outcomes import outcomes_of
from .recording import FeedbackReport

if TYPE_CHECKING:
    from ..memory import Memory
    from ..project import Project

CHUNK = 5_000
"""decisions that are looked up together"""


def record_from_log(
    project: Project,
    memory: Memory,
    *,
    run: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Event | None = None,
) -> FeedbackReport:
    """Read on from where the memory's outcomes were known up to; nothing is done twice unless the log has grown.

    An order in the log is net of refunds within the horizon. Where the log watches (views or carts), what the user engaged
    with is kept too.
    """
    project.require_store()
    log = pl.scan_parquet(project.events)
    end, watched = (
        log.select(pl.col("time").max(), pl.col("behaviour").cast(pl.String).is_in(["view", "cart"]).any())
        .collect()
        .row(0)
    )
    report = FeedbackReport(f"log up to {end.isoformat()}")
    behind = memory.spans_behind(end, run=run)
    progress(0, len(behind))
    for (_, at, until), group in groupby(
        sorted(behind, key=lambda span: (span.run, span.at, span.horizon_end)),
        key=lambda span: (span.run, span.at, span.horizon_end),
    ):
        spans = list(group)
        for low in range(0, len(spans), CHUNK):
            if stop is not None and stop.is_set():
                return report
            part = {span.user: span.decision for span in spans[low : low + CHUNK]}
            events = log.filter(
                pl.col("user").is_in(list(part)), pl.col("time") >= at, pl.col("time") < until
            ).collect()
            days = (until - at).total_seconds() / 86_400
            for fate in memory.settle(outcomes_of(events, part, at, days, end, watched=watched)):
                report.rows += 1
                report.recorded += fate == "new"
                report.unchanged += fate == "same"
                report.late += fate == "late"
            progress(report.rows, len(behind))
    return report
