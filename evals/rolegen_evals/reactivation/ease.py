"""EASE: the linear item model with zero diagonal, in closed form.

Steck: Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, arXiv 1905.03375.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg import lapack

from rolegen_errors import InputError

from .protocol import Floats, Past
from .systems import Ask

GRID: Mapping[str, list[Any]] = {
    "penalty": [30.0, 100.0, 300.0, 1000.0, 3000.0],
    "learn_half_life": [-1, 365, 0],
    "ask_half_life": [-1, 90, 180, 365],
}
"""half-lives in days; 0 counts order days without decay, -1 only whether an item was ever bought"""


def score(settings: Mapping[str, Any], cut: Past, seed: int) -> Callable[[Ask], Floats]:
    """Weights learnt before the cut, applied to the user's history before the date; unknown items score 0."""
    weights = _weights(cut, float(settings["penalty"]), settings["learn_half_life"])

    def answer(ask: Ask) -> Floats:
        place = np.searchsorted(ask.past.ids, cut.ids)  # whatever was sold before the cut was sold before the date
        found = np.zeros((len(ask.users), len(ask.past.ids)))
        found[:, place] = _history(ask.past, settings["ask_half_life"])[ask.rows][:, place] @ weights
        return found

    return answer


def _history(past: Past, half_life: float) -> sparse.csr_matrix:
    if half_life >= 0:
        return past.decayed(half_life)
    ever = past.counts.copy()
    ever.data = np.ones_like(ever.data)
    return ever


@lru_cache(maxsize=4)
def _weights(past: Past, penalty: float, half_life: float) -> npt.NDArray[np.float32]:
    """(I, I): B = I - P diag(1 / diag P) with P the inverse of the regularised Gram matrix."""
    history = _history(past, half_life).astype(np.float32)
    gram = (history.T @ history).toarray() + np.float32(penalty) * np.eye(history.shape[1], dtype=np.float32)
    # Inverse by Cholesky, which costs half of a general one; only the lower triangle is filled.
    factor, failed = lapack.spotrf(gram, lower=1)
    inverse, failed_too = lapack.spotri(factor, lower=1)
    if failed or failed_too:
        raise InputError(f"EASE cannot invert its Gram matrix with a penalty of {penalty}", fix="raise the penalty")
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights  # type: ignore[no-any-return]
