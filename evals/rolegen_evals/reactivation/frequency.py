"""Personal purchase frequency with exponential decay: what one has bought most often, and lately."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .protocol import Floats, Past
from .systems import Ask

GRID: Mapping[str, list[Any]] = {"half_life": [30, 60, 90, 120, 180, 270, 365, 540, 730, 1095, 2190, 0]}
"""days; 0 stands for no decay"""


def score(settings: Mapping[str, Any], cut: Past, seed: int) -> Callable[[Ask], Floats]:
    """Sum over the user's order days with the item of 2^(-age / half_life)."""

    def answer(ask: Ask) -> Floats:
        return ask.past.decayed(settings["half_life"])[ask.rows].toarray()  # type: ignore[no-any-return]

    return answer
