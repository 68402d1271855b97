"""How likely each item of a drawn slate's list is at each place, whatever stands above it: what item-position weights divide by.

``SlateItem.propensity`` is the probability given the items above. The one over all that may stand above has no short formula for
drawing without replacement; it is the mean of the given ones over many drawn slates (Rao and Blackwell: the probabilities are
averaged, not the draws), which is exact at the first place. It depends on ranks alone, so one table serves all slates of a kind.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rolegen_graphs.guard import half
from rolegen_graphs.words import Draw

Floats = npt.NDArray[np.float64]
DRAWS = 20_000
"""slates that are averaged over: an error below 1 % for items near their own rank, up to a tenth for the best items far down the
slate, where they are hardly ever left; ``evals/LOG.md`` has figures"""


def place_probabilities(draw: Draw, size: int) -> Floats:
    """(len(draw.items), size) probability of each listed item at each place; every column adds up to 1."""
    late = tuple(rank for rank, item in enumerate(draw.items) if item in set(draw.late))
    return _table(draw.temperature, len(draw.items), late, size)


@lru_cache(maxsize=512)
def _table(temperature: float, listed: int, late: tuple[int, ...], size: int) -> Floats:
    random = np.random.default_rng([listed, size])
    log_weight = -np.log(np.arange(1, listed + 1)) / temperature
    left_SR = np.ones((DRAWS, listed), bool)
    early = np.ones(listed, bool)
    early[list(late)] = False
    found = np.zeros((listed, size))
    for place in range(size):
        may_SR = left_SR.copy()
        if place < half(size):
            waiting = left_SR & early
            may_SR = np.where(waiting.any(axis=1, keepdims=True), waiting, left_SR)
        logit_SR = np.where(may_SR, log_weight, -np.inf)
        chance_SR = np.exp(logit_SR - logit_SR.max(axis=1, keepdims=True))
        chance_SR /= chance_SR.sum(axis=1, keepdims=True)
        found[:, place] = chance_SR.mean(axis=0)
        pick = (chance_SR.cumsum(axis=1) < random.random((DRAWS, 1))).sum(axis=1).clip(max=listed - 1)
        left_SR[np.arange(DRAWS), pick] = False
    found.setflags(write=False)
    return found
