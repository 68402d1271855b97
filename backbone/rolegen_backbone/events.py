"""The behaviour log as flat arrays: what the backbone trains on and what a decision may see.

An :class:`EventLog` holds the canonical ``events.parquet`` sorted by (user, time). Users and items are dense integers;
``start`` gives each user's rows, so that a trajectory is a slice and "strictly before a time" is a binary search.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from rolegen_errors import InputError

DAY = 86_400
"""seconds"""
BEHAVIOURS: tuple[str, ...] = ("expose", "view", "cart", "order", "refund")
ORDER, REFUND = BEHAVIOURS.index("order"), BEHAVIOURS.index("refund")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def seconds(at: datetime) -> int:
    """Unix seconds of an aware datetime.

    Raises:
        InputError: ``at`` has no time zone.
    """
    if at.tzinfo is None:
        raise InputError(
            f"the time {at.isoformat()} has no time zone", fix="pass an aware datetime, for instance with tzinfo=UTC"
        )
    return int(at.timestamp())


def moment(second: int) -> datetime:
    """The inverse of :func:`seconds`, in UTC."""
    return datetime.fromtimestamp(second, tz=UTC)


@dataclass(frozen=True)
class EventLog:
    """N events of U users over I items, sorted by (user, time)."""

    users: npt.NDArray[np.str_]
    """(U,) user ids; the position is the user's index"""
    items: npt.NDArray[np.str_]
    """(I,) item ids; the position is the item's index"""
    user: Ints
    item: Ints
    time: Ints
    """(N,) Unix seconds"""
    behaviour: Ints
    """(N,) position in :data:`BEHAVIOURS`"""
    quantity: Floats
    price: Floats
    """(N,) price per unit, NaN where unknown"""
    event: Ints
    """(N,) ids in the ingested log, in no order"""
    start: Ints
    """(U + 1,) rows of user u are ``start[u]:start[u + 1]``"""

    @classmethod
    def from_frame(cls, events: pl.DataFrame, items: npt.NDArray[np.str_]) -> EventLog:
        """Build from canonical columns; events of items that are not in ``items`` are refused, and events of one moment
        stay in the order of ``events``.

        Raises:
            InputError: an event names an item that ``items`` lacks.
        """
        events = events.sort("user", "time", maintain_order=True)
        users = events["user"].unique(maintain_order=True)
        user = events.select(pl.col("user").rank("dense").cast(pl.Int64) - 1)["user"].to_numpy()
        index = pl.DataFrame(
            {"item": items.astype(str).tolist(), "row": np.arange(len(items))}, schema_overrides={"item": pl.String}
        )
        item = events.select("item").join(index, on="item", how="left", maintain_order="left")["row"]
        if item.null_count():
            lost = events.filter(item.is_null())["item"].unique().sort().head(5).to_list()
            raise InputError(f"the catalogue lacks items of the log, for instance {lost}", fix="ingest the log again")
        behaviour = events["behaviour"].cast(pl.String)
        strange = behaviour.filter(~behaviour.is_in(BEHAVIOURS)).unique().sort().head(5).to_list()
        if strange:
            raise InputError(
                f"the log has behaviours that are none of {BEHAVIOURS}: {strange}", fix="ingest the log again"
            )
        code = behaviour.replace_strict(list(BEHAVIOURS), list(range(len(BEHAVIOURS))), return_dtype=pl.Int64)
        return cls(
            users=users.to_numpy().astype(str),
            items=items.astype(str),
            user=user,
            item=item.to_numpy().astype(np.int64),
            time=events["time"].dt.epoch("s").to_numpy(),
            behaviour=code.to_numpy(),
            quantity=events["quantity"].cast(pl.Float32).to_numpy(),
            price=events["price"].cast(pl.Float32).fill_null(float("nan")).to_numpy(),
            event=events["event"].cast(pl.Int64).to_numpy(),
            start=np.searchsorted(user, np.arange(len(users) + 1)),
        )

    @classmethod
    def read(cls, path: Path, items: npt.NDArray[np.str_], *, until: datetime) -> EventLog:
        """Read ``events.parquet``, only the events strictly before ``until`` and only of known ``items``.

        Items first sold after ``items`` was drawn up have no place in a trained model; their events are left out here
        and counted by whoever drew up the table.
        """
        known = pl.Series(items.astype(str).tolist(), dtype=pl.String)
        frame = pl.scan_parquet(path).filter((pl.col("time") < until) & pl.col("item").is_in(known.implode())).collect()
        return cls.from_frame(frame, items)

    def __len__(self) -> int:
        return len(self.time)

    def rows(self, user: int, before: int) -> slice:
        """The rows of one user strictly before Unix second ``before``."""
        low, high = int(self.start[user]), int(self.start[user + 1])
        return slice(low, low + int(np.searchsorted(self.time[low:high], before, side="left")))

    def user_index(self, user: str) -> int | None:
        """Position of a user id, or None for a stranger."""
        row = int(np.searchsorted(self.users, user))
        return row if row < len(self.users) and self.users[row] == user else None


def distinct(*columns: Ints) -> Ints:
    """(N, len(columns)) the distinct rows in order; ``np.unique`` over rows compares them as bytes, four times slower."""
    order = np.lexsort(columns[::-1])
    rows = np.stack([column[order] for column in columns], axis=1)
    return rows[np.r_[True, (rows[1:] != rows[:-1]).any(axis=1)]] if len(rows) else rows


@dataclass(frozen=True)
class Baskets:
    """Order days: all orders of one user on one UTC day, in order of (user, day), items distinct, refunds not netted.

    Refunds come later than the basket, so a basket that nets them would know its own future.
    """

    user: Ints
    day: Ints
    """(B,) days since the epoch"""
    start: Ints
    """(B + 1,) items of basket b are ``item[start[b]:start[b + 1]]``"""
    item: Ints
    previous: Ints
    """(B,) day of the user's basket before, or -1"""

    @classmethod
    def of(cls, log: EventLog) -> Baskets:
        """All order days of a log."""
        ordered = log.behaviour == ORDER
        lines = distinct(log.user[ordered], log.time[ordered] // DAY, log.item[ordered])
        if not len(lines):
            empty = np.zeros(0, np.int64)
            return cls(user=empty, day=empty, start=np.zeros(1, np.int64), item=empty, previous=empty)
        first = np.flatnonzero(np.r_[True, (lines[1:, :2] != lines[:-1, :2]).any(axis=1)])
        user, day = lines[first, 0], lines[first, 1]
        same = np.r_[False, user[1:] == user[:-1]]
        return cls(
            user=user,
            day=day,
            start=np.r_[first, len(lines)],
            item=lines[:, 2],
            previous=np.where(same, np.r_[-1, day[:-1]], -1),
        )

    def __len__(self) -> int:
        return len(self.user)

    def kept(self, log: EventLog, within_days: int) -> npt.NDArray[np.bool_]:
        """(B,) whether anything of the basket was kept: a basket refunded whole within so many days is no net order.

        A refund counts against the latest earlier order day of the same user and item. For labels only: it looks ahead.
        """
        radix = np.int64(1 << 24)
        owner = np.repeat(np.arange(len(self)), np.diff(self.start))
        line = (self.user[owner] * len(log.items) + self.item) * radix + self.day[owner]
        order = np.argsort(line, kind="stable")
        line, owner = line[order], owner[order]
        if not len(line):
            return np.zeros(len(self), bool)
        key = (log.user * len(log.items) + log.item) * radix + log.time // DAY
        ordered, refunded = log.behaviour == ORDER, log.behaviour == REFUND
        quantity = np.bincount(np.searchsorted(line, key[ordered]), weights=log.quantity[ordered], minlength=len(line))
        place = np.searchsorted(line, key[refunded], side="right") - 1
        known = (place >= 0) & (line[place] // radix == key[refunded] // radix)
        known &= key[refunded] - line[place] < within_days
        back = np.bincount(place[known], weights=log.quantity[refunded][known], minlength=len(line))
        return np.bincount(owner, weights=quantity > back, minlength=len(self)) > 0

    def items_of(self, basket: int) -> Ints:
        """(n,) distinct item indices of one basket."""
        return self.item[self.start[basket] : self.start[basket + 1]]
