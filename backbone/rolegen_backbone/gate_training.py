"""Stage 2 of training: what is each part of the mixture worth, and how sure is it really?

The gate learns on the kept-out returns, which stage 1 never fitted. On its own training data a part that has learnt them
by heart looks better than it is, and takes the gate from those that generalise. All else is frozen and computed once, so
this is a small fit of few weights. It minimises what the pointers minimise (``losses.py``), over the mixture: by plain likelihood
the decoder would get half, for items that no slate of ten will hold. The pointers were taught to rank, not to be frequencies, so each also gets
a heat (temperature scaling, Guo et al. 2017, arXiv 1706.04599): unheated, tails of one pointer overtake heads of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .examples import Collator, Decision, sample_targets
from .losses import basket_loss
from .model import NOTHING, Backbone, PoolView, part_log_probability
from .train_config import TrainConfig

STEPS = 400
"""batches, whatever the number of returns: few weights need no more"""
LEARNING_RATE, WEIGHT_DECAY = 0.03, 0.1
TARGETS = 24
"""items of a basket that the shares are fitted to, at most"""


@dataclass(frozen=True)
class _Kept:
    """What is frozen of B decisions with S targets."""

    view: PoolView
    place_BS: Tensor
    """of each target in the pool, anywhere where it is not there"""
    there_2BS: Tensor
    """whether either pointer may choose it"""
    weight_BS: Tensor
    fixed_BS2: Tensor
    """log probability of each target under the decoder and the dense part"""


def fit_gate(model: Backbone, collate: Collator, returns: Sequence[Decision], config: TrainConfig) -> tuple[float, ...]:
    """Fit ``model.gate`` and the heat of its pointers; returns the mean share (4,) of each part over the returns."""
    model.eval()
    random = np.random.default_rng([config.seed, 400])
    kept = [
        _freeze(model, collate, returns[low : low + config.batch], random)
        for low in range(0, len(returns), config.batch)
    ]
    weights = [model.gate.weight, model.gate.bias, model.gate_heat]
    with torch.no_grad():  # a training that is resumed comes here again
        for weight in weights:
            weight.zero_()
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / STEPS)
        part = kept[random.integers(len(kept))]
        view = replace(part.view, heat_2=model.gate_heat.exp())
        log_pointer = view.log_probability()
        pointers = log_pointer.clamp(min=NOTHING).gather(2, part.place_BS.expand(2, -1, -1))
        pointers = pointers.masked_fill(~part.there_2BS, NOTHING).movedim(0, -1)
        parts = torch.cat([part.fixed_BS2, pointers], dim=-1) + model.log_gate(view, log_pointer)[:, None, :]
        optimiser.zero_grad()
        weight = part.weight_BS.sum(dim=1)
        lost = basket_loss(parts.logsumexp(dim=-1), part.weight_BS > 0, model.usual_basket, dim=1)
        ((lost * weight).sum() / weight.sum()).backward()
        optimiser.step()
    with torch.no_grad():
        views = [replace(part.view, heat_2=model.gate_heat.exp()) for part in kept]
        share = torch.cat([model.log_gate(view, view.log_probability()).exp() for view in views]).mean(dim=0)
    return tuple(float(value) for value in share)


@torch.no_grad()
def _freeze(model: Backbone, collate: Collator, decisions: Sequence[Decision], random: np.random.Generator) -> _Kept:
    batch = collate.batch(decisions)
    target, weight = sample_targets(decisions, random, most=TARGETS)
    view = model.point(batch)
    parts = part_log_probability(model, batch, model.encode(batch), view.log_probability(), target)
    place = batch.pool_BP[:, None, :] == target[:, :, None]
    there = (place & view.group_2BP.unsqueeze(2)).any(dim=-1)
    return _Kept(view, place.int().argmax(dim=-1), there, weight, parts[..., :2])
