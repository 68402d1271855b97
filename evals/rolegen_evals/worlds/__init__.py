"""Planted worlds: structural causal models of a shop whose roles and effects are known, because they were put there."""

from __future__ import annotations

from collections.abc import Mapping

from .goods import PLANTED, Goods
from .log import Planted, plant
from .pressed import PressedShop
from .shop import EASY, Knobs, Shop
from .staged import StagedShop
from .truth import true_effects

WORLDS: Mapping[str, type[Shop]] = {"staged": StagedShop, "pressed": PressedShop}
"""Everything is developed on ``staged``; nothing was ever tuned on ``pressed``."""

__all__ = ["EASY", "PLANTED", "WORLDS", "Goods", "Knobs", "Planted", "Shop", "plant", "true_effects"]
