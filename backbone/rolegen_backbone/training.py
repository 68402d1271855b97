"""Training from scratch: taste first, then the gate for reasoned candidates, then the outcome head.

1. *Taste*: encoder, decoder and pool pointer learn the next basket. The last ``validation_days`` before the cut are kept
   out: their returns choose the epoch (early stopping), and serve stage 2.
2. *Candidates*: on those kept-out returns, which stage 1 never fitted, with candidates reasoned from evidence that ends
   before them, only the candidate part learns, so its gate learns what the reasoning is really worth
   (``candidate_training.py``).
3. *Outcome*: the ensemble of heads for P(net order within the horizon) on the frozen encoder (``outcome_training.py``).

Every epoch ends in a checkpoint (safetensors and JSON); an interrupted training goes on from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from rolegen_errors import InputError, ProjectError

from .candidate_training import fit_candidates
from .events import DAY, Baskets, EventLog
from .examples import Collator, Decision, Hint, returns, sample_targets, spells
from .features import Features
from .model import UNKNOWN_ITEM, Backbone, target_log_probability
from .outcome_training import fit_outcome

Progress = Callable[[str, int, int], None]
"""stage, done, total"""
Hints = Callable[[Sequence[tuple[int, int]]], list[Hint]]
"""reasoned candidates for (user index, Unix second) decisions"""


@dataclass(frozen=True)
class TrainConfig:
    """What the training loop needs to know; days are whole days."""

    seed: int = 0
    epochs: int = 4
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    horizon_days: int = 90
    dormant_days: int = 90
    history_days: int = 550
    """only returns of the last so many days are trained on: a shop forgets"""
    validation_days: int = 60
    max_returns: int = 24_000
    """the latest returns before the validation window are kept, and as many in it: a bound on training time"""
    max_hints: int = 1_500
    max_spells: int = 12_000
    unknown_item: float = 0.05
    """share of events whose item is hidden, so that "some item" has a meaning in rollouts"""
    candidate_noise: float = 0.25


@dataclass(frozen=True)
class Trained:
    """What training reports: losses in nats per target item."""

    epochs: int
    best_epoch: int
    validation_loss: float
    validation_loss_without_candidates: float
    returns: int
    validation_returns: int
    hints: int
    spells: int
    outcome_rate: float
    outcome_ece: float
    """expected calibration error of the outcome head on its held-out, later decisions, 10 bins of equal count"""
    outcome_auc: float
    platt: tuple[float, float]
    """slope and intercept on the mean logit"""

    def to_json(self) -> dict[str, Any]:
        """Plain values; what could not be measured is None, since JSON knows no NaN."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


def prepare(
    log: EventLog, baskets: Baskets, features: Features, config: TrainConfig, *, last_day: int, progress: Progress
) -> tuple[list[Decision], list[Decision]]:
    """Training and validation returns, in time order.

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
    if not train or not validation:
        raise InputError(
            f"the log has too few returning users to train on ({len(train)} before, {len(validation)} in the last {config.validation_days} days)",
            fix="train at a later date, or ingest a longer log",
        )
    return train, validation


def fit_taste(
    model: Backbone,
    log: EventLog,
    train: list[Decision],
    validation: list[Decision],
    config: TrainConfig,
    folder: Path,
    progress: Progress,
) -> tuple[int, int, float]:
    """Stage 1; returns epochs run, best epoch and its validation loss. Resumes from ``folder/resume.*``."""
    _standardise(model, train)
    collate = Collator(log, model.config.history)
    names = [name for name, _ in model.named_parameters() if not name.startswith(("candidate", "role_in", "outcome"))]
    weights = [dict(model.named_parameters())[name] for name in names]
    optimiser = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98))
    per_epoch = -(-len(train) // config.batch)
    steps = per_epoch * config.epochs
    wanted = json.dumps([asdict(config), model.config.to_json(), len(train), len(validation)])
    start, best_epoch, best_loss = _resume(model, optimiser, folder, wanted)
    for epoch in range(start, config.epochs):
        # Seeded by epoch, so that a resumed training draws what an undisturbed one would have drawn.
        torch.manual_seed(config.seed * 1000 + epoch)
        random = np.random.default_rng([config.seed, epoch])
        model.train()
        shuffled = random.permutation(len(train))
        for k in range(per_epoch):
            chosen = [train[row] for row in shuffled[k * config.batch : (k + 1) * config.batch]]
            step = epoch * per_epoch + k
            rate = min(1.0, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * rate
            loss = _loss(model, collate, chosen, random, hide=config.unknown_item)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            progress("train", step + 1, steps)
        measured = evaluate(model, collate, validation, config)
        if measured < best_loss:
            best_epoch, best_loss = epoch, measured
            _save_atomic({name: p.detach() for name, p in model.state_dict().items()}, folder / "best.safetensors")
        _checkpoint(model, optimiser, folder, wanted, epoch + 1, best_epoch, best_loss)
    model.load_state_dict(load_file(folder / "best.safetensors"), strict=True)
    return config.epochs, best_epoch, best_loss


def train(
    model: Backbone,
    log: EventLog,
    features: Features,
    config: TrainConfig,
    folder: Path,
    *,
    last_day: int,
    hints: Hints,
    progress: Progress,
) -> Trained:
    """All three stages; leaves the best weights in ``model``. ``last_day`` is the first day that must not be seen."""
    torch.manual_seed(config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    baskets = Baskets.of(log)
    learn, validation = prepare(log, baskets, features, config, last_day=last_day, progress=progress)
    epochs, best_epoch, _ = fit_taste(model, log, learn, validation, config, folder, progress)
    reasoned = fit_candidates(model, log, features, validation, hints, config, progress)
    data = spells(
        log,
        baskets,
        features,
        horizon_days=config.horizon_days,
        dormant_days=config.dormant_days,
        first_day=last_day - config.history_days,
        last_day=last_day,
        limit=config.max_spells,
        seed=config.seed,
    )
    ece, auc, platt = (
        fit_outcome(model, log, data, config, progress) if len(data.at) else (float("nan"), float("nan"), (1.0, 0.0))
    )
    return Trained(
        epochs=epochs,
        best_epoch=best_epoch + 1,
        validation_loss=reasoned.loss,
        validation_loss_without_candidates=reasoned.loss_without,
        returns=len(learn),
        validation_returns=len(validation),
        hints=reasoned.decisions,
        spells=len(data.at),
        outcome_rate=float(data.ordered.mean()) if len(data.at) else float("nan"),
        outcome_ece=ece,
        outcome_auc=auc,
        platt=platt,
    )


def evaluate(model: Backbone, collate: Collator, decisions: list[Decision], config: TrainConfig) -> float:
    """Mean negative log probability per target item over decisions, weighted; every decision's targets are fixed by the seed."""
    model.eval()
    random = np.random.default_rng(config.seed)
    loss = weight = 0.0
    with torch.no_grad():
        for low in range(0, len(decisions), config.batch):
            part = decisions[low : low + config.batch]
            total = sum(d.weight for d in part)
            loss += float(_loss(model, collate, part, random, hide=0.0)) * total
            weight += total
    return loss / weight


def _loss(
    model: Backbone, collate: Collator, decisions: Sequence[Decision], random: np.random.Generator, *, hide: float
) -> torch.Tensor:
    batch = collate.batch(decisions)
    target, weight = sample_targets(decisions, random)
    if hide:
        hidden = torch.from_numpy(random.random(batch.item_BT.shape) < hide)
        batch = replace(batch, item_BT=batch.item_BT.masked_fill(hidden, UNKNOWN_ITEM))
    log_probability = target_log_probability(model, batch, model.encode(batch), target)
    return -(log_probability * weight).sum() / weight.sum()


def _standardise(model: Backbone, train: list[Decision]) -> None:
    """Mean and scale of the counted features, from at most 4,000 decisions."""
    some = train[:: max(1, len(train) // 4_000)]
    user = np.stack([d.pool.user for d in some])
    pool = np.concatenate([d.pool.feature for d in some])
    for name, value in (("user", user), ("pool", pool)):
        getattr(model, f"{name}_mean").copy_(torch.from_numpy(value.mean(axis=0)))
        getattr(model, f"{name}_scale").copy_(torch.from_numpy(value.std(axis=0) + 1e-3))


def _save_atomic(tensors: dict[str, torch.Tensor], path: Path) -> None:
    part = path.with_suffix(".part")
    save_file({name: t.contiguous() for name, t in tensors.items()}, part)
    part.replace(path)


def _checkpoint(
    model: Backbone,
    optimiser: torch.optim.Optimizer,
    folder: Path,
    wanted: str,
    epoch: int,
    best_epoch: int,
    best_loss: float,
) -> None:
    """One file holds weights and optimiser and, in its header, the epoch: they cannot come from different moments."""
    tensors = {f"model.{name}": t.detach() for name, t in model.state_dict().items()}
    for number, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    part = folder / "resume.part"
    meta = json.dumps({"wanted": wanted, "epoch": epoch, "best_epoch": best_epoch, "best_loss": best_loss})
    save_file({name: t.contiguous() for name, t in tensors.items()}, part, metadata={"resume": meta})
    part.replace(folder / "resume.safetensors")


def _resume(model: Backbone, optimiser: torch.optim.Optimizer, folder: Path, wanted: str) -> tuple[int, int, float]:
    """Epochs already done, best epoch so far and its loss; (0, 0, inf) for a fresh start.

    Raises:
        ProjectError: the training that stopped here had other settings or other returns.
    """
    from safetensors import safe_open

    path = folder / "resume.safetensors"
    if not path.exists():
        return 0, 0, float("inf")
    with safe_open(path, framework="pt") as file:
        meta = json.loads(file.metadata()["resume"])
    if meta.get("wanted") != wanted:
        raise ProjectError(
            "a training with other settings or on another log stopped here and cannot be resumed with these",
            where=str(path),
            fix="empty the folder (`rolegen train --force` does), or go on with the settings that it was begun with",
        )
    tensors = load_file(path)
    model.load_state_dict({name[6:]: t for name, t in tensors.items() if name.startswith("model.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, number, slot = name.split(".", 2)
            state.setdefault(int(number), {})[slot] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return int(meta["epoch"]), int(meta["best_epoch"]), float(meta["best_loss"])
