"""Item-kNN over sequences: the baseline, and the pointer of our hybrid.

Deshpande and Karypis: Item-based top-N recommendation algorithms, TOIS 2004; shrinkage after Bell and Koren 2007. Sparse
throughout, since a dense similarity of this catalogue takes a gigabyte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from .protocol import SIZE, Floats, Ints, best

ROWS = 2000
"""users or items scored at once"""


@dataclass(frozen=True)
class Neighbours:
    """How near two items are, and how a history is summed up."""

    idf_power: float = 0.5
    """a user counts by this power of the inverse frequency of being in the history"""
    shrink: float = 20.0
    """added to both norms, so that two items which share their only user are not taken for twins"""
    decay: float = 0.65
    """weight of an item for each item that came after it"""
    text: float = 0.0
    """weight of the cosine of titles"""


PLAIN = Neighbours(idf_power=1.0, shrink=0.0, decay=0.6)
"""TF-IDF and recency, without tuning"""


def incidence(histories: Sequence[Ints], items: int, decay: float = 1.0) -> sparse.csr_matrix:
    """(U, I) with ``decay ** age`` at the items of each history, age 0 being the last one."""
    length = np.array([len(own) for own in histories])
    value = np.concatenate([decay ** np.arange(n - 1, -1, -1.0) for n in length]).astype(np.float32)
    user = np.repeat(np.arange(len(length)), length)
    return sparse.csr_matrix((value, (user, np.concatenate(histories))), shape=(len(length), items))


def similarity(train: Sequence[Ints], items: int, how: Neighbours, text_IE: Floats | None = None) -> sparse.csr_matrix:
    """(I, I) cosine of shared users, no diagonal; plus, with ``how.text``, that of titles' unit rows ``text_IE``."""
    held = incidence(train, items)
    weight = np.log(items / np.maximum(np.diff(held.indptr), 1)) ** how.idf_power
    held = sparse.diags(weight.astype(np.float32)) @ held
    both = (held.T @ held).tocsr()
    norm = np.sqrt(both.diagonal()) + how.shrink
    scale = sparse.diags((1 / np.where(norm > 0, norm, 1)).astype(np.float32))
    near = (scale @ both @ scale).tocsr()
    near = near - sparse.diags(near.diagonal())
    near.eliminate_zeros()
    if how.text and text_IE is not None:
        near = near + how.text * text_neighbours(text_IE)
    return near.tocsr()


def text_neighbours(text_IE: Floats, keep: int = 50) -> sparse.csr_matrix:
    """(I, I) cosine of each item with the ``keep`` items of nearest title."""
    rows, columns, values = [], [], []
    keep = min(keep, len(text_IE) - 1)
    for begin in range(0, len(text_IE), ROWS):
        score = text_IE[begin : begin + ROWS] @ text_IE.T
        own = np.arange(len(score))
        score[own, begin + own] = 0
        near = np.argpartition(-score, keep, axis=1)[:, :keep]
        rows.append(np.repeat(begin + own, keep))
        columns.append(near.ravel())
        values.append(np.take_along_axis(score, near, axis=1).ravel().clip(min=0))
    place = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(values), place), shape=(len(text_IE), len(text_IE)))


def knn_slates(train: Sequence[Ints], known: Sequence[Ints], items: int, how: Neighbours, *, masked: bool) -> Ints:
    """Slates (U, SIZE) of the baseline."""
    near = similarity(train, items, how)
    slates = np.empty((len(known), SIZE), np.int64)
    for begin in range(0, len(known), ROWS):
        part = known[begin : begin + ROWS]
        score = (incidence(part, items, how.decay) @ near).toarray()
        slates[begin : begin + ROWS] = best(score, part, masked=masked)
    return slates
