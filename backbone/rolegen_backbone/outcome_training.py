"""Stage 4 of training: the probability of a net order within the horizon.

An ensemble of heads on the frozen encoder, each on its own Poisson bootstrap of users. Spells whose horizon is not over
take part with the weights of ``delayed.py``: they are the most recent ones, and leaving them out would teach the rate of
a season ago. Platt scaling is fitted, and calibration and AUC are reported, on finished spells of the latest quarter, of
users whose late spells the heads never saw: half of them for the scaling and half for the report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from .delayed import delayed_loss, seen_share
from .events import EventLog, Floats
from .examples import Collator, Spells
from .model import Backbone, Encoded
from .rollout import encode_events
from .train_config import TrainConfig

Progress = Callable[[str, int, int], None]

EPOCHS, BATCH = 12, 512
LATE = 0.75
"""quantile of the finished spells' times from which on they are late"""
HELD_OUT = 0.5
"""share of users whose late and unfinished spells the heads do not see"""


@dataclass(frozen=True)
class OutcomeFit:
    """What stage 4 reports; NaN where there was too little to measure."""

    rate: float
    """of net orders within the horizon, among the spells of the report"""
    ece: float
    """expected calibration error, 10 bins of equal count"""
    auc: float
    platt: tuple[float, float]
    """slope and intercept on the mean logit"""
    unfinished: int
    """spells learnt from although their horizon is not over"""


NOTHING = float("nan")
NO_OUTCOME = OutcomeFit(rate=NOTHING, ece=NOTHING, auc=NOTHING, platt=(1.0, 0.0), unfinished=0)


def fit_outcome(model: Backbone, log: EventLog, data: Spells, config: TrainConfig, progress: Progress) -> OutcomeFit:
    """Stage 4 on N spells; the heads' weights stay in ``model``."""
    finished = data.watched >= config.horizon_days
    if not finished.any():
        return NO_OUTCOME
    state, recent = _states(model, log, data, progress)
    feature = torch.from_numpy(data.feature)

    def logits(row: Tensor) -> Tensor:
        # The heads look at the state and the recent content only, so the rest of what was encoded is not kept.
        stored = Encoded(
            state_BD=state[row],
            memory_BTD=state[row].unsqueeze(1),
            mask_BT=row.unsqueeze(1) >= 0,
            recent_BE=recent[row],
            prefix_BYD=state[row].unsqueeze(1)[:, :0],
            prefix_mask_BY=row.unsqueeze(1)[:, :0] >= 0,
        )
        return model.outcome(feature[row], stored)

    late = data.at >= np.quantile(data.at[finished], LATE)
    random = np.random.default_rng([config.seed, 900])
    # By user: one user's decisions are too alike to stand on both sides.
    place = random.random(len(log.users))[data.user]
    learn_rows = np.flatnonzero(~late | (place >= HELD_OUT))
    scale_rows, report_rows = (
        np.flatnonzero(late & finished & chosen)
        for chosen in (place < HELD_OUT / 2, (place >= HELD_OUT / 2) & (place < HELD_OUT))
    )
    label, seen = torch.from_numpy(data.ordered), torch.from_numpy(_seen(data, config.horizon_days))
    weights = [model.outcome_in.weight, model.outcome_in.bias, model.outcome_out, model.outcome_bias]
    optimiser = torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.02)
    K = model.config.outcome_heads
    # Poisson bootstrap over users: each head sees each user 0, 1, 2, … times.
    count = torch.from_numpy(random.poisson(1.0, (len(log.users), K)).astype(np.float32))[torch.from_numpy(data.user)]
    torch.manual_seed(config.seed * 1000 + 900)
    for _ in range(EPOCHS):
        shuffled = random.permutation(learn_rows)
        for low in range(0, len(shuffled), BATCH):
            row = torch.from_numpy(shuffled[low : low + BATCH])
            logit = logits(row)
            truth, share = (x[row].unsqueeze(1).expand_as(logit) for x in (label, seen))
            loss = (count[row] * delayed_loss(logit, truth, share)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        scale, report = (logits(torch.from_numpy(rows)).mean(dim=1).numpy() for rows in (scale_rows, report_rows))
    progress("outcome", len(data.at), len(data.at))
    open_ones = int((~finished[learn_rows]).sum())
    truth_scale, truth_report = data.ordered[scale_rows], data.ordered[report_rows]
    if len(np.unique(truth_scale)) < 2 or len(np.unique(truth_report)) < 2:
        return replace(NO_OUTCOME, unfinished=open_ones)
    platt = LogisticRegression(C=1e6).fit(scale[:, None], truth_scale)
    slope, intercept = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    probability = expit(slope * report + intercept)
    return OutcomeFit(
        rate=float(truth_report.mean()),
        ece=calibration_error(probability, truth_report),
        auc=float(roc_auc_score(truth_report, probability)),
        platt=(slope, intercept),
        unfinished=open_ones,
    )


def _states(model: Backbone, log: EventLog, data: Spells, progress: Progress) -> tuple[Tensor, Tensor]:
    """States (N, D) and recent contents (N, E) of the frozen encoder."""
    collate = Collator(log, model.config.history)
    model.eval()
    encoded = []
    with torch.no_grad():
        for low in range(0, len(data.at), 256):
            part = slice(low, low + 256)
            encoded.append(encode_events(model, collate, data.user[part], data.at[part], data.feature[part], None))
            progress("outcome", low, len(data.at))
    return torch.cat([e.state_BD for e in encoded]), torch.cat([e.recent_BE for e in encoded])


def _seen(data: Spells, horizon: int) -> Floats:
    """(N,) F(e) of each spell; delays are counted apart for dormant and fresh buyers, who are not as quick."""
    seen = np.ones(len(data.at), np.float32)
    for rows in (data.dormant, ~data.dormant):
        seen[rows] = seen_share(data.delay[rows], data.watched[rows], horizon)[data.watched[rows]]
    return seen


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
