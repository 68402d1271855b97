"""Beam search over the trie for the whole mixture.

Each part of the mixture is a distribution over items, so each has a mass on every prefix, and the mixture's mass on a
prefix is the gated sum. The decoder's mass comes from its softmax, the pointers' by adding up their items below the
prefix. With a beam at least as wide as the catalogue the search is exhaustive; items that are not available never enter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .model import Backbone, Batch, Encoded, Mixture

FLOOR = -1e4
"""log probability of nothing, finite so that gates times nothing stays a number"""


@dataclass(frozen=True)
class Decoded:
    """The best items of B decisions, best first; rows with fewer than N available items are padded with -1."""

    item_BN: Tensor
    log_probability_BN: Tensor
    parts_BN3: Tensor
    """probability that decoder, pool and candidates each contribute; they add up to the item's probability"""
    entropy_B: Tensor
    """nats, over the found items and the rest as one more item"""


def pointed(log_pointer: Tensor, item: Tensor, available: Tensor) -> Tensor:
    """Probabilities (B, P) of a pointer with unavailable items taken out and the rest normalised again."""
    mass = log_pointer.exp() * available[item]
    return mass / mass.sum(dim=-1, keepdim=True).clamp(min=1e-12)


@torch.no_grad()
def beam_search(
    model: Backbone,
    batch: Batch,
    encoded: Encoded,
    mixture: Mixture,
    *,
    alive: list[Tensor],
    available: Tensor,
    size: int,
    beam: int,
) -> Decoded:
    """The ``size`` most probable available items of each decision.

    Args:
        alive: ``Trie.alive`` of ``available``, (I,) bool.
        beam: prefixes kept on each level; at least ``size``.
    """
    trie, L = model.trie, len(model.config.sizes)
    B = encoded.state_BD.shape[0]
    beam = max(beam, size)
    candidate_item = batch.pool_BP.gather(1, batch.candidate_BC)
    pool_mass = pointed(mixture.log_pool_BP, batch.pool_BP, available)
    candidate_mass = pointed(
        mixture.log_candidate_BC.masked_fill(~batch.candidate_mask_BC, FLOOR), candidate_item, available
    )
    pointers = [(batch.pool_BP, pool_mass), (candidate_item, candidate_mass)]
    gate = mixture.log_gate_B3[:, :, None, None]

    node = torch.zeros(B, 1, dtype=torch.long)
    decoder = torch.zeros(B, 1)
    code: Tensor | None = None
    cache: list[tuple[Tensor, Tensor]] = []
    events = model.begin_decoding(encoded)
    parts = torch.zeros(B, 3, 1)
    total = torch.zeros(B, 1)
    for level in range(L):
        K, V = node.shape[1], model.config.sizes[level]
        safe = node.clamp(min=0)
        allowed = trie.child[level][safe] >= 0
        if model.config.use_decoder:
            logits, cache = model.step(encoded, events, code, level, cache)
            # A padded beam allows nothing; its softmax is of no use and replaced.
            step = logits.masked_fill(~allowed, FLOOR).log_softmax(dim=-1)
        else:
            step = torch.zeros(B, K, V)
        options = [decoder.unsqueeze(-1) + step]
        for item, mass in pointers:
            # Which beam holds the pointer's item, and under which code it goes on.
            held = trie.node[item, level][:, :, None] == node[:, None, :]
            place = held.int().argmax(dim=-1) * V + model.codes[item, level]
            found = torch.zeros(B, K * V).scatter_add_(1, place, mass * held.any(dim=-1))
            options.append(found.clamp(min=1e-30).log().view(B, K, V))
        part = torch.stack(options, dim=1) + gate
        open_code = alive[level][safe] & (node >= 0).unsqueeze(-1)
        score = part.logsumexp(dim=1).masked_fill(~open_code, -torch.inf).view(B, K * V)
        keep = min(beam, K * V)
        total, best = score.topk(keep, dim=-1)
        parent, code = best // V, best % V
        dead = total == -torch.inf
        node = trie.child[level][safe.gather(1, parent), code].masked_fill(dead, -1)
        decoder = options[0].view(B, K * V).gather(1, best)
        parts = part.view(B, 3, K * V).gather(2, best.unsqueeze(1).expand(B, 3, keep))
        row = (torch.arange(B).unsqueeze(1) * K + parent).view(-1)
        cache = [(key[row], value[row]) for key, value in cache]
    found = total.exp()
    rest = (1 - found.sum(dim=-1)).clamp(min=1e-12)
    entropy = torch.special.entr(found).sum(dim=-1) + torch.special.entr(rest)
    N = min(size, node.shape[1])
    top = node[:, :N]
    return Decoded(
        item_BN=torch.where(top >= 0, trie.item[top.clamp(min=0)], -1),
        log_probability_BN=total[:, :N],
        parts_BN3=parts[:, :, :N].transpose(1, 2).exp() * (top >= 0).unsqueeze(-1),
        entropy_B=entropy,
    )
