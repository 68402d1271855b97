"""Stage 2 of training: what are reasoned candidates worth?

Only the candidate part learns, on returns that stage 1 never fitted, so everything else about a decision is computed
once and kept. Each decision stands twice in the data: with its own candidates and, at a lower weight, with those of
another user, so that useless and hostile candidates are known as such.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .events import EventLog
from .examples import Collator, Decision, Hint, sample_targets
from .features import Features
from .model import Backbone, CandidateView, item_log_probability

if TYPE_CHECKING:
    from .training import TrainConfig

EPOCHS, PATIENCE = 60, 8
LEARNING_RATE = 1e-2
HELD_OUT = 5
"""one user in five is kept out and chooses the epoch"""


@dataclass(frozen=True)
class CandidateFit:
    """What stage 2 reports; losses in nats per target item on the kept-out users, NaN where there was nothing to fit."""

    decisions: int
    """returns that had candidates"""
    loss: float
    loss_without: float


@dataclass(frozen=True)
class _Kept:
    """Frozen facts of B decisions with S targets and C candidates."""

    view: CandidateView
    rest_BS: Tensor
    """log probability of each target under decoder and pool alone"""
    hit_BSC: Tensor
    weight_BS: Tensor


def fit_candidates(
    model: Backbone,
    log: EventLog,
    features: Features,
    returns: Sequence[Decision],
    hints: Callable[[Sequence[tuple[int, int]]], list[Hint]],
    config: TrainConfig,
    progress: Callable[[str, int, int], None],
) -> CandidateFit:
    """Train the candidate scorer and its gate; the epoch with the lowest loss on kept-out users stays."""
    model.eval()  # all else is fixed, so its dropout would only be noise
    dormant = [d for d in returns if d.weight >= 1.0]
    others = [d for d in returns if d.weight < 1.0]
    chosen = (dormant + others[::-1])[: config.max_hints]
    reasoned = hints([(d.user, d.at) for d in chosen])
    random = np.random.default_rng([config.seed, 500])
    swapped = [reasoned[k] for k in random.permutation(len(reasoned))]
    learn_rows = [row for row, d in enumerate(chosen) if d.user % HELD_OUT]
    held_rows = [row for row, d in enumerate(chosen) if d.user % HELD_OUT == 0]
    some = sum(len(hint.item) > 0 for hint in reasoned)
    if not some or not learn_rows or not held_rows:
        return CandidateFit(some, float("nan"), float("nan"))
    collate = Collator(log, model.config.history)

    def keep(rows: list[int], given: Sequence[Hint], share: float) -> list[_Kept]:
        decisions = [
            replace(d, pool=features.pool(d.user, d.at, given[row].item), hint=given[row], weight=d.weight * share)
            for row in rows
            for d in (chosen[row],)
        ]
        fixed = np.random.default_rng([config.seed, 501])
        parts = [decisions[low : low + config.batch] for low in range(0, len(decisions), config.batch)]
        return [_keep(model, collate, part, fixed) for part in parts]

    noise = config.candidate_noise
    learn = [*keep(learn_rows, reasoned, 1 - noise), *keep(learn_rows, swapped, noise)]
    held = [*keep(held_rows, reasoned, 1 - noise), *keep(held_rows, swapped, noise)]
    weights = [weight for name, weight in model.named_parameters() if name.startswith(("candidate", "role_in"))]
    optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.01)
    best, since, kept = _mean_loss(model, held), 0, [weight.detach().clone() for weight in weights]
    for epoch in range(EPOCHS):
        for number in random.permutation(len(learn)):
            loss, total = _loss(model, learn[number])
            optimiser.zero_grad()
            (loss / total).backward()
            optimiser.step()
        measured = _mean_loss(model, held)
        since += 1
        if measured < best:
            best, since, kept = measured, 0, [weight.detach().clone() for weight in weights]
        progress("candidates", epoch + 1, EPOCHS)
        if since >= PATIENCE:
            break
    progress("candidates", EPOCHS, EPOCHS)
    with torch.no_grad():
        for weight, value in zip(weights, kept, strict=True):
            weight.copy_(value)
    own = keep(held_rows, reasoned, 1.0)
    whole = sum(float(part.weight_BS.sum()) for part in own)
    without = -sum(float((part.rest_BS * part.weight_BS).sum()) for part in own) / whole
    return CandidateFit(some, _mean_loss(model, own), without)


@torch.no_grad()
def _keep(model: Backbone, collate: Collator, decisions: Sequence[Decision], random: np.random.Generator) -> _Kept:
    batch = collate.batch(decisions)
    target, weight = sample_targets(decisions, random)
    encoded = model.encode(batch)
    log_pool, relative = model.point(batch, encoded)
    view = model.view_candidates(batch, log_pool, relative)
    candidate_item = batch.pool_BP.gather(1, batch.candidate_BC)
    hit = (candidate_item[:, None, :] == target[:, :, None]) & batch.candidate_mask_BC[:, None, :]
    return _Kept(
        view=view,
        rest_BS=item_log_probability(model, batch, encoded, log_pool, target),
        hit_BSC=hit,
        weight_BS=weight,
    )


def _loss(model: Backbone, kept: _Kept) -> tuple[Tensor, Tensor]:
    """Summed weighted loss and total weight."""
    share, log_candidate = model.weigh_candidates(kept.view)
    pointed = torch.logsumexp(log_candidate[:, None, :].masked_fill(~kept.hit_BSC, -1e4), dim=-1)
    log_share = torch.log(share.clamp(min=1e-30)).unsqueeze(1)
    log_probability = torch.logaddexp(kept.rest_BS + torch.log1p(-share).unsqueeze(1), pointed + log_share)
    return -(log_probability * kept.weight_BS).sum(), kept.weight_BS.sum()


@torch.no_grad()
def _mean_loss(model: Backbone, parts: Sequence[_Kept]) -> float:
    pairs = [_loss(model, part) for part in parts]
    return float(sum(float(loss) for loss, _ in pairs) / sum(float(total) for _, total in pairs))
