"""The way from kept rows in file order to events in canonical order, within bounded memory.

Texts that repeat (user, item, session) become numbers as they arrive, so that a row takes about 40 bytes. The rows are
kept in memory while they are few; more of them are written to scratch files and read back in ranges of users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from .event_ids import EventIds
from .rows import BEHAVIOUR

_RANGE_ROWS = 12_000_000
_FILE_SHIFT = 40
"""``place`` = file number << 40 | row: one integer in the order of the input"""


class Coder:
    """Gives each text a number, in order of appearance."""

    def __init__(self) -> None:
        self._dtype = pl.Categorical(pl.Categories.random())
        # polars forgets the numbers of a Categories once no series of that type is left alive.
        self._anchor = pl.Series([], dtype=self._dtype)
        self._size = 0

    def encode(self, texts: pl.Series) -> pl.Series:
        """UInt32 numbers; null stays null."""
        codes = texts.cast(self._dtype).to_physical().cast(pl.UInt32)
        highest = codes.max()
        self._size = max(self._size, int(highest) + 1 if isinstance(highest, int) else 0)
        return codes

    def texts(self) -> pl.Series:
        """The text of each number from 0 on."""
        return pl.Series(range(self._size), dtype=pl.UInt32).cat.to(self._dtype).cast(pl.String)


@dataclass(frozen=True)
class Sorted:
    """The events of a range of users in canonical order, and the places of those that repeat an earlier event."""

    events: pl.DataFrame
    """place, user, item (numbers), time, behaviour, quantity, price, session (number), propensity"""
    duplicates: pl.Series


class Spool:
    """Takes kept rows in input order, gives them back sorted by (user, time, input order)."""

    def __init__(self, folder: Path, *, range_rows: int = _RANGE_ROWS) -> None:
        self._folder, self._range_rows = folder, range_rows
        self.users, self.items, self._sessions = Coder(), Coder(), Coder()
        self._waiting: list[pl.DataFrame] = []
        self._files: list[Path] = []
        self.rows = 0

    def add(self, kept: pl.DataFrame) -> pl.Series:
        """Add rows as ``RowReader.read`` gives them, with their ``place``; their item numbers come back."""
        items = self.items.encode(kept["item"])
        frame = kept.select(
            "place",
            self.users.encode(kept["user"]).alias("user"),
            items.alias("item"),
            "time",
            pl.col("behaviour").to_physical().cast(pl.UInt8),
            "quantity",
            "price",
            self._sessions.encode(kept["session"]).alias("session"),
            "propensity",
        )
        self._waiting.append(frame)
        self.rows += frame.height
        if sum(part.height for part in self._waiting) > self._range_rows:
            self._spill()
        return items

    def sorted_ranges(self) -> Iterator[Sorted]:
        """All events by ranges of users in the order of their ids (bytewise), duplicates taken out."""
        if self._files:
            self._spill()
        rank_of = self.users.texts().rank("ordinal").cast(pl.UInt32) - 1
        for low, high in self._ranges(rank_of):
            parts = []
            for part in self._parts():
                rank = rank_of.gather(part["user"]).alias("rank")
                ranked = part.with_columns(rank)
                parts.append(ranked.filter(rank.is_between(low, high - 1)) if self._files else ranked)
            self._waiting = []
            yield _sort(pl.concat(parts))

    def decode(self, events: pl.DataFrame) -> pl.DataFrame:
        """Numbers back to texts."""
        texts = {"user": self._texts("user"), "item": self._texts("item"), "session": self._texts("session")}
        return events.with_columns(
            *(texts[name].gather(events[name]).alias(name) for name in texts),
            events["behaviour"].cat.to(BEHAVIOUR).cast(pl.String),
        )

    def event_ids(self) -> EventIds:
        """What makes ids of the events, once all rows are in."""
        return EventIds(self._texts("user"), self._texts("item"), self._texts("session"))

    def _texts(self, name: str) -> pl.Series:
        return {"user": self.users, "item": self.items, "session": self._sessions}[name].texts()

    def _parts(self) -> Iterator[pl.DataFrame]:
        yield from (pl.read_parquet(path) for path in self._files)
        yield from self._waiting

    def _spill(self) -> None:
        """Move what waits in memory to the disk."""
        if self._waiting:
            path = self._folder / f"spool-{len(self._files)}.parquet"
            pl.concat(self._waiting).write_parquet(path, compression="lz4", statistics=False)
            self._files.append(path)
            self._waiting = []

    def _ranges(self, rank_of: pl.Series) -> list[tuple[int, int]]:
        """Half-open ranges of user ranks, each of about ``range_rows`` events or of one user."""
        if not self._files:
            return [(0, len(rank_of))]
        counts = (
            pl.concat(
                pl.read_parquet(path, columns=["user"]).group_by("user").agg(pl.len().cast(pl.Int64).alias("rows"))
                for path in self._files
            )
            .group_by("user")
            .agg(pl.col("rows").sum())
        )
        counts = counts.with_columns(rank_of.gather(counts["user"]).alias("rank")).sort("rank")
        bins = counts.select("rank", ((pl.col("rows").cum_sum() - pl.col("rows")) // self._range_rows).alias("bin"))
        starts = bins.group_by("bin").agg(pl.col("rank").min()).sort("bin")["rank"].to_list()
        return list(zip(starts, [*starts[1:], len(rank_of)], strict=True))


def _sort(events: pl.DataFrame) -> Sorted:
    """Sort by (rank, time, place) and take out repeated events, keeping the first in input order."""
    span = events.select((pl.col("time").max() - pl.col("time").min()).cast(pl.Int64) + 1).item()
    ranks = int(events["rank"].max() or 0) - int(events["rank"].min() or 0) + 1  # type: ignore[arg-type]
    if ranks * span < 2**63:  # one integer key sorts several times as fast as three columns
        rank = (pl.col("rank") - pl.col("rank").min()).cast(pl.Int64)
        time = (pl.col("time") - pl.col("time").min()).cast(pl.Int64)
        # Rows come in input order, so a stable sort leaves them so.
        events = events.with_columns((rank * span + time).alias("key")).sort("key", maintain_order=True).drop("key")
    else:
        events = events.sort("rank", "time", "place")
    events = events.drop("rank")
    said = [name for name in events.columns if name != "place"]
    hashes = events.select(pl.struct(said).hash()).to_series()
    ordered = hashes.sort()  # cheaper than a hash table of all rows
    suspects = hashes.is_in(ordered.filter(ordered == ordered.shift(1)).unique().implode())
    if not suspects.any():
        return Sorted(events, pl.Series("place", [], dtype=pl.Int64))
    # Equal hashes are only a suspicion: two events are the same if all their values are.
    repeated = events.filter(suspects).filter(~pl.struct(said).is_first_distinct())["place"]
    return Sorted(events.filter(~pl.col("place").is_in(repeated.implode())), repeated.sort())


def place(file: int) -> pl.Expr:
    """The place of each row of a file."""
    return pl.lit(file << _FILE_SHIFT, pl.Int64) + pl.col("row")


def split_place(places: pl.Series) -> pl.DataFrame:
    """file (number) and row of each place."""
    return places.to_frame("place").select(
        (pl.col("place") // (1 << _FILE_SHIFT)).alias("file"), (pl.col("place") % (1 << _FILE_SHIFT)).alias("row")
    )
