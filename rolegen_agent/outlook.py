"""In which intent states users will be when a slate is shown to them: needs go on after the decision.

A slate stands until its horizon ends. What it meets then is read from the log: for each state that users were in at one exposure, the
states at all their exposures within the horizon after it, the first one included. States that were seldom met are shrunk to
the state as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from .evidence import EvidenceOptions
from .evidence.log import read_log
from .evidence.states import with_states

FILE = "outlook.parquet"
Context = tuple[int, int]
"""category code (-1: no need) and stage of the need"""
STAY = 20.0
"""pseudo exposures at which everything is as it was"""
VISITS = 40
"""exposures that are looked ahead, at most"""
LATEST = 200_000
"""exposures that are looked ahead from"""
_NOTHING = "\x00none"
"""stands for no need where a category's name stands otherwise: no catalogue has this one"""


@dataclass(frozen=True)
class Outlook:
    """From a context to the shares of the contexts in which a slate is shown."""

    table: pl.DataFrame
    """need, stage, next_need, next_stage (needs by category name), count: exposures ahead, weighed so that each exposure looked from
    counts 1"""

    @classmethod
    def of(
        cls, events: pl.DataFrame, items: pl.DataFrame, until: datetime, options: EvidenceOptions, days: float
    ) -> Outlook:
        """From the exposures strictly before ``until``; ``days`` is the horizon of a slate."""
        log = read_log(events, items, at=until)
        seen = log.exposed.sort("row").tail(LATEST).select("user", "category", "time", "row")
        if seen.is_empty():
            return cls(_empty())
        met = with_states(seen, log.engaged, options).sort("user", "row")
        user, second = met["user"].to_numpy(), met["time"].dt.epoch("s").to_numpy()
        code = (met["need"].cast(pl.Int64).fill_null(-1).to_numpy() + 1) * 8 + met["stage"].to_numpy().astype(np.int64)
        size, pairs, start = len(code), [], np.arange(len(code))
        ahead = np.zeros(size)
        for lag in range(min(VISITS, size)):
            first, then = start[: size - lag], start[lag:]
            within = (user[first] == user[then]) & (second[then] - second[first] < days * 86_400)
            if not within.any():
                break
            ahead[first[within]] += 1
            pairs.append(np.stack([first[within], then[within]]))
        first, then = np.concatenate(pairs, axis=1)
        names = [_NOTHING, *log.categories]
        counted = (
            pl.DataFrame({"now": code[first], "later": code[then], "count": 1 / ahead[first]})
            .group_by("now", "later")
            .agg(pl.col("count").sum())
            .sort("now", "later")
        )

        def name(column: str) -> pl.Expr:
            return (pl.col(column) // 8).replace_strict(dict(enumerate(names)), return_dtype=pl.String)

        return cls(
            counted.select(
                need=name("now"),
                stage=pl.col("now") % 8,
                next_need=name("later"),
                next_stage=pl.col("later") % 8,
                count="count",
            )
        )

    def ahead(self, categories: list[str]) -> dict[Context, dict[Context, float]]:
        """Shares of the contexts ahead of each context; ``categories`` by code. A context that is not there stays what it is."""
        code = {name: number for number, name in enumerate(categories)} | {_NOTHING: -1}
        found: dict[Context, dict[Context, float]] = {}
        for need, stage, next_need, next_stage, count in self.table.iter_rows():
            if need in code and next_need in code:
                now = (code[need], stage)
                found.setdefault(now, {now: STAY})
                later = (code[next_need], next_stage)
                found[now][later] = found[now].get(later, 0.0) + count
        for shares in found.values():
            total = sum(shares.values())
            for context in shares:
                shares[context] /= total
        return found

    def save(self, folder: Path) -> None:
        """Keep it in an artefact folder."""
        self.table.write_parquet(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Outlook:
        """What :meth:`save` wrote; one that knows nothing where there is none."""
        file = folder / FILE
        return cls(pl.read_parquet(file) if file.exists() else _empty())


def _empty() -> pl.DataFrame:
    kinds = {"need": pl.String, "stage": pl.Int64, "next_need": pl.String, "next_stage": pl.Int64, "count": pl.Float64}
    return pl.DataFrame(schema=kinds)
