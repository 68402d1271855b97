"""Beam search over the trie for the whole mixture.

Each part of the mixture is a distribution over items, so each has a mass on every prefix, and the mixture's mass on a
prefix is the gated sum. The decoder's mass comes from its softmax, the pointers' by adding up their items below the
prefix. With a beam at least as wide as the catalogue the search is exhaustive; items that are not available never enter.

What a step costs depends on the real children of the beams' prefixes, not on the codebook: a prefix that only one item
goes on from is settled, its item has all of its mass, and the decoder is not asked about it again. The events' keys and
values are computed once a decision, and all its beams attend to them as one long query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .events import Ints
from .model import CLOSED, PARTS, Backbone, CodeCache, Encoded, Mixture, Pointer
from .trie import Trie

FLOOR = -1e4
"""log probability of nothing, finite so that gates times nothing stays a number"""
ROUND = 8
"""beams that still branch are rounded up to a multiple of so many: few different shapes, at little extra work"""


@dataclass(frozen=True)
class Decoded:
    """The best items of B decisions, best first; rows with fewer than N available items are padded with -1."""

    item_BN: Tensor
    log_probability_BN: Tensor
    parts_BNM: Tensor
    """probability that each of ``model.PARTS`` contributes; they add up to the item's probability"""
    entropy_B: Tensor
    """nats, over as many of the best items as the beam was to be wide, and the rest as one more item"""

    def at(self, place_BN: Tensor) -> Decoded:
        """What stands at these places of each row, in that order; the entropy stays that of all."""
        return Decoded(
            item_BN=self.item_BN.gather(1, place_BN),
            log_probability_BN=self.log_probability_BN.gather(1, place_BN),
            parts_BNM=self.parts_BNM.gather(1, place_BN.unsqueeze(-1).expand(-1, -1, self.parts_BNM.shape[-1])),
            entropy_B=self.entropy_B,
        )

    def without(self, items: Sequence[Ints], size: int) -> Decoded:
        """The best ``size`` of each row that are none of its ``items``; the entropy stays that of all."""
        barred = np.stack([np.isin(row, gone) for row, gone in zip(self.item_BN.cpu().numpy(), items, strict=True)])
        order = torch.from_numpy(barred | (self.item_BN.cpu().numpy() < 0)).to(torch.uint8).argsort(dim=1, stable=True)
        order = order[:, :size].to(self.item_BN.device)
        gone = torch.from_numpy(barred).to(order.device).gather(1, order)
        kept = self.at(order)
        return Decoded(
            item_BN=kept.item_BN.masked_fill(gone, -1),
            log_probability_BN=kept.log_probability_BN.masked_fill(gone, -torch.inf),
            parts_BNM=kept.parts_BNM.masked_fill(gone.unsqueeze(-1), 0.0),
            entropy_B=kept.entropy_B,
        )


def decoder_alone(encoded: Encoded) -> Mixture:
    """The mixture that is the decoder and nothing else: semantic ids without any pointer."""
    gate = encoded.state_BD.new_full((len(encoded.state_BD), len(PARTS)), -CLOSED, dtype=torch.float32)
    gate[:, 0] = 0.0
    return Mixture(gate, ())


def pointed(pointer: Pointer, available: Tensor) -> Tensor:
    """Probabilities (B, X) of a pointer with unavailable items taken out and the rest normalised again."""
    mass = pointer.log_probability_BX.exp() * available[pointer.item_BX]
    return mass / mass.sum(dim=-1, keepdim=True).clamp(min=1e-12)


@torch.no_grad()
def beam_search(
    model: Backbone,
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
        alive: ``Trie.alive`` of ``available``, (I,) bool; both on the model's device.
        beam: prefixes kept on each level; ``size`` of them where that is more, which leaves the entropy comparable.
    """
    trie, device = model.trie, encoded.state_BD.device
    B = len(encoded.state_BD)
    width = max(beam, size)
    pointers = _Pointers.of(mixture, available, trie)
    gate = mixture.log_gate_BM[:, :1, None]

    node = torch.zeros(B, 1, dtype=torch.long, device=device)
    decoder = torch.zeros(B, 1, device=device)
    total = torch.zeros(B, 1, device=device)
    beams = _Beams(model, encoded) if model.config.use_decoder else None
    for level, fan in enumerate(trie.fan[: trie.choices]):
        K = node.shape[1]
        child, code, there = trie.below(level, node)
        option = decoder.unsqueeze(-1).expand(B, K, fan)
        if beams is not None:
            option = beams.step(level, node, code, there).add_(option)
        shut = ~(there & alive[level].index_select(0, child.flatten()).view(child.shape))
        score = (option + gate).masked_fill_(shut, -torch.inf).view(B, K * fan)
        if pointers is not None:
            pointers.add_to(score, level, node, child[..., 0], fan)
        total, best = score.topk(min(width, K * fan), dim=-1)
        node = child.view(B, K * fan).gather(1, best).long().masked_fill_(total == -torch.inf, -1)
        decoder = option.reshape(B, K * fan).gather(1, best)
        if beams is not None:
            beams.go_on(best // fan, code.view(B, K * fan).gather(1, best))
    node = trie.descend(trie.choices, node)
    found = total[:, :beam].exp()
    rest = (1 - found.sum(dim=-1)).clamp(min=1e-12)
    entropy = torch.special.entr(found).sum(dim=-1) + torch.special.entr(rest)
    N = min(size, node.shape[1])
    top = node[:, :N]
    parts = [(decoder + gate[..., 0])[:, :N].exp()]
    if pointers is not None:
        parts += pointers.parts(top)
    parts += [torch.zeros_like(parts[0])] * (len(PARTS) - len(parts))
    return Decoded(
        item_BN=torch.where(top >= 0, trie.item[top.clamp(min=0)], -1).long(),
        log_probability_BN=total[:, :N],
        parts_BNM=torch.stack(parts, dim=-1) * (top >= 0).unsqueeze(-1),
        entropy_B=entropy,
    )


class _Beams:
    """The decoder's side of a search: the beams' last codes and its cache."""

    def __init__(self, model: Backbone, encoded: Encoded) -> None:
        self.model, self.encoded, self.events = model, encoded, model.begin_decoding(encoded)
        self.cache = CodeCache()
        self.code: Tensor | None = None
        self.place: Tensor | None = None
        """(B, K) row of each beam in what was decoded last; None: all beams were, in their order"""

    def step(self, level: int, node: Tensor, code: Tensor, there: Tensor) -> Tensor:
        """(B, K, fan) log probability of each child given its prefix; 0 where the prefix leaves no choice."""
        B, K, fan = code.shape
        branching = self.model.trie.branching(level, node)
        rows = min(K, -(-int(branching.sum(dim=1).max()) // ROUND) * ROUND)
        # A settled prefix stays settled, so nobody will ask for the keys and values that are not computed here.
        if rows == K:
            self.place = None
            return self._ask(level, code, there)
        found = torch.zeros(B, K, fan, device=node.device)
        self.place = torch.zeros_like(node)
        if rows:
            chosen = branching.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :rows]
            self.place.scatter_(1, chosen, torch.arange(rows, device=node.device).expand(B, rows))
            self.cache = self.cache.select(chosen)
            self.code = None if self.code is None else self.code.gather(1, chosen)
            wide = chosen.unsqueeze(-1).expand(B, rows, fan)
            found.scatter_(1, wide, self._ask(level, code.gather(1, wide), there.gather(1, wide)))
        return found

    def go_on(self, parent: Tensor, code: Tensor) -> None:
        """The next beams are children (B, K) of these ones, entered by ``code``."""
        self.cache = self.cache.select(parent if self.place is None else self.place.gather(1, parent))
        self.code = code

    def _ask(self, level: int, code: Tensor, there: Tensor) -> Tensor:
        known, self.cache = self.model.step(self.encoded, self.events, self.code, level, self.cache)
        logits = self.model.code_logits(known, level).gather(-1, code)
        # A padded beam allows nothing; its softmax is of no use and replaced.
        return logits.masked_fill_(~there, FLOOR).log_softmax(dim=-1)


@dataclass(frozen=True)
class _Pointers:
    """The pointers' side of a search: X items in all, their gated probabilities, and their nodes on every level."""

    mass_BX: Tensor
    path_LBX: Tensor
    sizes: tuple[int, ...]
    """items of each pointer, in the order of ``PARTS`` after the decoder"""

    @classmethod
    def of(cls, mixture: Mixture, available: Tensor, trie: Trie) -> _Pointers | None:
        """None where no pointer has an item."""
        sizes = tuple(pointer.item_BX.shape[1] for pointer in mixture.pointers)
        if not sum(sizes):
            return None
        gates = mixture.log_gate_BM[:, 1:].exp()
        mass = [pointed(pointer, available) * gates[:, n : n + 1] for n, pointer in enumerate(mixture.pointers)]
        items = torch.cat([pointer.item_BX for pointer in mixture.pointers], dim=1)
        return cls(torch.cat(mass, dim=1), trie.node[items].long().permute(2, 0, 1).contiguous(), sizes)

    def add_to(self, score: Tensor, level: int, node: Tensor, first: Tensor, fan: int) -> None:
        """Add, in place, the probability of all items below each child to its log mass ``score`` (B, K * fan)."""
        beam, held = _locate(self.path_LBX[level], node)
        slot = self.path_LBX[level + 1] - first.gather(1, beam)
        place = torch.where(held, beam * fan + slot, 0)
        below = torch.zeros_like(score).scatter_add_(1, place, self.mass_BX * held)
        # Items below the same child all write the same sum, and an item that no beam holds rewrites what stands there.
        score.scatter_(1, place, torch.logaddexp(score.gather(1, place), below.gather(1, place).log()))

    def parts(self, leaf: Tensor) -> list[Tensor]:
        """What each pointer contributes to the items of the leaves (B, N)."""
        place, held = _locate(self.path_LBX[-1], leaf)
        shares = zip(
            self.mass_BX.split(self.sizes, 1), place.split(self.sizes, 1), held.split(self.sizes, 1), strict=True
        )
        nothing = torch.zeros(leaf.shape, device=leaf.device)
        return [nothing.scatter_add(1, place, mass * held) for mass, place, held in shares]


def _locate(wanted_BX: Tensor, node_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Position (B, X) of each wanted node among the beams' distinct ones, and whether it is there at all."""
    ordered, order = node_BK.sort(dim=1)
    place = torch.searchsorted(ordered, wanted_BX).clamp(max=node_BK.shape[1] - 1)
    return order.gather(1, place), ordered.gather(1, place) == wanted_BX
