"""Stage 3 of training: what are reasoned candidates worth?

Only the candidate part learns, on returns that stage 1 never fitted, so everything else about a decision is computed
once and kept. Each decision stands in the data with its own candidates, with a random half of them (candidate dropout),
and, at a lower weight, with candidates that know nothing of this user: another user's, random items, and *adversarial*
ones, the best items of another user under the model itself. Roles and scores of the made-up ones are those of real
candidates, so only their content gives them away.

Then the *guard* is measured: how much recall@10 falls on kept-out users when random or adversarial candidates are all
there is. Where it falls by more than :data:`TOLERATED`, the gate is closed further until it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from .events import EventLog, Floats, Ints
from .examples import NO_HINT, Collator, Decision, Hint, sample_targets
from .features import Features
from .model import Backbone, Batch, CandidateView, candidate_hits, part_log_probability, with_candidates
from .train_config import TrainConfig

EPOCHS, PATIENCE = 60, 8
LEARNING_RATE = 1e-2
HELD_OUT = 5
"""one user in five is kept out and chooses the epoch"""
KEPT = 0.5
"""share of a decision's candidates that candidate dropout leaves"""
TOLERATED = 0.005
"""relative fall of recall@10 that the guard allows: half of the 1 % that is promised, as few users measure it"""
CLOSE, TIGHTEST = 0.5, 12.0
"""step and end of the gate's logit when the guard closes it"""
TOP = 10
DRAWS = 3
"""made-up candidates of each kind for each kept-out decision, for a steadier measurement"""


@dataclass(frozen=True)
class CandidateFit:
    """What stage 3 reports; losses in nats per target item on the kept-out users, NaN where there was nothing to fit."""

    decisions: int
    """returns that had candidates"""
    loss: float
    loss_without: float
    fall_random: float
    """relative fall of recall@10 on the kept-out users with random candidates alone; negative for a gain"""
    fall_adversarial: float
    """the same with the best items of another user"""
    closed: float
    """by how much the guard lowered the gate's logit"""


@dataclass(frozen=True)
class _Kept:
    """Frozen facts of B decisions with S targets and C candidates."""

    view: CandidateView
    rest_BS: Tensor
    """log probability of each target under all parts but the candidates"""
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
    """Train the candidate scorer and its gate; the epoch with the lowest loss on kept-out users stays, then the guard.

    Without any reasoned candidate, or without users to keep out, the gate is shut: what was never tried is not trusted.
    """
    model.eval()  # all else is fixed, so its dropout would only be noise
    dormant = [d for d in returns if d.weight >= 1.0]
    others = [d for d in returns if d.weight < 1.0]
    chosen = (dormant + others[::-1])[: config.max_hints]
    reasoned = hints([(d.user, d.at) for d in chosen])
    learn_rows = [row for row, d in enumerate(chosen) if d.user % HELD_OUT]
    held_rows = [row for row, d in enumerate(chosen) if d.user % HELD_OUT == 0]
    some = sum(len(hint.item) > 0 for hint in reasoned)
    if not some or not learn_rows or not held_rows:
        nan = float("nan")
        with torch.no_grad():
            _gate_bias(model).fill_(-TIGHTEST)
        return CandidateFit(some, nan, nan, nan, nan, TIGHTEST)
    collate = Collator(log, model.config.history)
    random = np.random.default_rng([config.seed, 500])
    best_items = _best_items(model, collate, chosen, config.batch)
    swapped, useless, hostile = _made_up(model, best_items, chosen, reasoned, random)
    thinned = [_thin(hint, random) for hint in reasoned]

    def with_hints(rows: list[int], many: Sequence[tuple[Sequence[Hint], float]]) -> list[list[Decision]]:
        """For each of ``many`` (hints, share of the weight) the decisions with them."""
        pools = iter(
            features.pools([(chosen[row].user, chosen[row].at, given[row].item) for given, _ in many for row in rows])
        )
        return [
            [replace(chosen[row], pool=next(pools), hint=given[row], weight=chosen[row].weight * share) for row in rows]
            for given, share in many
        ]

    def keep(rows: list[int], many: Sequence[tuple[Sequence[Hint], float]]) -> list[_Kept]:
        kept = []
        for decisions in with_hints(rows, many):
            fixed = np.random.default_rng([config.seed, 501])
            parts = [decisions[low : low + config.batch] for low in range(0, len(decisions), config.batch)]
            kept += [_keep(model, collate, part, fixed) for part in parts]
        return kept

    noise = config.candidate_noise
    kinds = [
        (reasoned, (1 - noise) / 2),
        (thinned, (1 - noise) / 2),
        *((h, noise / 3) for h in (swapped, useless, hostile)),
    ]
    learn, held = keep(learn_rows, kinds), keep(held_rows, kinds)
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
    draws = [_made_up(model, best_items, chosen, reasoned, random) for _ in range(DRAWS)]
    fall_random, fall_adversarial, closed = close_gate(
        model,
        collate,
        [d for some in with_hints(held_rows, [(useless, 1.0) for _, useless, _ in draws]) for d in some],
        [d for some in with_hints(held_rows, [(hostile, 1.0) for _, _, hostile in draws]) for d in some],
    )
    own = keep(held_rows, [(reasoned, 1.0)])
    whole = sum(float(part.weight_BS.sum()) for part in own)
    without = -sum(float((part.rest_BS * part.weight_BS).sum()) for part in own) / whole
    return CandidateFit(some, _mean_loss(model, own), without, fall_random, fall_adversarial, closed)


def _made_up(
    model: Backbone,
    best: Sequence[Ints],
    chosen: Sequence[Decision],
    reasoned: Sequence[Hint],
    random: np.random.Generator,
) -> tuple[list[Hint], list[Hint], list[Hint]]:
    """Candidates of another user, random items, and the best items of another user, for each decision."""
    count, real = len(chosen), [hint for hint in reasoned if len(hint.item)]

    def like(items: Ints) -> Hint:
        some = real[random.integers(len(real))]
        order = random.permutation(max(len(items), len(some.item)))[: len(items)] % len(some.item)
        return Hint(items, some.role[order], some.score[order])

    stranger = random.permutation(count)
    for row in range(count):
        if chosen[stranger[row]].user == chosen[row].user:
            others = [k for k in range(count) if chosen[k].user != chosen[row].user]
            stranger[row] = others[random.integers(len(others))] if others else row
    swapped = [reasoned[k] for k in stranger]
    useless, hostile = [], []
    for row in range(count):
        size = min(len(real[row % len(real)].item), model.config.items)
        useless.append(like(random.choice(model.config.items, size, replace=False)))
        hostile.append(like(best[stranger[row]][:size]))
    return swapped, useless, hostile


@torch.no_grad()
def _best_items(model: Backbone, collate: Collator, decisions: Sequence[Decision], batch: int) -> list[Ints]:
    """Each decision's pool, best item first, as its pointers have it."""
    found = []
    for low in range(0, len(decisions), batch):
        part = collate.batch([replace(d, hint=NO_HINT) for d in decisions[low : low + batch]])
        view = model.point(part)
        log_pointer = view.log_probability()
        log_gate = model.log_gate(view, log_pointer)[:, -len(log_pointer) :]  # decoder and dense part come first
        order = (log_pointer + log_gate.T.unsqueeze(-1)).logsumexp(dim=0).argsort(dim=1, descending=True)
        sizes = part.pool_mask_BP.sum(dim=1).tolist()
        found += [item[:size].numpy() for item, size in zip(part.pool_BP.gather(1, order), sizes, strict=True)]
    return found


def _thin(hint: Hint, random: np.random.Generator) -> Hint:
    keep = random.random(len(hint.item)) < KEPT
    return replace(hint, item=hint.item[keep], role=hint.role[keep], score=hint.score[keep])


@torch.no_grad()
def _keep(model: Backbone, collate: Collator, decisions: Sequence[Decision], random: np.random.Generator) -> _Kept:
    batch = collate.batch(decisions)
    target, weight = sample_targets(decisions, random)
    hit = candidate_hits(batch, target)
    view, rest = _freeze(model, batch, target)
    return _Kept(view=view, rest_BS=rest, hit_BSC=hit, weight_BS=weight)


def _freeze(model: Backbone, batch: Batch, target_BS: Tensor) -> tuple[CandidateView, Tensor]:
    """What does not depend on the candidate part: its view, and (B, S) log probabilities under all other parts."""
    view = model.point(batch)
    log_pointer = view.log_probability()
    parts = part_log_probability(model, batch, model.encode(batch), log_pointer, target_BS)
    rest = (parts + model.log_gate(view, log_pointer)[:, None, :]).logsumexp(dim=-1)
    return model.view_candidates(batch, view, log_pointer), rest


def _log_probability(model: Backbone, kept: _Kept) -> Tensor:
    """(B, S) log probability of each target under the whole mixture."""
    return with_candidates(model, kept.rest_BS, kept.view, kept.hit_BSC)


def _loss(model: Backbone, kept: _Kept) -> tuple[Tensor, Tensor]:
    """Summed weighted loss and total weight."""
    return -(_log_probability(model, kept) * kept.weight_BS).sum(), kept.weight_BS.sum()


@torch.no_grad()
def _mean_loss(model: Backbone, parts: Sequence[_Kept]) -> float:
    pairs = [_loss(model, part) for part in parts]
    return float(sum(float(loss) for loss, _ in pairs) / sum(float(total) for _, total in pairs))


@torch.no_grad()
def close_gate(
    model: Backbone, collate: Collator, useless: Sequence[Decision], hostile: Sequence[Decision]
) -> tuple[float, float, float]:
    """Lower the gate's bias until neither kind of candidates costs more recall@10 than is tolerated.

    Both kinds are decisions with their targets. Returns the relative fall of recall@10 for each, and by how much the
    gate's logit was lowered.
    """
    bias = _gate_bias(model)
    rankings = [_Ranking(model, collate, decisions) for decisions in (useless, hostile)]
    closed = 0.0
    while True:
        falls = [ranking.fall(model) for ranking in rankings]
        if max(falls) <= TOLERATED or closed >= TIGHTEST:
            return falls[0], falls[1], closed
        bias -= CLOSE
        closed += CLOSE


def _gate_bias(model: Backbone) -> Tensor:
    return cast(nn.Linear, model.candidate_gate[-1]).bias


class _Ranking:
    """Recall@10 of decisions with and without their candidates, ranked over each decision's pool and candidates.

    Items that only the decoder knows are not ranked: that would be a beam search for each setting of the gate.
    """

    def __init__(self, model: Backbone, collate: Collator, decisions: Sequence[Decision], batch: int = 32) -> None:
        parts = [decisions[low : low + batch] for low in range(0, len(decisions), batch)]
        self._parts = [self._rest(model, collate, part) for part in parts]
        self._without = np.concatenate([_recall(kept.rest_BS, wanted) for kept, wanted in self._parts])

    def fall(self, model: Backbone) -> float:
        """Relative fall of the mean recall@10 through the candidates; 0 where nothing is found without them."""
        found = np.concatenate([_recall(_log_probability(model, kept), wanted) for kept, wanted in self._parts])
        before = float(self._without.mean())
        return (before - float(found.mean())) / before if before > 0 else 0.0

    @staticmethod
    def _rest(model: Backbone, collate: Collator, decisions: Sequence[Decision]) -> tuple[_Kept, list[Floats]]:
        batch = collate.batch(decisions)
        place = torch.arange(batch.pool_BP.shape[1])
        real = place < torch.tensor([len(d.pool.item) for d in decisions])[:, None]
        view, rest = _freeze(model, batch, batch.pool_BP)
        hit = (batch.candidate_BC[:, None, :] == place[:, None]) & batch.candidate_mask_BC[:, None, :]
        kept = _Kept(
            view=view,
            rest_BS=rest.masked_fill(~real, -torch.inf),
            hit_BSC=hit & real[:, :, None],
            weight_BS=real.float(),
        )
        # Recall counts at most ten wanted items, as a slate of ten can hold no more.
        wanted = [
            (np.isin(items, d.target) & known).astype(np.float32) / min(TOP, len(d.target))
            for items, known, d in zip(batch.pool_BP.numpy(), real.numpy(), decisions, strict=True)
        ]
        return kept, wanted


def _recall(log_probability_BP: Tensor, wanted: list[Floats]) -> Floats:
    """(B,) recall@10 by decision."""
    best = log_probability_BP.topk(min(TOP, log_probability_BP.shape[1]), dim=1).indices.numpy()
    return np.array([value[top].sum() for value, top in zip(wanted, best, strict=True)], np.float32)
