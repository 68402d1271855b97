"""Cross-entropy over a whole catalogue without its logits ever lying in memory, or over a sample of it.

The usual way writes N x I logits, their softmax and their gradient: for 2,000 positions and 12,000 items 300 MB each, and
time goes into moving them. Here a chunk of rows is multiplied, normalised and turned into gradients while it is in the
cache, in the manner of Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models" (arXiv 2411.09009).

Shapes: N positions, I items, D width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

CHUNK = 256
"""rows of logits in memory at once"""


def item_cross_entropy(state_ND: Tensor, item_ID: Tensor, bias_I: Tensor, target_N: Tensor) -> Tensor:
    """Sum over N of ``-log softmax(state @ item.T + bias)[target]``, nats; products in bfloat16, sums in float32."""
    return cast(Tensor, _Fused.apply(state_ND, item_ID, bias_I, target_N))


def sampled_cross_entropy(
    state_ND: Tensor, item_ID: Tensor, bias_I: Tensor, target_N: Tensor, negative_K: Tensor
) -> Tensor:
    """The same over each target and K items that all positions share; one that is the target does not count twice."""
    found = (state_ND * item_ID[target_N]).sum(dim=-1, keepdim=True) + bias_I[target_N, None]
    other = (state_ND.bfloat16() @ item_ID[negative_K].bfloat16().T).float() + bias_I[negative_K]
    other = other.masked_fill(target_N[:, None] == negative_K, -torch.inf)
    return (torch.cat([found, other], dim=1).logsumexp(dim=1, keepdim=True) - found).sum()


class _Fused(torch.autograd.Function):
    """Gradients are formed in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, item: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        item16 = item.to(torch.bfloat16)
        by_item = item16.T
        of_state, of_item, of_bias = torch.empty_like(state), torch.zeros_like(item), torch.zeros_like(bias)
        total = state.new_zeros(())
        for begin in range(0, len(state), CHUNK):
            rows = slice(begin, begin + CHUNK)
            state16, wanted = state[rows].to(torch.bfloat16), target[rows, None]
            logit = (state16 @ by_item).float() + bias
            logit -= logit.amax(dim=1, keepdim=True)
            hit = logit.gather(1, wanted)
            mass = logit.exp_().sum(dim=1, keepdim=True)
            total += (mass.log() - hit).sum()
            logit /= mass
            logit.scatter_add_(1, wanted, torch.full_like(hit, -1.0))
            of_bias += logit.sum(dim=0)
            gradient = logit.to(torch.bfloat16)
            of_state[rows] = (gradient @ item16).float()
            of_item += (gradient.T @ state16).float()
        ctx.save_for_backward(of_state, of_item, of_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        of_state, of_item, of_bias = ctx.saved_tensors
        return of_state * above[0], of_item * above[0], of_bias * above[0], None
