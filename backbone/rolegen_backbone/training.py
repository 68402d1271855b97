"""Training from scratch: taste first, then the gate for reasoned candidates, then the outcome head.

1. *Taste*: encoder, decoder and pool pointer learn the next basket. The last ``validation_days`` before the cut are kept
   out: their returns choose the epoch (early stopping), and serve stage 2.
2. *Candidates*: on those kept-out returns, which stage 1 never fitted, with candidates reasoned from evidence that ends
   before them, only the candidate part learns; so its gate learns what the reasoning is really worth. Candidates are
   dropped and swapped for another user's at random, so that useless and hostile ones are known as such.
3. *Outcome*: an ensemble of heads on the frozen encoder, each on its own bootstrap of users, then Platt scaling on the
   latest decisions, whose calibration error is reported.

Every epoch ends in a checkpoint (safetensors and JSON); an interrupted training goes on from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from rolegen_errors import InputError, ProjectError

from .events import DAY, Baskets, EventLog, Floats
from .examples import NO_HINT, Collator, Decision, Hint, Spells, returns, sample_targets, spells
from .features import Features
from .model import UNKNOWN_ITEM, Backbone, Encoded, target_log_probability
from .rollout import encode_events

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
    """the latest returns are kept, so that training time has a bound on any log"""
    max_hints: int = 1_500
    max_spells: int = 12_000
    unknown_item: float = 0.05
    """share of events whose item is hidden, so that "some item" has a meaning in rollouts"""
    candidate_dropout: float = 0.1
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
        return asdict(self)


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
    order = np.argsort(day, kind="stable")[-config.max_returns :]
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
    # The order, not the decision, must lie before the window: a target inside it would be seen by stage 1.
    ordered = baskets.day[basket[order]]
    cut = last_day - config.validation_days
    train = [d for d, o in zip(decisions, ordered, strict=True) if o < cut]
    validation = [d for d in decisions if d.at // DAY >= cut]
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


def fit_candidates(
    model: Backbone,
    log: EventLog,
    features: Features,
    validation: list[Decision],
    hints: Hints,
    config: TrainConfig,
    progress: Progress,
) -> tuple[int, float, float]:
    """Stage 2; returns how many decisions had candidates, and the loss on a kept-out fifth of users with and without them."""
    dormant = [d for d in validation if d.weight >= 1.0]
    others = [d for d in validation if d.weight < 1.0]
    chosen = (dormant + others[::-1])[: config.max_hints]
    reasoned = hints([(d.user, d.at) for d in chosen])
    full = [
        replace(d, pool=features.pool(d.user, d.at, hint.item), hint=hint)
        for d, hint in zip(chosen, reasoned, strict=True)
    ]
    some = sum(len(d.hint.item) > 0 for d in full)
    collate = Collator(log, model.config.history)
    held = [d for d in full if d.user % 5 == 0]
    learn = [d for d in full if d.user % 5]
    if not some or not held or not learn:
        return some, float("nan"), float("nan")
    names = [name for name, _ in model.named_parameters() if name.startswith(("candidate", "role_in"))]
    weights = [dict(model.named_parameters())[name] for name in names]
    optimiser = torch.optim.AdamW(weights, lr=5e-3, weight_decay=0.01)
    best, kept = float("inf"), {name: w.detach().clone() for name, w in zip(names, weights, strict=True)}
    epochs = 8
    for epoch in range(epochs):
        torch.manual_seed(config.seed * 1000 + 500 + epoch)
        random = np.random.default_rng([config.seed, 500 + epoch])
        model.eval()  # the rest of the model is fixed, so its dropout would only be noise
        noisy = _disturb(learn, features, config, random)
        for low in range(0, len(noisy), config.batch):
            loss = _loss(model, collate, noisy[low : low + config.batch], random, hide=0.0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        measured = evaluate(model, collate, held, config)
        if measured < best:
            best, kept = measured, {name: w.detach().clone() for name, w in zip(names, weights, strict=True)}
        progress("candidates", epoch + 1, epochs)
    with torch.no_grad():
        for name, weight in zip(names, weights, strict=True):
            weight.copy_(kept[name])
    without = evaluate(model, collate, [replace(d, hint=NO_HINT) for d in held], config)
    return some, best, without


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
    half = random.random(len(truth)) < 0.5
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
    some, loss, without = fit_candidates(model, log, features, validation, hints, config, progress)
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
        validation_loss=loss,
        validation_loss_without_candidates=without,
        returns=len(learn),
        validation_returns=len(validation),
        hints=some,
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


def _disturb(
    decisions: list[Decision], features: Features, config: TrainConfig, random: np.random.Generator
) -> list[Decision]:
    """Shuffled decisions with candidates dropped, or swapped for those of another decision."""
    noisy = []
    for k in random.permutation(len(decisions)):
        d, draw = decisions[k], random.random()
        if draw < config.candidate_dropout:
            d = replace(d, hint=NO_HINT)
        elif draw < config.candidate_dropout + config.candidate_noise:
            other = decisions[int(random.integers(len(decisions)))].hint
            d = replace(d, pool=features.pool(d.user, d.at, other.item), hint=other)
        noisy.append(d)
    return noisy


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
