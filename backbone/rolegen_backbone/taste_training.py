"""Stage 1 of training: taste. Encoder, decoder and pool pointers learn the next basket (``losses.py``).

One loop serves every machine. A *batch* is cut into ``shards``, as many as there are processes unless the config says
otherwise, and the processes share them out. The loss of a batch is the weighted mean over all its decisions: each shard
contributes its weighted sum over the weight of the *whole* batch, so the sum of the shards' gradients is the batch's,
however unequal the shards are.

What is random depends on the step and never on the process: order, targets and hidden items are drawn for the whole
batch, dropout masks for each shard. Hence the same number of shards gives the same losses with one process and with
several, and resuming inside an epoch draws what an undisturbed training would have drawn. A different number of shards
is the same training with other dropout masks.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from rolegen_errors import InputError, ProjectError

from .checkpoints import load_checkpoint, save_checkpoint, save_weights
from .distributed import ALONE, Group, choose_device
from .events import EventLog, Ints
from .examples import Collator, Decision, pool_hits, sample_targets
from .losses import parts_loss
from .model import UNKNOWN_ITEM, Backbone, Batch
from .train_config import TrainConfig

WARM_UP = 50
"""steps until the learning rate has its peak"""
FLOOR = 0.02
"""share of the peak that the cosine ends at"""
CLIP = 1.0

Loss = Callable[[Backbone, Batch, Tensor, Tensor, Tensor], Tensor]
"""see :func:`parts_loss`"""


class Taste(NamedTuple):
    """What stage 1 reports; losses are those of ``losses.py``, in nats."""

    epochs: int
    """epochs that were run, fewer than asked for if stopping early"""
    best_epoch: int
    """counted from 0"""
    loss: float
    """validation loss of the best epoch"""
    curve: tuple[tuple[float, float], ...]
    """(training, validation) loss of each epoch"""


@dataclass(frozen=True)
class _Shard:
    """Inputs of one shard, drawn and padded."""

    number: int
    batch: Batch
    target_BS: Tensor
    weight_BS: Tensor
    """divided by the weight of the whole batch"""
    hit_BP: Tensor
    """items of the pool that the basket holds"""


def fit_taste(
    model: Backbone,
    log: EventLog,
    train: list[Decision],
    validation: list[Decision],
    config: TrainConfig,
    folder: Path,
    progress: Callable[[str, int, int], None],
    group: Group = ALONE,
    *,
    go_on: bool = False,
) -> Taste:
    """Fit and leave the weights of the best epoch in ``model``, which comes back on the CPU.

    Stops after ``config.patience`` epochs without a better validation loss; without validation decisions all epochs are
    run and the last one is the best. Resumes from ``folder/resume.safetensors``, written after every epoch and every
    ``config.checkpoint_steps`` steps by the first process. Every process must pass the same arguments, and leaves with
    the first one's weights.

    Raises:
        InputError: the number of shards is no multiple of the number of processes.
        ProjectError: the loss is no number any more; the processes' models differ; another training stopped in ``folder``; no GPU though one was asked for; ``torch.compile`` failed.
    """
    shards = config.shards or group.size
    if shards % group.size:
        raise InputError(
            f"{shards} shards cannot be shared out evenly to {group.size} processes",
            fix=f"set shards to a multiple of {group.size}, or leave it out",
        )
    device = choose_device(config.device)
    if not go_on:
        _standardise(model, train, config)
    if not group.agree(_digest(model)):
        raise ProjectError(
            "the processes of this training do not start from the same model",
            fix="start them on machines of one kind, with the same log, settings and number of threads",
        )
    model.to(device)
    folder.mkdir(parents=True, exist_ok=True)
    collate = Collator(log, model.config.history)
    loss_of = _compiled(config)
    weights = list(taste_weights(model).values())
    optimiser = torch.optim.AdamW(
        weights, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98), fused=True
    )
    per_epoch = -(-len(train) // config.batch)
    steps = per_epoch * config.epochs
    # Who computes is no part of what is learnt; how the batch is cut is, through the dropout masks.
    asked = {**asdict(config), "shards": shards}
    wanted = json.dumps([asked, model.config.to_json(), len(train), len(validation)])
    resume, best_file = folder / "resume.safetensors", folder / "best.safetensors"
    group.wait()  # nobody may read a checkpoint that another process is still to remove or write
    state = load_checkpoint(model, optimiser, resume, wanted=wanted) or {
        "step": 0,
        "best_epoch": 0,
        "best_loss": math.inf,
        "curve": [],
        "loss": 0.0,
        "ended": False,
    }
    running = torch.tensor(state["loss"], dtype=torch.float64, device=device)
    mine = range(group.rank, shards, group.size)
    plan = range(steps if state["ended"] else state["step"], steps)
    for step, drawn in zip(plan, _ahead(train, collate, config, plan, shards, mine), strict=True):
        model.train()
        for part in optimiser.param_groups:
            part["lr"] = config.learning_rate * _rate(step, steps)
        optimiser.zero_grad(set_to_none=True)
        seen = torch.zeros((), device=device)
        for shard in drawn:
            torch.manual_seed(_seed(config.seed, step, shard.number))
            loss = _loss(model, loss_of, _moved(shard, device), config)
            loss.backward()
            seen += loss.detach()
        group.sum_([seen, *(weight.grad for weight in weights if weight.grad is not None)])
        torch.nn.utils.clip_grad_norm_(weights, CLIP, foreach=True)
        optimiser.step()
        running += seen
        progress("train", step + 1, steps)
        epoch, k = divmod(step + 1, per_epoch)
        if k == 0:
            measured = evaluate(model, collate, validation, config, group) if validation else -float(epoch)
            if not math.isfinite(measured):
                raise ProjectError(
                    f"training diverged: the validation loss of epoch {epoch} is {measured}",
                    where=str(folder),
                    fix="lower [backbone] learning_rate, or set precision to fp32",
                )
            # A mean of steps, not of decisions: the last step of an epoch may be a small one.
            state["curve"].append((float(running) / per_epoch, measured))
            running.zero_()
            if measured < state["best_loss"]:
                state["best_epoch"], state["best_loss"] = epoch - 1, measured
                if group.first:
                    save_weights(model, best_file)
            state["ended"] = epoch - 1 - state["best_epoch"] >= config.patience
        if k == 0 or k % config.checkpoint_steps == 0:
            state["step"], state["loss"] = step + 1, float(running)
            if group.first:
                save_checkpoint(model, optimiser, resume, wanted=wanted, progress=state)
        if state["ended"]:
            break
    if state["ended"]:
        progress("train", steps, steps)
    group.wait()  # the best weights are on disk
    model.cpu().load_state_dict(load_file(best_file), strict=True)
    curve = tuple((learnt, kept) for learnt, kept in state["curve"])
    return Taste(len(curve), state["best_epoch"], state["best_loss"], curve)


def taste_weights(model: Backbone) -> dict[str, Tensor]:
    """The parameters that stage 1 learns, by name."""
    later = ("gate", "candidate", "role_in", "outcome")
    return {name: weight for name, weight in model.named_parameters() if not name.startswith(later)}


@torch.no_grad()
def evaluate(
    model: Backbone, collate: Collator, decisions: list[Decision], config: TrainConfig, group: Group = ALONE
) -> float:
    """Mean loss of a decision (:func:`parts_loss`) over decisions, weighted, in full precision.

    Every decision's targets are fixed by the seed. The processes share out the batches and all return the same number.
    """
    model.eval()
    device = model.content.device
    random = np.random.default_rng(config.seed)
    loss, weight = 0.0, 0.0
    for number, low in enumerate(range(0, len(decisions), config.batch)):
        part = decisions[low : low + config.batch]
        target, share = sample_targets(part, random)
        if number % group.size == group.rank:
            batch = collate.batch(part)
            shard = _moved(_Shard(0, batch, target, share, pool_hits(part, batch)), device)
            loss += float(parts_loss(model, shard.batch, shard.target_BS, shard.weight_BS, shard.hit_BP))
            weight += float(share.sum())
    total = torch.tensor([loss, weight], dtype=torch.float64, device=device)
    group.sum_([total])
    return float(total[0] / total[1])


def _loss(model: Backbone, loss_of: Loss, shard: _Shard, config: TrainConfig) -> Tensor:
    """This shard's part of the batch's weighted mean loss; autocast keeps weights and sums in full precision."""
    device = shard.target_BS.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
        try:
            return loss_of(model, shard.batch, shard.target_BS, shard.weight_BS, shard.hit_BP)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise ProjectError(
                f"torch.compile failed: {str(error).splitlines()[0]}",
                fix="set [backbone] compile to false, or install what torch.compile needs: a C++ compiler such as g++, and triton for a GPU",
            ) from error


def _compiled(config: TrainConfig) -> Loss:
    """Compiled for any shape, since no two batches are padded alike; ``unique`` and ``any`` break the graph, no more."""
    if not config.compile:
        return parts_loss
    return cast(Loss, torch.compile(parts_loss, dynamic=True))


def _ahead(
    train: list[Decision], collate: Collator, config: TrainConfig, plan: range, shards: int, mine: range
) -> Iterator[list[_Shard]]:
    """The shards of each step, drawn and padded in a thread while the step before is computed."""
    order = _Order(len(train), config)
    with ThreadPoolExecutor(1, thread_name_prefix="collate") as pool:
        following = None
        for step in plan:
            now = following or pool.submit(_draw, train, collate, config, order, step, shards, mine)
            following = (
                pool.submit(_draw, train, collate, config, order, step + 1, shards, mine)
                if step + 1 < plan.stop
                else None
            )
            yield now.result()


class _Order:
    """The rows of each step; every epoch has a shuffle of its own."""

    def __init__(self, count: int, config: TrainConfig) -> None:
        self._count, self._batch, self._seed = count, config.batch, config.seed
        self._per_epoch = -(-count // config.batch)
        self._steps = self._per_epoch * config.epochs
        self._shuffled: tuple[int, Ints] | None = None

    def progress(self, step: int) -> float:
        """How much of the training lies behind, in [0, 1)."""
        return step / self._steps

    def rows(self, step: int) -> Ints:
        epoch, k = divmod(step, self._per_epoch)
        if self._shuffled is None or self._shuffled[0] != epoch:
            self._shuffled = epoch, np.random.default_rng([self._seed, epoch]).permutation(self._count)
        return self._shuffled[1][k * self._batch : (k + 1) * self._batch]


def _draw(
    train: list[Decision], collate: Collator, config: TrainConfig, order: _Order, step: int, shards: int, mine: range
) -> list[_Shard]:
    """The shards ``mine`` of one step."""
    chosen = [train[row] for row in order.rows(step)]
    random = np.random.default_rng([config.seed, 1_000_000 + step])
    target, weight = sample_targets(chosen, random)
    weight = weight / weight.sum()
    hidden = torch.from_numpy(random.random((len(chosen), collate.history)) < config.unknown_item)
    silent = torch.from_numpy(random.random((len(chosen), 1)) < config.silence * order.progress(step))
    drawn = []
    for number in mine:
        part = slice(number * len(chosen) // shards, (number + 1) * len(chosen) // shards)
        share = weight[part]
        if part.start == part.stop:
            # A last batch of fewer decisions than shards: one at weight 0, so that every process has the same gradients
            # to add up.
            part, share = slice(0, 1), torch.zeros_like(weight[:1])
        batch = collate.batch(chosen[part])
        hide = hidden[part, : batch.item_BT.shape[1]]
        batch = replace(
            batch,
            item_BT=batch.item_BT.masked_fill(hide, UNKNOWN_ITEM),
            event_role_BT=batch.event_role_BT.masked_fill(silent[part], 0),
            key_mask_BY=batch.key_mask_BY & ~silent[part],
        )
        drawn.append(_Shard(number, batch, target[part], share, pool_hits(chosen[part], batch)))
    return drawn


def _moved(shard: _Shard, device: torch.device) -> _Shard:
    if device.type == "cpu":
        return shard
    tensors = {part.name: getattr(shard.batch, part.name) for part in fields(shard.batch)}
    # Pinned memory lets the copy run beside the step under way.
    batch = Batch(**{name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in tensors.items()})
    rest = (tensor.to(device) for tensor in (shard.target_BS, shard.weight_BS, shard.hit_BP))
    return _Shard(shard.number, batch, *rest)


def _rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine down to :data:`FLOOR`."""
    return min(1.0, (step + 1) / WARM_UP) * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _seed(*of: int) -> int:
    return int(np.random.SeedSequence(of).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _digest(model: Backbone) -> int:
    """Of what stage 1 learns and of all tables; the later stages' weights are the first process's alone."""
    digest = hashlib.sha256()
    for tensor in (*taste_weights(model).values(), *model.buffers()):
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return int.from_bytes(digest.digest()[:7], "big")


def _standardise(model: Backbone, train: list[Decision], config: TrainConfig) -> None:
    """Mean and scale of the counted features, from at most 4,000 decisions, and the size of a basket."""
    usual = config.usual_basket or float(np.mean([len(d.target) for d in train]))
    model.usual_basket.fill_(max(usual, 1.0))
    some = train[:: max(1, len(train) // 4_000)]
    user = np.stack([d.pool.user for d in some])
    pool = np.concatenate([d.pool.feature for d in some])
    for name, value in (("user", user), ("pool", pool)):
        getattr(model, f"{name}_mean").copy_(torch.from_numpy(value.mean(axis=0)))
        getattr(model, f"{name}_scale").copy_(torch.from_numpy(value.std(axis=0) + 1e-3))
