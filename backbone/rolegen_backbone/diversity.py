"""Slates that differ: from user to user by what is their own, and within themselves by category.

The most probable items are much the same for everybody: what sells. Re-ranking keeps the first place and gives each
further one to the item with the greatest

    (rest + own * rarity ** weight) / (1 + alike) ** (weight / 3)

``own`` is what the pointer over the user's own items adds to the item's probability and ``rest`` what all other parts add;
``rarity`` says how many times more the bestseller sells, and ``alike`` how many items of the same category stand above.
So a rare habit comes before a common one, and both before what the market alone suggests, whose order stays: without
own items only the categories count. What it costs stands in ``evals/LOG.md``.

One place after the other, as in maximal marginal relevance (Carbonell and Goldstein, 1998); an inverse power of popularity
is how popularity-stratified recall weighs a hit (Steck, 2011). The rest is this project's own.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

from .decoding import Decoded
from .events import Floats
from .model import PARTS

DEPTH: Final = 100
"""items of a decoded list that are looked at: with fewer, the same coverage costs more hits"""
RAREST: Final = 100.0
"""the greatest rarity: what sells less is too seldom sold for its sales to tell more, in a shop of any size"""


def rarity(log_share: Floats) -> Floats:
    """(I,) how many times more the bestseller sells than each item, from 1 to :data:`RAREST`.

    Args:
        log_share: (I,) logarithm of each item's share of sales, on any common scale.
    """
    return np.exp(np.minimum(log_share.max() - log_share, math.log(RAREST)))


def diversified(
    found: Decoded,
    rarity_BN: Tensor,
    category_BN: Tensor,
    *,
    size: int,
    weight: float,
    bonus_BN: Tensor | None = None,
) -> Decoded:
    """The ``size`` items of each decoded list that the rule above chooses, in its order.

    Probabilities, parts and entropy are those that were decoded, so probabilities need not fall from place to place.

    Args:
        rarity_BN: of each decoded item.
        category_BN: a number for the category of each decoded item.
        weight: above 0; the greater, the more probability is given away.
        bonus_BN: nats by which the list was ordered beside probability (``bonus.py``).
    """
    probability = found.parts_BNM.sum(dim=-1)
    value = probability + found.parts_BNM[..., PARTS.index("own")] * (rarity_BN**weight - 1)
    if bonus_BN is not None:
        value = value * (bonus_BN - bonus_BN.amax(dim=1, keepdim=True)).exp()
    alike = torch.zeros_like(value)
    open_ = torch.where(found.item_BN >= 0, value, -1.0)  # places without an item go last, each once
    chosen = [torch.zeros_like(found.item_BN[:, :1])]
    for _ in range(1, min(size, value.shape[1])):
        open_ = open_.scatter(1, chosen[-1], -torch.inf)
        alike += category_BN == category_BN.gather(1, chosen[-1])
        discount = torch.where(open_ > 0, (1 + alike) ** (weight / 3), 1.0)
        chosen.append((open_ / discount).argmax(dim=1, keepdim=True))
    return found.at(torch.cat(chosen, dim=1))
