"""Training on plain sequences: the next item at every position of a history at once.

For data without times, prices and baskets, such as public leave-one-out sets, and a model with a causal encoder. A history of n
items is n - 1 decisions, and one pass teaches them all (SASRec: Kang and McAuley 2018, arXiv 1808.09781), where
``taste_training.py`` reads a history for each decision. Decoder and dense part learn side by side, each on its own loss.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rolegen_errors import InputError, ProjectError

from .checkpoints import load_checkpoint, save_checkpoint
from .events import Ints
from .features import POOL_FEATURES, USER_FEATURES
from .item_cross_entropy import item_cross_entropy, sampled_cross_entropy
from .model import CANDIDATE_FEATURES, EVENT_FEATURES, UNKNOWN_ITEM, Backbone, Batch, Encoded

CLIP = 1.0
FLOOR = 0.02
"""share of the peak that the learning rate ends at"""


@dataclass(frozen=True)
class NextItemConfig:
    """How long and how fast; sizes and dropout are the model's."""

    epochs: int = 9
    positions: int = 2048
    """of a step, padding counted"""
    learning_rate: float = 3e-3
    warm_up: int = 200
    """steps"""
    negatives: int = 0
    """items that the dense part's softmax is over, beside the target; 0: all"""
    seed: int = 0


def fit_next_item(
    model: Backbone,
    histories: Sequence[Ints],
    config: NextItemConfig,
    *,
    folder: Path,
    progress: Callable[[str, int, int], None],
) -> list[float]:
    """Fit ``model`` to histories of item indices in time order; returns the mean loss of each epoch, nats.

    Goes on from ``folder/resume.safetensors``, which is written after every epoch.

    Raises:
        InputError: the model is not causal, or no history has two items.
        ProjectError: another training stopped in ``folder``, or the loss is no number any more.
    """
    if not model.config.causal:
        raise InputError("training at every position needs a causal encoder", fix="BackboneConfig(causal=True)")
    histories = [history for history in histories if len(history) > 1]
    if not histories:
        raise InputError("no history has two items, so there is no next item to learn")
    folder.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    digest = hashlib.sha256(np.concatenate(histories).tobytes()).hexdigest()
    wanted = json.dumps([asdict(config), model.config.to_json(), digest])
    resume = folder / "resume.safetensors"
    state = load_checkpoint(model, optimiser, resume, wanted=wanted) or {"epoch": 0, "curve": []}
    # As many steps in each epoch, whatever its shuffle, so that the learning rate can be planned.
    steps = len(_cut(np.sort(_lengths(histories, model.config.history)), config.positions))
    for epoch in range(state["epoch"], config.epochs):
        torch.manual_seed(config.seed * 1_000 + epoch)
        model.train()
        total, count = 0.0, 0
        for number, rows in enumerate(_shuffled(histories, model.config.history, config, epoch)):
            step = epoch * steps + number
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * _rate(step, steps * config.epochs, config.warm_up)
            sums, targets = position_losses(model, [histories[row] for row in rows], config.negatives)
            optimiser.zero_grad(set_to_none=True)
            (sums.sum() / targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            total, count = total + float(sums.detach().sum()), count + targets
            progress("train", step + 1, steps * config.epochs)
        if not math.isfinite(total):
            raise ProjectError(f"training diverged in epoch {epoch + 1}", fix="lower the learning rate")
        state = {"epoch": epoch + 1, "curve": [*state["curve"], total / count]}
        save_checkpoint(model, optimiser, resume, wanted=wanted, progress=state)
    model.eval()
    curve: list[float] = state["curve"]
    return curve


def position_losses(model: Backbone, histories: Sequence[Ints], negatives: int = 0) -> tuple[Tensor, int]:
    """(decoder, dense) sums of the losses of all next items, nats; 0 for a part that is off. And how many there are."""
    history = model.config.history
    target = _padded([own[1:][-history:] for own in histories])
    batch = history_batch([own[:-1] for own in histories], history)
    real = batch.event_mask_BT
    # Every part looks items up: all vectors are made once.
    model.item_table = model.item_vector(torch.arange(model.config.items + 1))
    try:
        encoded = model.encode(batch)
        nothing = torch.zeros(())
        decoder, dense = nothing, nothing
        if model.config.use_decoder:
            places = torch.arange(1, real.shape[1] + 1)
            decoder = -(model.decode_targets(encoded, target, places) * real).sum()
        if model.config.use_dense:
            wish, item = model.dense_sides(encoded.memory_BTD[:, 1:][real])
            wish = wish * model.dense_temperature.exp()
            bias = torch.zeros(len(item)) if model.item_bias is None else model.item_bias[1:]
            if negatives:
                drawn = torch.randint(model.config.items, (negatives,))
                dense = sampled_cross_entropy(wish, item, bias, target[real], drawn)
            else:
                dense = item_cross_entropy(wish, item, bias, target[real])
    finally:
        model.item_table = None
    return torch.stack([decoder, dense]), int(real.sum())


@torch.no_grad()
def encode_histories(model: Backbone, histories: Sequence[Ints], *, batch: int = 512) -> Iterator[tuple[Ints, Encoded]]:
    """Rows of ``histories`` and what the encoder knows at their ends; near lengths together, shortest first."""
    order = np.argsort(_lengths(histories, model.config.history), kind="stable")
    for begin in range(0, len(order), batch):
        rows = order[begin : begin + batch]
        yield rows, model.encode(history_batch([histories[row] for row in rows], model.config.history))


def history_batch(histories: Sequence[Ints], history: int) -> Batch:
    """The last ``history`` items of each, oldest first, as events of which nothing else is known; no pool, no candidates."""
    rows = [own[-history:] for own in histories]
    item = _padded([own + 1 for own in rows], UNKNOWN_ITEM)
    B, T = item.shape
    length = torch.tensor([len(own) for own in rows])
    nothing, nowhere = torch.zeros(B, 0, dtype=torch.bool), torch.zeros(B, 0, dtype=torch.long)
    return Batch(
        item_BT=item,
        behaviour_BT=torch.zeros(B, T, dtype=torch.long),
        event_BTX=torch.zeros(B, T, EVENT_FEATURES),
        event_mask_BT=torch.arange(T) < length[:, None],
        event_role_BT=torch.zeros_like(item),
        key_BY=nowhere,
        key_mask_BY=nothing,
        user_BU=torch.zeros(B, len(USER_FEATURES)),
        pool_BP=nowhere,
        pool_BPF=torch.zeros(B, 0, len(POOL_FEATURES)),
        pool_real_BP=nothing,
        pool_mask_BP=nothing,
        candidate_BC=nowhere,
        role_BC=nowhere,
        candidate_BCX=torch.zeros(B, 0, CANDIDATE_FEATURES),
        candidate_mask_BC=nothing,
    )


def _padded(rows: Sequence[Ints], filling: int = 0) -> Tensor:
    padded = np.full((len(rows), max(len(own) for own in rows)), filling, np.int64)
    for line, own in zip(padded, rows, strict=True):
        line[: len(own)] = own
    return torch.from_numpy(padded)


def _lengths(histories: Sequence[Ints], history: int) -> Ints:
    return np.minimum([len(own) for own in histories], history + 1)


def _shuffled(histories: Sequence[Ints], history: int, config: NextItemConfig, epoch: int) -> list[Ints]:
    """The rows of each step of an epoch: histories of equal length together, in an order of its own."""
    random = np.random.default_rng([config.seed, epoch])
    length = _lengths(histories, history)
    order = np.lexsort((random.random(len(length)), length))
    batches = np.split(order, _cut(length[order], config.positions)[1:])
    return [batches[k] for k in random.permutation(len(batches))]


def _cut(length: Ints, positions: int) -> list[int]:
    """Where batches begin among histories sorted by length, so that none has more positions, padding counted."""
    begin = [0]
    for row, longest in enumerate(length):
        if (row + 1 - begin[-1]) * (longest - 1) > positions and row > begin[-1]:
            begin.append(row)
    return begin


def _rate(step: int, steps: int, warm_up: int) -> float:
    """Share of the peak: linear warm-up, flat until half of the steps, then linearly down to :data:`FLOOR`."""
    return min(1.0, (step + 1) / warm_up) * min(1.0, max(FLOOR, 2 * (1 - step / steps)))
