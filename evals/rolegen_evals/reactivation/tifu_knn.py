"""TIFU-KNN: temporal item frequency of the user, mixed with that of the nearest users.

Hu, He, Gao and Zhang: Modeling Personalized Item Frequency Information for Next-basket Recommendation, SIGIR 2020,
arXiv 2006.00556.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import sparse

from .protocol import Floats, Past
from .systems import Ask

GRID: Mapping[str, list[Any]] = {
    "group": [1, 2, 3, 5, 7],
    "within": [0.7, 0.8, 0.9, 1.0],
    "between": [0.5, 0.7, 0.8, 0.9, 1.0],
    "neighbours": [50, 100, 300, 600],
    "own": [0.2, 0.5, 0.7, 0.9],
}


def score(settings: Mapping[str, Any], cut: Past, seed: int) -> Callable[[Ask], Floats]:
    """``own`` times the user's vector plus the rest times the mean of the nearest users' vectors (Euclidean)."""

    def answer(ask: Ask) -> Floats:
        vector = user_vectors(ask.past, settings["group"], settings["within"], settings["between"])
        mine, square = vector[ask.rows], np.asarray(vector.multiply(vector).sum(axis=1)).ravel()
        distance = square - 2 * (mine @ vector.T).toarray()  # the user's own square shifts a whole row
        distance[np.arange(len(ask.rows)), ask.rows] = np.inf
        count = min(settings["neighbours"], distance.shape[1] - 1)
        near = np.argpartition(distance, count - 1, axis=1)[:, :count]
        owner = np.repeat(np.arange(len(near)), count)
        share = sparse.csr_matrix((np.full(near.size, 1 / count), (owner, near.ravel())), shape=distance.shape)
        mixed = settings["own"] * mine + (1 - settings["own"]) * (share @ vector)
        return mixed.toarray()  # type: ignore[no-any-return]

    return answer


def user_vectors(past: Past, group: int, within: float, between: float) -> sparse.csr_matrix:
    """(U, I): baskets in groups of ``group``, counted back from the last; an item weighs ``within`` to the power of the
    later baskets of its group, a group ``between`` to the power of the later groups; both levels are means."""
    baskets, lines = past.baskets, past.lines
    total = np.bincount(baskets.user, minlength=len(past.log.users))
    first = np.searchsorted(baskets.user, baskets.user, side="left")
    back = total[baskets.user] - 1 - (np.arange(len(baskets)) - first)
    groups = -(-total[baskets.user] // group)
    size = np.minimum(group, total[baskets.user] - back // group * group)
    weight = within ** (back % group) * between ** (back // group) / (size * groups)
    return past.matrix(np.repeat(weight, np.diff(baskets.start))[: len(lines.user)])
