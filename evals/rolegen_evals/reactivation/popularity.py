"""Popularity: what most customers bought lately, the same for everybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .protocol import Floats, Past
from .systems import Ask

GRID: Mapping[str, list[Any]] = {"days": [3, 5, 7, 10, 14, 21, 28, 42, 56, 91, 182, 364]}


def score(settings: Mapping[str, Any], cut: Past, seed: int) -> Callable[[Ask], Floats]:
    """Customer-days of the last ``days`` days."""

    def answer(ask: Ask) -> Floats:
        return np.tile(ask.past.sold(settings["days"]), (len(ask.users), 1))

    return answer
