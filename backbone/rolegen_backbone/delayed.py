"""Delayed labels: an order that may still come is not a negative.

A decision ``e`` days before the end of the log has been watched for ``e`` of its horizon's H days. Let p(x) be the chance of
an order within the horizon and F(e) the share of such orders that come within e days. An order has then been *seen* with
chance p F(e), and of those without one so far, the share that never orders is

    real(p, e) = (1 - p) / (1 - p F(e)),

the real-negative probability of ES-DFM (Yang et al. 2021, arXiv 2012.03245). There it weighs a sample drawn before its
order and the order is fed in again when it comes; in a log that is read once, the open decision takes both parts at once:
a negative of weight real(p, e) and a positive of weight 1 - real(p, e). With p the model's own estimate, held fixed, the
gradient is that of the likelihood of what was seen, log p for an order and log (1 - p F(e)) for none so far (the delayed
feedback model of Chapelle 2014, with a distribution of delays that is counted, not assumed). Orders that are refunded
later are a second delay, of the opposite sign (TESLA, Luo et al. 2026, arXiv 2601.19965); it is not modelled here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .events import Floats, Ints


def seen_share(delay: Ints, watched: Ints, horizon: int) -> Floats:
    """(horizon + 1,) F(e) for e = 0 … horizon: the share of the horizon's orders that come within e days.

    Late orders of recent decisions are missing, so the delays seen are right-truncated, and simply counting them would make
    orders look quick. The product-limit estimate in reverse time is free of that (Lagakos, Barraj & De Gruttola 1988,
    "Nonparametric analysis of truncated survival data", Biometrika 75): F(e) = prod over s = e … H-1 of 1 - d(s) / n(s), with d(s) the
    orders that came on day s and n(s) those that came by day s to decisions watched beyond it. It needs no assumption
    about how p(x) depends on user or time, but takes the delay's distribution as the same for all that are passed.

    Args:
        delay: (N,) days from decision to order, -1 without one; 0 <= delay < watched otherwise.
        watched: (N,) days that each decision has been watched, at most ``horizon``.
    """
    came = delay >= 0
    share = np.ones(horizon + 1, np.float64)
    for s in range(horizon - 1, -1, -1):
        at_risk = int((came & (delay <= s) & (watched > s)).sum())
        share[s] = share[s + 1] * (1 - int((came & (delay == s)).sum()) / at_risk) if at_risk else share[s + 1]
    return share.astype(np.float32)


def real_negative(probability: Tensor, seen: Tensor) -> Tensor:
    """Chance that a decision without an order so far never has one; ``seen`` is F(e), 1 once the horizon is over."""
    return (1 - probability) / (1 - probability * seen).clamp(min=1e-6)


def delayed_loss(logit: Tensor, ordered: Tensor, seen: Tensor) -> Tensor:
    """Elementwise cross-entropy of ``logit`` with labels that may still change.

    Args:
        ordered: 1 where an order was seen, else 0; shape of ``logit``, as is ``seen``: F(e) of each decision.
    """
    still = 1 - real_negative(logit.detach().sigmoid(), seen)
    return F.binary_cross_entropy_with_logits(logit, torch.where(ordered > 0, 1.0, still), reduction="none")
