"""Stage 3 of training: the probability of a net order within the horizon.

An ensemble of heads on the frozen encoder, each on its own Poisson bootstrap of users, learns from the earlier spells.
Platt scaling is fitted on one half of the latest quarter, and calibration and AUC are reported on the other half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from .events import EventLog, Floats
from .examples import Collator, Spells
from .model import Backbone, Encoded
from .rollout import encode_events

if TYPE_CHECKING:
    from .training import TrainConfig

    Progress = Callable[[str, int, int], None]


def fit_outcome(
    model: Backbone, log: EventLog, data: Spells, config: TrainConfig, progress: Progress
) -> tuple[float, float, tuple[float, float]]:
    """Stage 3; returns ECE, AUC and the Platt scaling, measured on two halves of the latest quarter of the spells."""
    collate = Collator(log, model.config.history)
    model.eval()
    encoded = []
    with torch.no_grad():
        for low in range(0, len(data.at), 256):
            part = slice(low, low + 256)
            encoded.append(encode_events(model, collate, data.user[part], data.at[part], data.feature[part], None))
            progress("outcome", low, len(data.at))
    state, recent = torch.cat([e.state_BD for e in encoded]), torch.cat([e.recent_BE for e in encoded])
    feature = torch.from_numpy(data.feature)

    def logits(row: torch.Tensor) -> torch.Tensor:
        # The heads look at the state and the recent content only, so the rest of what was encoded is not kept.
        stored = Encoded(
            state_BD=state[row],
            memory_BTD=state[row].unsqueeze(1),
            mask_BT=row.unsqueeze(1) >= 0,
            recent_BE=recent[row],
        )
        return model.outcome(feature[row], stored)

    label = torch.from_numpy(data.ordered)
    late = data.at >= np.quantile(data.at, 0.75)
    weights = [model.outcome_in.weight, model.outcome_in.bias, model.outcome_out, model.outcome_bias]
    optimiser = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.02)
    random = np.random.default_rng([config.seed, 900])
    K = model.config.outcome_heads
    # Poisson bootstrap over users: each head sees each user 0, 1, 2, … times.
    count = torch.from_numpy(random.poisson(1.0, (len(log.users), K)).astype(np.float32))[torch.from_numpy(data.user)]
    early_rows = np.flatnonzero(~late)
    torch.manual_seed(config.seed * 1000 + 900)
    for _ in range(12):
        shuffled = random.permutation(early_rows)
        for low in range(0, len(shuffled), 512):
            row = torch.from_numpy(shuffled[low : low + 512])
            logit = logits(row)
            loss = F.binary_cross_entropy_with_logits(
                logit, label[row].unsqueeze(1).expand_as(logit), weight=count[row]
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    late_rows = torch.from_numpy(np.flatnonzero(late))
    with torch.no_grad():
        late_logit = logits(late_rows).mean(dim=1).numpy()
    truth = data.ordered[late]
    # By user: one user's decisions are too alike to stand on both sides.
    half = (random.random(len(log.users)) < 0.5)[data.user[late]]
    if len(np.unique(truth[half])) < 2 or len(np.unique(truth[~half])) < 2:
        return float("nan"), float("nan"), (1.0, 0.0)
    platt = LogisticRegression(C=1e6).fit(late_logit[half, None], truth[half])
    slope, intercept = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    probability = 1 / (1 + np.exp(-(slope * late_logit[~half] + intercept)))
    progress("outcome", len(data.at), len(data.at))
    return (
        calibration_error(probability, truth[~half]),
        float(roc_auc_score(truth[~half], probability)),
        (slope, intercept),
    )


def calibration_error(probability: npt.NDArray[np.floating[Any]], label: Floats, bins: int = 10) -> float:
    """Expected calibration error over bins of equal count: sum_b n_b / n |mean probability_b - mean label_b|."""
    order = np.argsort(probability, kind="stable")
    return float(
        sum(
            len(part) / len(order) * abs(probability[part].mean() - label[part].mean())
            for part in np.array_split(order, bins)
            if len(part)
        )
    )
