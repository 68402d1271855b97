"""What stage 1 minimises: every part of the mixture on its own, so that each is as good as it can be alone.

Fitting the mixture as a whole lets the part that overfits fastest claim the gate and leaves the others without practice.
What each part is worth is learnt afterwards, on returns that none of them was fitted on (``gate_training.py``).

The pointers learn from the whole basket by two losses of equal weight: that the item most trusted is one of the basket
(minus log of the probability that the basket has in all: the first place of a slate), and that every item of the basket
ranks high (minus the sum of their log probabilities, in which an item of a large basket counts as much as one of a small
one: the rest of the slate). Each head of a pointer learns alone. Decoder and dense part learn from a few sampled items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .model import NOTHING, Backbone, Batch, Encoded, PoolView


def parts_loss(model: Backbone, batch: Batch, target_BS: Tensor, weight_BS: Tensor, hit_BP: Tensor) -> Tensor:
    """Weighted sum over decisions of the losses of all parts but the candidates, nats.

    Args:
        target_BS: sampled items of the basket.
        weight_BS: of the sampled items; a decision's add up to its own weight.
        hit_BP: which items of the pool the basket holds.
    """
    config = model.config
    loss = target_BS.new_zeros((), dtype=torch.float32)
    if config.use_own or config.use_market:
        lost = pointer_loss(model.point(batch), hit_BP, model.usual_basket)
        used = lost.new_tensor([float(config.use_own), float(config.use_market)])
        loss = loss + (lost * used[:, None] * weight_BS.sum(dim=1)).sum()
    if config.use_decoder or config.use_dense:
        encoded: Encoded = model.encode(batch)
        if config.use_decoder:
            loss = loss - (model.decode_targets(encoded, target_BS).float() * weight_BS).sum()
        if config.use_dense:
            loss = loss - (model.log_dense(encoded.state_BD).gather(1, target_BS) * weight_BS).sum()
    return loss


def pointer_loss(view: PoolView, hit_BP: Tensor, usual: Tensor) -> Tensor:
    """(2, B) loss of the own and the market pointer, mean over heads; 0 where the basket holds nothing of a group."""
    hit = (view.group_2BP & hit_BP).unsqueeze(-1)
    lost = basket_loss(view.by_head(), hit, usual, dim=2)
    return torch.where(hit.any(dim=2), lost, 0.0).mean(dim=-1)


def basket_loss(log_probability: Tensor, hit: Tensor, usual: Tensor, *, dim: int) -> Tensor:
    """The two losses of a basket, over the items along ``dim``; ``hit`` says which of them the basket holds.

    ``usual`` is how many items a basket usually has: it brings the sum over a basket to the size of the other loss.
    """
    basket = log_probability.masked_fill(~hit, NOTHING).logsumexp(dim=dim)
    each = torch.where(hit, log_probability, 0.0).sum(dim=dim) / usual
    return -(basket + each) / 2
