"""Slates that look beyond probability: an item may be worth showing although something else will be bought next.

What comes next is what the model knows; what *showing* an item brings is known elsewhere, for instance from a log that says what was
shown. The order is then by log probability plus a bonus in nats, so an item with a bonus of log 10 passes one that is ten times as
probable. Items outside of the decoded list take part too, the ones of the greatest bonus first, at the probability that
the mixture gives them.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from .decoding import Decoded
from .model import Backbone, Batch, Encoded, candidate_hits, candidate_log_probability, part_log_probability

REACH: Final = 50
"""items outside of the decoded list that are looked at, those of the greatest bonus"""


@torch.no_grad()
def raised(
    model: Backbone, batch: Batch, encoded: Encoded, found: Decoded, bonus_BI: Tensor, available: Tensor, size: int
) -> tuple[Decoded, Tensor]:
    """The ``size`` items of the greatest log probability plus bonus, best first, and their bonus (B, N).

    Probabilities, parts and entropy stay those of the mixture; the probability of an item outside of the list is not scaled
    up for what is out of stock.
    """
    outside = _without(bonus_BI.masked_fill(~available, -torch.inf), found)
    top, more = outside.topk(min(REACH, outside.shape[1]), dim=1)
    here = top > 0  # whoever gains nothing by a bonus stands in the list if it is probable enough
    parts = _parts(model, batch, encoded, more) * here.unsqueeze(-1)
    everything = Decoded(
        item_BN=torch.cat([found.item_BN, more.masked_fill(~here, -1)], dim=1),
        log_probability_BN=torch.cat(
            [found.log_probability_BN, parts.sum(dim=-1).clamp(min=1e-30).log().masked_fill(~here, -torch.inf)], dim=1
        ),
        parts_BNM=torch.cat([found.parts_BNM, parts], dim=1),
        entropy_B=found.entropy_B,
    )
    gain = bonus_BI.gather(1, everything.item_BN.clamp(min=0))
    total = everything.log_probability_BN + gain
    place = total.argsort(dim=1, descending=True, stable=True)[:, :size]
    return everything.at(place), gain.gather(1, place)


def _without(outside: Tensor, found: Decoded) -> Tensor:
    """``outside`` with the listed items taken out; where a row of the list ends early, its -1 falls on a column put before."""
    ahead = torch.where(found.item_BN >= 0, found.item_BN + 1, 0)
    wide = torch.cat([outside[:, :1], outside], dim=1).scatter(1, ahead, -torch.inf)
    return wide[:, 1:]


def _parts(model: Backbone, batch: Batch, encoded: Encoded, item_BS: Tensor) -> Tensor:
    """(B, S, M) probability that each of ``model.PARTS`` gives each item."""
    view = model.point(batch)
    log_pointer = view.log_probability()
    candidates = model.view_candidates(batch, view, log_pointer)
    share, log_candidate = candidate_log_probability(model, candidates, candidate_hits(batch, item_BS))
    rest = (
        part_log_probability(model, batch, encoded, log_pointer, item_BS) + model.log_gate(view, log_pointer)[:, None]
    )
    return torch.cat(
        [(rest + torch.log1p(-share)[:, None, None]).exp(), (share[:, None] * log_candidate.exp()).unsqueeze(-1)],
        dim=-1,
    )
