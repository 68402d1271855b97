"""Ids of events that depend on the events alone: the same event has the same id on every machine and in every longer log.

An id is a 63-bit digest of user, item, time, behaviour, quantity, price and session. Each distinct text is digested once
(BLAKE2b); the rest is integer arithmetic over whole columns, with the finaliser of SplitMix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014), which is a bijection, as the mixing step. Nothing here
depends on the version of a library or on the byte order of the machine.

An id names an event together with its user. Events of one user with equal digests (equal in all of the above, or a
collision) are told apart in time order: the first keeps its digest, the next one is digested once more. What comes later
in time never changes an earlier id.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import polars as pl

from .rows import BEHAVIOURS

_Words = npt.NDArray[np.uint64]

ID_BITS = 63
"""ids fit the signed 64-bit integers of Parquet and SQL; in a log of 100 million events two of different users are equal
with a chance of 5 in 10,000, and two of one user practically never"""
_STEP = np.uint64(0x9E3779B97F4A7C15)
_NO_PRICE = np.uint64(0xFFFFFFFF)
"""bits of a NaN, which no price has"""


class EventIds:
    """Makes ids from events in numbers, as the spool holds them.

    Args:
        users, items, sessions: the text behind each number, from 0 on.
        bits: length of an id; shorter ones are for tests of collisions.
    """

    def __init__(self, users: pl.Series, items: pl.Series, sessions: pl.Series, *, bits: int = ID_BITS) -> None:
        self._users, self._items, self._sessions = digests(users), digests(items), digests(sessions)
        self._behaviours = digests(pl.Series(BEHAVIOURS))
        self._shift = np.uint64(64 - bits)

    def of(self, events: pl.DataFrame) -> npt.NDArray[np.int64]:
        """(N,) ids of events in the order of user, time and input; no user's events may lie in two calls."""
        user = events["user"].to_numpy()
        quantity = _bits(events["quantity"]) << np.uint64(32)
        price = np.where(events["price"].is_null().to_numpy(), _NO_PRICE, _bits(events["price"].fill_null(0.0)))
        session = self._sessions[events["session"].fill_null(0).to_numpy()] if len(self._sessions) else np.uint64(0)
        none = events["session"].is_null().to_numpy()
        found = self._users[user]
        for word in (
            self._items[events["item"].to_numpy()],
            events["time"].to_physical().cast(pl.Int64).to_numpy().view(np.uint64),
            quantity | price,
            np.where(none, np.uint64(0), session) ^ self._behaviours[events["behaviour"].to_numpy()],
        ):
            found = _mix(found + word)
        return self._apart(found, user)

    def _apart(self, found: _Words, user: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """Ids from digests, digested again where an earlier event of the same user has the id already."""
        while True:
            ids: npt.NDArray[np.int64] = (found >> self._shift).view(np.int64)
            ordered = np.sort(ids)
            suspects = ordered[1:][ordered[1:] == ordered[:-1]]
            if not len(suspects):
                return ids
            rows = np.flatnonzero(np.isin(ids, suspects))
            # Stable, so that the rows of one user and id stay in time order.
            rows = rows[np.lexsort((ids[rows], user[rows]))]
            again = (ids[rows][1:] == ids[rows][:-1]) & (user[rows][1:] == user[rows][:-1])
            if not again.any():
                return ids
            found[rows[1:][again]] = _mix(found[rows[1:][again]])


def digests(texts: pl.Series) -> _Words:
    """(N,) 64-bit digests of texts."""
    whole = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts.to_list())
    return np.frombuffer(whole, "<u8").astype(np.uint64)


def _bits(numbers: pl.Series) -> _Words:
    """The bits of single-precision numbers; zero has one sign only."""
    return (numbers.cast(pl.Float32).to_numpy() + np.float32(0)).view(np.uint32).astype(np.uint64)


def _mix(words: _Words) -> _Words:
    """SplitMix64's next output from each word; arithmetic modulo 2^64."""
    mixed = words + _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
