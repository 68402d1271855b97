"""Distilling a teacher's labels and path choices into the head of ``student.py``.

The backbone is frozen, so all that it knows of a decision is computed once. The latest decisions are held out: they choose the
epoch, for each of the three parts by itself, and the temperature of the roles; where all decisions are of one date, users are held out.

 - *roles*: cross entropy against soft labels (Hinton et al. 2015, arXiv 1503.02531): the teacher's role has its confidence, the rest
   is shared by the others. Classes weigh by the root of how rare they are, since a teacher that says *target* of everything would
   otherwise be met by saying so too. Whether an event is labelled at all is asked of every event.
 - *forms*: binary cross entropy, a decision may have several.
 - *slots*: cross entropy between the softmax over the pool and the items that stand there, shared evenly; slots weigh by the root of how rare they are.

What the teacher's counts say of an item is told without the example's own decision, as it will be in use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rolegen_errors import InputError

from .artefact import TrainedBackbone
from .events import Floats, Ints
from .student import Counts, Eyes, Favourites, Seen, Student, StudentHead, StudentShape, check_past

Progress = Callable[[str, int, int], None]
TOGETHER = 64
"""decisions that are encoded together"""
PARTS = ("role", "form", "slot")
FEWEST = 10
"""decisions below which there is nothing to hold out"""
MOST_WEIGHT = 4.0
"""of a rare class: one that was never seen has some mass of every soft label"""
NONE = np.zeros(0, np.int64)
NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Taught:
    """What a teacher said of one decision. A part that it did not answer is None."""

    user: int
    at: int
    """Unix second, a whole day"""
    labels: Labels | None
    choices: Choices | None


@dataclass(frozen=True)
class Labels:
    """L labelled events."""

    event: Ints = field(default_factory=lambda: NONE)
    """ids"""
    role: Ints = field(default_factory=lambda: NONE)
    confidence: Floats = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True)
class Choices:
    """The forms of paths that were proposed, and the M items that stood in their slots."""

    form: Ints
    slot: Ints = field(default_factory=lambda: NONE)
    item: Ints = field(default_factory=lambda: NONE)
    weight: Floats = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True)
class StudentConfig:
    """How a student learns."""

    seed: int = 0
    width: int = 64
    dropout: float = 0.1
    epochs: int = 40
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    patience: int = 6
    """epochs without a better loss of any part on the held-out decisions"""
    held_out: float = 0.2
    """share of the latest decisions"""


@dataclass(frozen=True)
class Distilled:
    """What distilling reports. Losses in nats on the held-out decisions; None where there was nothing to measure."""

    decisions: int
    held_out: int
    labels: int
    items: int
    """in slots"""
    reach: float
    """share of the teacher's items that stood in the student's pools: what it cannot reach it cannot learn"""
    epochs: int
    role_loss: float | None
    role_agreement: float | None
    """share of held-out labels to which the student gives the same role"""
    majority_agreement: float | None
    """the same for always saying the commonest role"""
    form_loss: float | None
    slot_loss: float | None
    slot_top1: float | None
    """share of held-out slots whose likeliest item is one that the teacher put there"""
    temperature: float


def distil(
    backbone: TrainedBackbone,
    taught: Sequence[Taught],
    *,
    as_of: datetime,
    roles: int,
    forms: int,
    slots: int,
    config: StudentConfig,
    progress: Progress,
) -> tuple[Student, Distilled]:
    """A student of what was taught, on ``backbone``, whose log must end before ``as_of``.

    Raises:
        FutureError: the log, the backbone or a decision reaches to ``as_of`` or past it.
        InputError: there are fewer than :data:`FEWEST` decisions.
    """
    if len(taught) < FEWEST:
        raise InputError(
            f"{len(taught)} decisions are too few to learn from, {FEWEST} are the least",
            fix="let the teacher decide on more users",
        )
    check_past(backbone, [one.at for one in taught], as_of)
    random = np.random.default_rng([config.seed, 700])
    # In time order, users of one date in an order by chance: so the held-out ones are the latest, whatever the caller's order is.
    order = np.lexsort((random.permutation(len(taught)), np.array([one.at for one in taught])))
    taught = [taught[k] for k in order]
    held = max(1, int(len(taught) * config.held_out))
    eyes = Eyes(backbone)
    counts = _counted(taught[:-held], eyes, roles, slots)
    favourites = Favourites(counts, eyes.shelf)
    seen: list[Seen] = []
    for low in range(0, len(taught), TOGETHER):
        seen += eyes.look([(one.user, one.at) for one in taught[low : low + TOGETHER]], favourites)
        progress("look", min(low + TOGETHER, len(taught)), len(taught))
    shape = StudentShape(
        roles=roles,
        forms=forms,
        slots=slots,
        encoder=backbone.model.config.width,
        width=config.width,
        dropout=config.dropout,
    )
    torch.manual_seed(config.seed * 1000 + 700)
    head = StudentHead(shape)
    _standardise(head, seen[:-held])
    examples = [
        _Example.of(one, look, counts, shape, own=row < len(taught) - held)
        for row, (one, look) in enumerate(zip(taught, seen, strict=True))
    ]
    learn, kept = examples[:-held], examples[-held:]
    weights = _Weights.of(learn, shape)
    epochs = _fit(head, learn, kept, weights, eyes.vector_ID, config, random, progress)
    head.eval()
    report = _report(head, learn, kept, eyes.vector_ID, epochs)
    return Student(head, shape, counts, eyes, as_of, {"report": asdict(report), "training": asdict(config)}), report


@dataclass(frozen=True)
class _Example:
    """One decision, ready for the head."""

    event_TX: Tensor
    count_TR: Tensor
    role_TR: Tensor
    """soft labels; rows without a label are zero"""
    labelled_T: Tensor
    labels: bool
    user_X: Tensor
    form_F: Tensor
    choices: bool
    pool_P: Tensor
    pool_PX: Tensor
    count_PS: Tensor
    slot_PS: Tensor
    """for each slot the teacher's items, adding up to one; a slot without any is zero"""
    lost: int
    """items of the teacher that are in no pool"""

    @classmethod
    def of(cls, one: Taught, look: Seen, counts: Counts, shape: StudentShape, *, own: bool) -> _Example:
        """``own``: the counts hold this decision, so its part is taken off."""
        T, P, R, S = len(look.event), len(look.pool), shape.roles, shape.slots
        role, less_role = np.zeros((T, R), np.float32), np.zeros((T, R), np.float32)
        labelled = np.zeros(T, np.float32)
        if one.labels is not None:
            _, place, number = np.intersect1d(look.event, one.labels.event, return_indices=True)
            sure = one.labels.confidence[number]
            role[place] = ((1 - sure) / (R - 1))[:, None]
            role[place, one.labels.role[number]] = sure
            labelled[place] = 1.0
            if own:
                less_role[place, one.labels.role[number]] = 1.0
        form, slot, less_slot, lost = np.zeros(shape.forms, np.float32), np.zeros((P, S), np.float32), None, 0
        if one.choices is not None:
            form[one.choices.form] = 1.0
            order = np.argsort(look.pool)
            at = np.minimum(np.searchsorted(look.pool[order], one.choices.item), P - 1)
            place = order[at]
            known = look.pool[place] == one.choices.item
            lost = int((~known).sum())
            np.add.at(slot, (place[known], one.choices.slot[known]), one.choices.weight[known])
            if own:
                less_slot = (slot > 0).astype(np.float32)
            slot /= np.maximum(slot.sum(axis=0, keepdims=True), 1e-9)
        return cls(
            event_TX=torch.from_numpy(look.event_input),
            count_TR=torch.from_numpy(counts.of_roles(look.event_item, less_role if own else None)),
            role_TR=torch.from_numpy(role),
            labelled_T=torch.from_numpy(labelled),
            labels=one.labels is not None,
            user_X=torch.from_numpy(look.user_input),
            form_F=torch.from_numpy(form),
            choices=one.choices is not None,
            pool_P=torch.from_numpy(look.pool),
            pool_PX=torch.from_numpy(look.pool_input),
            count_PS=torch.from_numpy(counts.of_slots(look.pool, less_slot)),
            slot_PS=torch.from_numpy(slot),
            lost=lost,
        )


@dataclass(frozen=True)
class _Weights:
    """What classes weigh in the losses, 1 in the mean over what was seen."""

    role_R: Tensor
    slot_S: Tensor

    @classmethod
    def of(cls, learn: Sequence[_Example], shape: StudentShape) -> _Weights:
        role = torch.stack([one.role_TR.sum(dim=0) for one in learn]).sum(dim=0) if learn else torch.ones(shape.roles)
        slot = torch.stack([(one.slot_PS.sum(dim=0) > 0).float() for one in learn]).sum(dim=0)
        return cls(_rare(role), _rare(slot))


def _rare(often: Tensor) -> Tensor:
    weight = (often + 1.0).rsqrt()
    mean = (weight * often).sum() / often.sum().clamp(min=1.0)
    return (weight / mean.clamp(min=1e-9)).clamp(1 / MOST_WEIGHT, MOST_WEIGHT)


@dataclass(frozen=True)
class _Losses:
    """Sums over some decisions, and over what: by part."""

    total: dict[str, Tensor]
    count: dict[str, float]

    def mean(self, part: str) -> Tensor:
        return self.total[part] / max(self.count[part], 1.0)


def _losses(head: StudentHead, some: Sequence[_Example], weights: _Weights | None, vector_ID: Tensor) -> _Losses:
    """``weights`` None: every class weighs the same."""
    taught = [one for one in some if one.labels]
    zero = torch.zeros(())
    total, count = dict.fromkeys(PARTS, zero), dict.fromkeys(PARTS, 0.0)
    if taught:
        target, told = torch.cat([one.role_TR for one in taught]), torch.cat([one.labelled_T for one in taught])
        role, labelled = head.role_logits(
            torch.cat([one.event_TX for one in taught]), torch.cat([one.count_TR for one in taught])
        )
        each = -(target * (role / head.get_buffer("temperature")).log_softmax(dim=-1))
        each = each if weights is None else each * weights.role_R
        total["role"] = each.sum() + F.binary_cross_entropy_with_logits(labelled, told, reduction="sum") / 4
        count["role"] = float(told.sum())
    chosen = [one for one in some if one.choices]
    if chosen:
        user = torch.stack([one.user_X for one in chosen])
        form = torch.stack([one.form_F for one in chosen])
        total["form"] = F.binary_cross_entropy_with_logits(head.form_logits(user), form, reduction="sum")
        count["form"] = float(len(chosen))
        log_slot, target = _slots(head, chosen, user, vector_ID)
        each = -torch.where(target > 0, target * log_slot, 0.0).sum(dim=1)
        total["slot"] = (each if weights is None else each * weights.slot_S).sum()
        count["slot"] = float((target.sum(dim=1) > 0).sum())
    return _Losses(total, count)


def _slots(head: StudentHead, chosen: Sequence[_Example], user: Tensor, vector_ID: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities and targets (B, P, S), padded."""
    pad = torch.nn.utils.rnn.pad_sequence
    pool = pad([one.pool_P for one in chosen], batch_first=True, padding_value=-1)
    logits = head.slot_logits(
        user,
        pad([one.pool_PX for one in chosen], batch_first=True),
        pad([one.count_PS for one in chosen], batch_first=True),
        vector_ID[pool.clamp(min=0)],
    )
    target = pad([one.slot_PS for one in chosen], batch_first=True)
    return logits.masked_fill((pool < 0).unsqueeze(-1), -torch.inf).log_softmax(dim=1), target


def _fit(
    head: StudentHead,
    learn: Sequence[_Example],
    kept: Sequence[_Example],
    weights: _Weights,
    vector_ID: Tensor,
    config: StudentConfig,
    random: np.random.Generator,
    progress: Progress,
) -> int:
    """Train; each part ends with its own best epoch, the roles with a temperature. Returns the epochs that were run."""
    optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = max(1, -(-len(learn) // config.batch)) * config.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=steps, pct_start=0.1)
    best = dict.fromkeys(PARTS, float("inf"))
    saved = {name: one.detach().clone() for name, one in head.named_parameters()}
    since = epoch = 0
    for epoch in range(1, config.epochs + 1):
        head.train()
        shuffled = random.permutation(len(learn))
        for low in range(0, len(learn), config.batch):
            part = _losses(head, [learn[k] for k in shuffled[low : low + config.batch]], weights, vector_ID)
            loss = sum((part.mean(name) for name in PARTS), torch.zeros(()))
            optimiser.zero_grad()
            if loss.requires_grad:
                loss.backward()
                optimiser.step()
            schedule.step()
        since += 1
        measured = _measured(head, kept or learn, vector_ID, config.batch)
        for name in PARTS:
            if measured[name] < best[name]:
                best[name], since = measured[name], 0
                saved |= {key: one.detach().clone() for key, one in head.named_parameters() if key.startswith(name)}
        progress("distil", epoch, config.epochs)
        if since >= config.patience:
            break
    progress("distil", config.epochs, config.epochs)
    with torch.no_grad():
        for name, one in head.named_parameters():
            one.copy_(saved[name])
    _heat(head, kept or learn)
    return epoch


@torch.no_grad()
def _measured(head: StudentHead, some: Sequence[_Example], vector_ID: Tensor, batch: int) -> dict[str, float]:
    head.eval()
    total, count = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0.0)
    for low in range(0, len(some), batch):
        part = _losses(head, some[low : low + batch], None, vector_ID)
        for name in PARTS:
            total[name] += float(part.total[name])
            count[name] += part.count[name]
    return {name: total[name] / count[name] if count[name] else float("inf") for name in PARTS}


@torch.no_grad()
def _heat(head: StudentHead, some: Sequence[_Example]) -> None:
    """The temperature at which the roles' probabilities fit later decisions best; class weights had made rare ones too likely."""
    head.eval()
    taught = [one for one in some if one.labels and float(one.labelled_T.sum()) > 0]
    if not taught:
        return
    told = torch.cat([one.labelled_T for one in taught]) > 0
    logits, _ = head.role_logits(
        torch.cat([one.event_TX for one in taught]), torch.cat([one.count_TR for one in taught])
    )
    target = torch.cat([one.role_TR for one in taught])[told]
    grid = torch.linspace(-1.5, 1.5, 61).exp()
    loss = torch.stack([-(target * (logits[told] / heat).log_softmax(dim=-1)).sum() for heat in grid])
    head.get_buffer("temperature").copy_(grid[int(loss.argmin())])


@torch.no_grad()
def _report(
    head: StudentHead,
    learn: Sequence[_Example],
    kept: Sequence[_Example],
    vector_ID: Tensor,
    epochs: int,
) -> Distilled:
    measured = _measured(head, kept, vector_ID, 32)
    everything = [*learn, *kept]
    usual = int(torch.stack([one.role_TR.sum(dim=0) for one in learn]).sum(dim=0).argmax())
    agree = always = labels = top = slots = 0
    for one in kept:
        told = one.labelled_T > 0
        if one.labels and bool(told.any()):
            said = head.role_logits(one.event_TX, one.count_TR)[0].argmax(dim=-1)
            truth = one.role_TR.argmax(dim=-1)
            agree += int((said == truth)[told].sum())
            always += int((truth[told] == usual).sum())
            labels += int(told.sum())
        if one.choices:
            log_slot, target = _slots(head, [one], one.user_X[None], vector_ID)
            there = target[0].sum(dim=0) > 0
            hit = target[0].gather(0, log_slot[0].argmax(dim=0, keepdim=True))[0] > 0
            top += int((hit & there).sum())
            slots += int(there.sum())
    items = sum(int((one.slot_PS > 0).sum()) for one in everything)
    lost = sum(one.lost for one in everything)

    def known(name: str) -> float | None:
        return round(measured[name], 6) if np.isfinite(measured[name]) else None

    return Distilled(
        decisions=len(learn),
        held_out=len(kept),
        labels=int(sum(float(one.labelled_T.sum()) for one in everything)),
        items=items,
        reach=round(items / max(items + lost, 1), 4),
        epochs=epochs,
        role_loss=known("role"),
        role_agreement=round(agree / labels, 4) if labels else None,
        majority_agreement=round(always / labels, 4) if labels else None,
        form_loss=known("form"),
        slot_loss=known("slot"),
        slot_top1=round(top / slots, 4) if slots else None,
        temperature=round(float(head.get_buffer("temperature")), 4),
    )


def _counted(taught: Sequence[Taught], eyes: Eyes, roles: int, slots: int) -> Counts:
    """What the learnt decisions say of each item. A label counts for the item of its event; an item once for each slot of a decision."""
    log, items = eyes.backbone.log, len(eyes.shelf.category)
    counts = Counts(np.zeros((items, roles), np.float32), np.zeros((items, slots), np.float32))
    for one in taught:
        if one.labels is not None:
            rows = log.rows(one.user, one.at)
            _, place, number = np.intersect1d(log.event[rows], one.labels.event, return_indices=True)
            np.add.at(counts.role_IR, (log.item[rows][place], one.labels.role[number]), 1.0)
        if one.choices is not None and len(one.choices.item):
            pair = np.unique(np.stack([one.choices.item, one.choices.slot]), axis=1)
            counts.slot_IS[pair[0], pair[1]] += 1.0
    return counts


def _standardise(head: StudentHead, seen: Sequence[Seen]) -> None:
    """Mean and deviation of the facts over the decisions that are learnt from."""
    rows = {
        "event": np.concatenate([one.event_input for one in seen]),
        "user": np.stack([one.user_input for one in seen]),
        "pool": np.concatenate([one.pool_input[:: max(1, len(one.pool_input) // 64)] for one in seen]),
    }
    for name, found in rows.items():
        spread = found.std(axis=0)
        head.get_buffer(f"{name}_mean").copy_(torch.from_numpy(found.mean(axis=0)))
        head.get_buffer(f"{name}_scale").copy_(torch.from_numpy(np.where(spread > 1e-3, spread, 1.0)))
