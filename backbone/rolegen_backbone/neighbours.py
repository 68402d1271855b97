"""What goes with what, and what is bought again, as of a day: the memory-based side of a decision's features.

Cosine similarity of two items over the baskets that held them (item-kNN, Sarwar et al. 2001; shrunk as in Deshpande and
Karypis 2004), and the share of an item's buyers who bought it a second time. Counting for every single day would cost far
more than it tells, so both are taken at every :data:`STEP`-th day; a decision reads the latest that is not after its day.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Final

import numpy as np
from scipy import sparse

from .events import Baskets, EventLog, Floats, Ints

STEP: Final = 28
"""days between counts"""
LARGEST: Final = 400
"""baskets and users of more distinct items are a wholesaler's whole shop and say little about what belongs together"""
SHRINK: Final = 5.0
"""baskets added to each item's count, so that two items met once are no perfect pair"""
KEPT: Final = 1_500
"""neighbours kept of each item, fewer where all together would be more than :data:`ENTRIES`; the many faint ones matter,
since a customer who owns a hundred items is told by all of them together (``backbone/LOG.md``)"""
ENTRIES: Final = 20_000_000
USUAL: Final = 0.15, 20.0
"""prior share of buyers who buy an item again, and how many buyers that prior is worth"""
GAP: Final = 60
"""days without an order after which a customer returns rather than goes on"""
LATELY: Final = 120
"""days of such returns that are counted"""


@dataclass(frozen=True)
class Links:
    """Counts of all orders before ``day``."""

    day: int
    by_basket: sparse.csr_array
    """(I, I) cosine over baskets, at most :data:`KEPT` of each row, none with itself"""
    by_user: sparse.csr_array
    """the same over everything that a user ever bought"""
    again: Floats
    """(I,) share of buyers who bought it on a second day, shrunk"""
    buyers: Floats
    """(I,) log of 1 + the number of users who ever bought it"""
    returning: Floats
    """(I,) log popularity among baskets that ended a gap lately, relative to an even share"""


def near_to(similarity: sparse.csr_array, items: Ints, *weights: Floats) -> list[Floats]:
    """For each of ``weights`` the (I,) similarity to the ``items`` so weighted; weights are scaled to sum to 1.

    As ``weight @ similarity[items]``, of which scipy's own bookkeeping takes most of the time where items are few.
    """
    low, high = similarity.indptr[items].tolist(), similarity.indptr[items + 1].tolist()
    parts = [slice(start, end) for start, end in zip(low, high, strict=True)]
    column = np.concatenate([similarity.indices[part] for part in parts]) if parts else np.zeros(0, np.int64)
    cosine = np.concatenate([similarity.data[part] for part in parts]) if parts else np.zeros(0, np.float32)
    count = np.subtract(high, low).astype(np.int64)
    found = []
    for weight in weights:
        near, whole = np.zeros(similarity.shape[0], np.float32), float(weight.sum())
        if whole > 0:
            np.add.at(near, column, cosine * np.repeat((weight / whole).astype(np.float32), count))
        found.append(near)
    return found


class Neighbours:
    """:class:`Links` of one log at every :data:`STEP`-th day; counted when first asked for, the latest kept."""

    def __init__(self, log: EventLog, *, keep: int = 6) -> None:
        self._items, self._users = len(log.items), len(log.users)
        baskets = Baskets.of(log)
        order = np.argsort(baskets.day, kind="stable")
        size = np.diff(baskets.start)[order]
        self._day = np.repeat(baskets.day[order], size)
        self._basket = np.repeat(np.arange(len(order)), size)
        start = np.repeat(baskets.start[:-1][order] - np.r_[0, np.cumsum(size)[:-1]], size) if len(size) else self._day
        self._item = baskets.item[start + np.arange(len(self._day))] if len(size) else self._day
        self._user = np.repeat(baskets.user[order], size)
        gap = np.where(baskets.previous >= 0, baskets.day - baskets.previous, 0)[order]
        self._returned = np.repeat(gap >= GAP, size)
        self._known: OrderedDict[int, Links] = OrderedDict()
        self._keep, self._lock = keep, Lock()

    def at(self, day: int) -> Links:
        """The counts that a decision on ``day`` may read."""
        step = day // STEP * STEP
        with self._lock:
            if (known := self._known.get(step)) is not None:
                self._known.move_to_end(step)
                return known
        links = self._count(step)
        with self._lock:
            self._known[step] = links
            if len(self._known) > self._keep:
                self._known.popitem(last=False)
        return links

    def _count(self, day: int) -> Links:
        end = int(np.searchsorted(self._day, day, side="left"))
        held = _counted(self._basket[:end], self._item[:end], self._items)
        bought = _counted(self._user[:end], self._item[:end], self._items)
        buyers = np.bincount(bought.indices, minlength=self._items)
        twice = np.bincount(bought.indices[bought.data > 1], minlength=self._items)
        lately = self._item[:end][self._returned[:end] & (self._day[:end] >= day - LATELY)]
        returning = np.bincount(lately, minlength=self._items) + 0.5
        sold = max(int((buyers > 0).sum()), 1)
        prior, worth = USUAL
        return Links(
            day=day,
            by_basket=_cosine(held),
            by_user=_cosine(bought),
            again=((twice + prior * worth) / (buyers + worth)).astype(np.float32),
            buyers=np.log1p(buyers).astype(np.float32),
            returning=np.log(returning / (len(lately) + 0.5 * sold) * sold).astype(np.float32),
        )


def _cosine(counted: sparse.csr_array) -> sparse.csr_array:
    """Cosine between columns over the rows of at most :data:`LARGEST` distinct items, whatever their counts."""
    held = counted[np.diff(counted.indptr) <= LARGEST]
    held.data[:] = 1.0
    scale = sparse.diags_array(1 / np.sqrt(np.asarray(held.sum(axis=0)).ravel() + SHRINK))
    held = (held @ scale).tocsr()
    return _strongest((held.T @ held).tocsr())


def _counted(row: Ints, column: Ints, columns: int) -> sparse.csr_array:
    """Counts of (row, column) pairs, float32."""
    height = int(row.max()) + 1 if len(row) else 1
    counted = sparse.coo_array((np.ones(len(row), np.float32), (row, column)), shape=(height, columns)).tocsr()
    counted.sum_duplicates()
    return counted


def _strongest(matrix: sparse.csr_array) -> sparse.csr_array:
    """The :data:`KEPT` largest entries of each row off the diagonal; ties by column."""
    most = min(KEPT, max(ENTRIES // matrix.shape[0], 1))
    matrix.sort_indices()
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    off = row != matrix.indices
    row, column, value = row[off], matrix.indices[off], matrix.data[off]
    start = np.searchsorted(row, np.arange(matrix.shape[0] + 1))
    least = np.zeros(matrix.shape[0], np.float32)
    # Partitioning the long rows costs a thirtieth of sorting all entries.
    for one in np.flatnonzero(np.diff(start) > most):
        least[one] = np.partition(value[start[one] : start[one + 1]], -most)[-most]
    above, level = value > least[row], value == least[row]
    # How many of a row's entries at its least value still have room: those of the first columns.
    room = most - np.bincount(row[above], minlength=matrix.shape[0])
    before = np.r_[0, np.cumsum(level)]
    keep = above | (level & (before[:-1] - before[start[row]] < room[row]))
    return sparse.csr_array((value[keep], (row[keep], column[keep])), shape=matrix.shape)
