"""Item-kNN: items that were bought by the same customers, or on the same day, as what the user bought.

Deshpande and Karypis: Item-based top-N recommendation algorithms, TOIS 2004; shrinkage after Bell and Koren 2007.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse

from .protocol import Floats, Past
from .systems import Ask

GRID: Mapping[str, list[Any]] = {
    "unit": ["user", "basket"],
    "weighting": ["cosine", "tfidf"],
    "shrink": [0.0, 5.0, 20.0, 100.0],
    "neighbours": [20, 50, 200, 1000],
    "half_life": [60, 180, 365, 0],
    "itself": [0.0, 0.3, 1.0],
}
"""``itself``: similarity of an item to itself, which decides how much rebuying counts"""


def score(settings: Mapping[str, Any], cut: Past, seed: int) -> Callable[[Ask], Floats]:
    """The user's decayed counts times the similarities as of the date."""

    def answer(ask: Ask) -> Floats:
        near = similarity(ask.past, settings["unit"], settings["weighting"], settings["shrink"], settings["neighbours"])
        own = ask.past.decayed(settings["half_life"])[ask.rows]
        return (own @ near + settings["itself"] * own).toarray()  # type: ignore[no-any-return]

    return answer


def similarity(past: Past, unit: str, weighting: str, shrink: float, neighbours: int) -> sparse.csr_matrix:
    """(I, I) similarity of bought item (row) and other item (column), the best ``neighbours`` of each row, no diagonal."""
    together = _together(past, unit, weighting)
    norm = np.sqrt(together.diagonal())
    dense = together / (np.outer(norm, norm) + shrink + 1e-9)
    np.fill_diagonal(dense, 0.0)
    if neighbours < dense.shape[1]:
        least = -np.partition(-dense, neighbours - 1, axis=1)[:, neighbours - 1 : neighbours]
        dense[dense < least] = 0.0
    return sparse.csr_matrix(dense)


@lru_cache(maxsize=2)
def _together(past: Past, unit: str, weighting: str) -> Floats:
    """(I, I) weighted number of users or baskets that hold both items."""
    lines = past.lines
    if unit == "user":
        holder = past.counts.copy()
        holder.data = np.ones_like(holder.data)
    else:
        start = past.baskets.start
        owner = np.repeat(np.arange(len(past.baskets)), np.diff(start))
        holder = sparse.csr_matrix((np.ones(len(owner)), (owner, lines.item)), shape=(len(past.baskets), len(past.ids)))
    if weighting == "tfidf":
        # Who buys everything says little about what belongs together.
        size = np.asarray(holder.sum(axis=1)).ravel()
        holder = sparse.diags(np.log(len(past.ids) / np.maximum(size, 1))) @ holder
    return (holder.T @ holder).toarray()  # type: ignore[no-any-return]
