"""Training from scratch: taste first, then what each part is worth, then the outcome head.

1. *Taste*: encoder, decoder and pool pointers learn the next basket, each part by itself (``losses.py``). The last
   ``validation_days`` before the cut are kept out: their returns choose the epoch (early stopping), and serve the next
   two stages (``taste_training.py``).
2. *Gate*: on those kept-out returns, which stage 1 never fitted, the shares of the parts (``gate_training.py``).
3. *Candidates*: on the same returns, with candidates reasoned from evidence that ends before them, only the candidate
   part learns, so its gate learns what the reasoning is really worth (``candidate_training.py``).
   Then *taste* once more, from the start, for as many epochs as were best and on all returns: the latest ones tell most
   about the next ones.
4. *Outcome*: the ensemble of heads for P(net order within the horizon) on the frozen encoder (``outcome_training.py``).

The first stage is the long one: it checkpoints, resumes, and shares its batches out to the processes of ``torchrun``. The
others are short, run in the first process on the CPU, and are repeated by a training that is resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rolegen_errors import InputError

from .candidate_training import fit_candidates
from .distributed import joined
from .events import DAY, Baskets, EventLog
from .examples import Collator, Decision, Hint, Spells, returns, spells
from .features import Features
from .gate_training import fit_gate
from .model import Backbone
from .outcome_training import fit_outcome
from .taste_training import fit_taste, taste_weights
from .train_config import TrainConfig

__all__ = ["Hints", "Progress", "TrainConfig", "Trained", "prepare", "train"]

Progress = Callable[[str, int, int], None]
"""stage, done, total"""
Hints = Callable[[Sequence[tuple[int, int]]], list[Hint]]
"""what reasoning says of (user index, Unix second) decisions"""


@dataclass(frozen=True)
class Trained:
    """What training reports; validation losses are nats per target item."""

    epochs: int
    """run, fewer than asked for where early stopping ended it"""
    best_epoch: int
    curve: tuple[tuple[float, float], ...]
    """(training, validation) loss of each epoch of stage 1"""
    shares: tuple[float, ...]
    """mean share of each of ``model.PARTS`` but the candidates, over the kept-out returns"""
    validation_loss: float
    validation_loss_without_candidates: float
    returns: int
    validation_returns: int
    hints: int
    fall_random: float
    """guard: relative fall of recall@10 on kept-out users with random candidates alone; negative for a gain"""
    fall_adversarial: float
    """the same with the best items of another user"""
    gate_closed: float
    """by how much the guard lowered the candidates' gate, logit"""
    spells: int
    unfinished_spells: int
    """of those learnt from, the ones whose horizon is not over"""
    outcome_rate: float
    """of net orders within the horizon, among the spells of the report"""
    outcome_ece: float
    """expected calibration error of the outcome head on later decisions of users it did not learn them from, 10 bins of equal count"""
    outcome_auc: float
    platt: tuple[float, float]
    """slope and intercept on the mean logit"""

    def to_json(self) -> dict[str, Any]:
        """Plain values; what could not be measured is None, since JSON knows no NaN."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


def prepare(
    log: EventLog,
    baskets: Baskets,
    features: Features,
    config: TrainConfig,
    *,
    last_day: int,
    readings: Hints | None = None,
    progress: Progress,
) -> tuple[list[Decision], list[Decision]]:
    """Training and validation returns, in time order, the latest of them with the roles of their events.

    Raises:
        InputError: the log has no return at all.
    """
    basket, day, weight = returns(
        baskets,
        horizon_days=config.horizon_days,
        dormant_days=config.dormant_days,
        first_day=last_day - config.history_days,
        last_day=last_day,
        seed=config.seed,
    )
    order = np.argsort(day, kind="stable")
    # The order, not the decision, must lie before the window: a target inside it would be seen by stage 1.
    cut = last_day - config.validation_days
    before = order[baskets.day[basket[order]] < cut][-config.max_returns :]
    inside = order[day[order] >= cut][-config.max_returns :]
    order = np.r_[before, inside]
    decisions = []
    for done, k in enumerate(order):
        user, at = int(baskets.user[basket[k]]), int(day[k]) * DAY
        decisions.append(
            Decision(
                user, at, features.pool(user, at), target=baskets.items_of(int(basket[k])), weight=float(weight[k])
            )
        )
        if done % 500 == 0:
            progress("features", done, len(order))
    progress("features", len(order), len(order))
    train, validation = decisions[: len(before)], decisions[len(before) :]
    if readings is not None:
        for part in (train, validation):
            first = max(len(part) - config.max_read, 0)
            hints = readings([(d.user, d.at) for d in part[first:]])
            part[first:] = [replace(d, hint=hint) for d, hint in zip(part[first:], hints, strict=True)]
    if not train or not validation:
        raise InputError(
            f"the log has too few returning users to train on ({len(train)} before, {len(validation)} in the last {config.validation_days} days)",
            fix="train at a later date, or ingest a longer log",
        )
    return train, validation


def train(
    model: Backbone,
    log: EventLog,
    features: Features,
    config: TrainConfig,
    folder: Path,
    *,
    last_day: int,
    hints: Hints,
    readings: Hints | None = None,
    progress: Progress,
) -> Trained | None:
    """All stages; leaves the best weights in ``model``. ``last_day`` is the first day that must not be seen.

    ``hints`` gives reasoned candidates with the roles of events, ``readings`` the roles alone, where it knows any.

    None in all processes but the first, whose models have seen the first stage only.
    """
    torch.manual_seed(config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    group = joined()
    baskets = Baskets.of(log)
    learn, validation = prepare(
        log,
        baskets,
        features,
        config,
        last_day=last_day,
        readings=readings if model.config.use_prefix and model.config.use_decoder else None,
        progress=progress,
    )
    blank = {name: weight.clone() for name, weight in model.state_dict().items()}
    taste = fit_taste(model, log, learn, validation, config, folder, progress, group)
    if group.first:
        shares = fit_gate(model, Collator(log, model.config.history), validation, config)
        reasoned = fit_candidates(model, log, features, validation, hints, config, progress)
    if config.refit:
        again = replace(config, epochs=taste.best_epoch + 1)
        model.load_state_dict({**model.state_dict(), **{name: blank[name] for name in taste_weights(model)}})
        fit_taste(model, log, [*learn, *validation], [], again, folder / "refit", progress, group)
    if not group.first:
        return None
    data = outcome_spells(log, baskets, features, config, last_day)
    outcome = fit_outcome(model, log, data, config, progress)
    return Trained(
        epochs=taste.epochs,
        best_epoch=taste.best_epoch + 1,
        curve=taste.curve,
        shares=shares,
        validation_loss=reasoned.loss,
        validation_loss_without_candidates=reasoned.loss_without,
        returns=len(learn),
        validation_returns=len(validation),
        hints=reasoned.decisions,
        fall_random=reasoned.fall_random,
        fall_adversarial=reasoned.fall_adversarial,
        gate_closed=reasoned.closed,
        spells=len(data.at),
        unfinished_spells=outcome.unfinished,
        outcome_rate=outcome.rate,
        outcome_ece=outcome.ece,
        outcome_auc=outcome.auc,
        platt=outcome.platt,
    )


def outcome_spells(log: EventLog, baskets: Baskets, features: Features, config: TrainConfig, last_day: int) -> Spells:
    """What the outcome head learns from, up to a day that must not be seen."""
    return spells(
        log,
        baskets,
        features,
        horizon_days=config.horizon_days,
        dormant_days=config.dormant_days,
        first_day=last_day - config.history_days,
        last_day=last_day,
        limit=config.max_spells,
        seed=config.seed,
        unfinished=config.delayed_labels == "weighted",
    )
