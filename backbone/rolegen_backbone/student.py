"""A role student: a small head on the frozen event encoder that says what a teacher would have said, without asking it.

Three parts share what the encoder and ``student_facts.py`` know of a decision and nothing else, so each learns by itself:
 - *roles*: for each event the role that the teacher would give it (with *unresolved*), and whether it would be labelled at all;
 - *forms*: which forms of paths the teacher would propose. A form is what paths of one kind have in common; the floor above
   says what it stands for;
 - *slots*: which items of the pool it would put where in them: a distribution over the pool for each slot.

Beside the features each part sees how often the teacher gave the event's item each role, and put the item into each slot, in the
decisions that the student learnt from: counts over items, in which no user is named. What is in the artefact: weights and counts as
safetensors, everything else as JSON. Using it before ``as_of``, or on another backbone, is refused.

Shapes: B decisions, T events, P pool items, D width of the encoder, R roles, F forms, S slots, I items.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rolegen_errors import FutureError, ProjectError

from .artefact import TrainedBackbone
from .events import DAY, Floats, Ints, seconds
from .examples import Decision
from .features import POOL_FEATURES, USER_FEATURES, Pool
from .student_facts import (
    EVENT_FACTS,
    ITEM_FACTS,
    TRAIL_FACTS,
    Shelf,
    Trail,
    event_facts,
    item_facts,
    latest_categories,
    looked_at,
    trail_facts,
)

FORMAT = 1
FAVOURITES, EACH, LOOKED = 48, 12, 64
"""items that are added to a decision's pool: the teacher's favourites of all, of each of the latest categories, and what was looked at"""
CATEGORIES = 4
SHRINK = 4.0
"""mean counts at which what is known of an item weighs as much as what is known of all"""
LOUD = 8.0
"""standard deviations at which a fact is cut"""


@dataclass(frozen=True)
class StudentShape:
    """Sizes of a student."""

    roles: int
    forms: int
    slots: int
    encoder: int
    """width of the backbone's encoder"""
    width: int = 64
    dropout: float = 0.1


@dataclass(frozen=True)
class Counts:
    """How often the teacher said what of each item."""

    role_IR: Floats
    slot_IS: Floats

    def of_roles(self, item: Ints, less: Floats | None = None) -> Floats:
        """(N, R + 1) log odds of each role of items (N,) against all items, and log how often any; ``less`` (N, R) is taken off
        first: what an example itself has added."""
        count = self.role_IR[item] - (0.0 if less is None else less)
        total = count.sum(axis=1, keepdims=True)
        usual = (self.role_IR.sum(axis=0) + 1.0) / (self.role_IR.sum() + self.role_IR.shape[1])
        odds = np.log((count + SHRINK * usual) / (total + SHRINK)) - np.log(usual)
        return np.concatenate([odds, np.log1p(np.maximum(total, 0.0))], axis=1).astype(np.float32)

    def of_slots(self, item: Ints, less: Floats | None = None) -> Floats:
        """(N, S) log of how often items (N,) are put into each slot, as a multiple of the mean item's, shrunk to it."""
        count = self.slot_IS[item] - (0.0 if less is None else less)
        usual = self.slot_IS.mean(axis=0) + 1e-6
        return np.log((np.maximum(count, 0.0) + SHRINK * usual) / ((1 + SHRINK) * usual)).clip(-3, 6).astype(np.float32)


@dataclass(frozen=True)
class Seen:
    """All that a student looks at in one decision."""

    event: Ints
    """(T,) ids of the user's latest rows, in time order"""
    event_item: Ints
    event_input: Floats
    """(T, D + 1 + facts): the encoder's state of the event, whether it has one, and what is counted"""
    user_input: Floats
    """(D + facts,)"""
    pool: Ints
    """(P,) item indices"""
    pool_input: Floats
    """(P, facts)"""


class StudentHead(nn.Module):
    """See the module. Inputs are standardised here, by what the training decisions have; facts beyond that are cut."""

    def __init__(self, shape: StudentShape) -> None:
        super().__init__()
        D, W, S = shape.encoder, shape.width, shape.slots
        sizes = {"event": D + 1 + len(EVENT_FACTS), "user": D + USER_INPUT, "pool": POOL_INPUT}
        for name, size in sizes.items():
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))
        self.register_buffer("temperature", torch.ones(()))
        drop = shape.dropout
        self.roles = _network(sizes["event"] + shape.roles + 1, W, shape.roles + 1, drop)
        self.forms = _network(sizes["user"], W, shape.forms, drop)
        self.slot_user = nn.Linear(sizes["user"], W)
        self.slot_item = nn.Linear(sizes["pool"] + S, W)
        self.slot_wish, self.slot_vector = nn.Linear(D, W), nn.Linear(D, W)
        self.slots = nn.Sequential(nn.GELU(), nn.Dropout(drop), nn.Linear(W, W), nn.GELU(), nn.Linear(W, S))

    def standard(self, name: str, x: Tensor) -> Tensor:
        """Facts in standard deviations, cut at :data:`LOUD`."""
        mean, scale = self.get_buffer(f"{name}_mean"), self.get_buffer(f"{name}_scale")
        return ((x - mean) / scale).clamp(-LOUD, LOUD)

    def role_logits(self, event_NX: Tensor, count_NR: Tensor) -> tuple[Tensor, Tensor]:
        """(N, R) logits of the roles, and (N,) of being labelled at all."""
        out = self.roles(torch.cat([self.standard("event", event_NX), count_NR], dim=-1))
        return out[..., :-1], out[..., -1]

    def form_logits(self, user_BX: Tensor) -> Tensor:
        """(B, F)"""
        logits: Tensor = self.forms(self.standard("user", user_BX))
        return logits

    def slot_logits(self, user_BX: Tensor, pool_BPX: Tensor, count_BPS: Tensor, vector_BPD: Tensor) -> Tensor:
        """(B, P, S) scores of the pool's items; ``vector_BPD`` are the backbone's item vectors."""
        user = self.standard("user", user_BX)
        item = self.slot_item(torch.cat([self.standard("pool", pool_BPX), count_BPS], dim=-1))
        wish = self.slot_wish(user[:, : vector_BPD.shape[-1]]).unsqueeze(1) * self.slot_vector(vector_BPD)
        logits: Tensor = self.slots(item + self.slot_user(user).unsqueeze(1) + wish)
        return logits


USER_INPUT = len(USER_FEATURES) + len(TRAIL_FACTS)
POOL_INPUT = len(POOL_FEATURES) + len(ITEM_FACTS)


def _network(inputs: int, width: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(width, width),
        nn.GELU(),
        nn.Linear(width, outputs),
    )


class Eyes:
    """Looks decisions up in a backbone's log: what any student on this backbone sees. Safe to share between threads."""

    def __init__(self, backbone: TrainedBackbone) -> None:
        self.backbone = backbone
        price = backbone.items["price"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        self.shelf = Shelf.of(backbone.items["category"].cast(pl.String).fill_null("").to_numpy().astype(str), price)
        with torch.no_grad():
            rows = torch.arange(1, backbone.model.config.items + 1)
            self.vector_ID = backbone.model.item_vector(rows).float().clone()

    @torch.no_grad()
    def look(self, decisions: Sequence[tuple[int, int]], favourites: Favourites) -> list[Seen]:
        """What is seen at (user index, Unix second) decisions; each must have a row before it."""
        model, log, features = self.backbone.model, self.backbone.log, self.backbone.features
        trails = [Trail.of(log, self.shelf, user, at) for user, at in decisions]
        pools = features.pools(
            [(user, at, favourites.of(trail)) for (user, at), trail in zip(decisions, trails, strict=True)]
        )
        given = [Decision(user, at, _whole(pool)) for (user, at), pool in zip(decisions, pools, strict=True)]
        encoded = model.encode(self.backbone.collate.batch(given))
        state, memory = encoded.state_BD.float().numpy(), encoded.memory_BTD[:, 1:].float().numpy()
        found = []
        for row, (trail, pool) in enumerate(zip(trails, pools, strict=True)):
            known = min(len(trail), self.backbone.collate.history)
            states = np.zeros((len(trail), state.shape[1] + 1), np.float32)
            states[len(trail) - known :, :-1] = memory[row, :known]
            states[len(trail) - known :, -1] = 1.0
            found.append(
                Seen(
                    event=trail.event,
                    event_item=trail.item,
                    event_input=np.concatenate([states, event_facts(trail, self.shelf)], axis=1),
                    user_input=np.concatenate([state[row], pool.user, trail_facts(trail)]).astype(np.float32),
                    pool=pool.item,
                    pool_input=np.concatenate([pool.feature, item_facts(trail, self.shelf, pool.item)], axis=1),
                )
            )
        return found


def _whole(pool: Pool) -> Pool:
    """The pool for the encoder, which looks at the user's facts alone: one item is as good as all."""
    return replace(pool, item=pool.item[:1], feature=pool.feature[:1], extra=0)


class Favourites:
    """Items that the teacher likes to name, which no count of sales brings into a pool."""

    def __init__(self, counts: Counts, shelf: Shelf) -> None:
        often = counts.slot_IS.sum(axis=1)
        order = np.argsort(-often, kind="stable")
        order = order[often[order] > 0]
        self._of_all = order[:FAVOURITES]
        category = shelf.category[order]
        self._of: dict[int, Ints] = {int(one): order[category == one][:EACH] for one in np.unique(category)}

    def of(self, trail: Trail) -> Ints:
        """Distinct items for a decision."""
        lists = [self._of_all, *(self._of.get(one, self._of_all[:0]) for one in latest_categories(trail, CATEGORIES))]
        found: Ints = np.unique(np.concatenate([*lists, looked_at(trail, LOOKED)]))
        return found


@dataclass(frozen=True)
class Said:
    """What a student says of one decision."""

    event: Ints
    """(T,) ids of the events it looked at, in time order"""
    role_TR: Floats
    """probabilities of the roles"""
    labelled_T: Floats
    """probability that the teacher would have labelled the event"""
    form_F: Floats
    """probability that the teacher would have proposed a path of the form"""
    item: Ints
    """(P,) item indices"""
    slot_PS: Floats
    """for each slot a distribution over the items"""


class Student:
    """A distilled student on the backbone that it was distilled on. Safe to share between threads."""

    def __init__(
        self,
        head: StudentHead,
        shape: StudentShape,
        counts: Counts,
        eyes: Eyes,
        as_of: datetime,
        manifest: Mapping[str, Any],
    ) -> None:
        self.head, self.shape, self.counts, self.eyes = head.eval().requires_grad_(False), shape, counts, eyes
        self.as_of, self.manifest = as_of, manifest
        self._favourites = Favourites(counts, eyes.shelf)

    @torch.no_grad()
    def say(self, user: str, at: datetime) -> Said | None:
        """What the teacher would say of a user at ``at``; None for a user of whom nothing is known before its day.

        Raises:
            FutureError: ``at`` lies before ``as_of``.
        """
        if at < self.as_of:
            raise FutureError(
                f"the student has learnt from decisions up to {self.as_of.isoformat()}, the decision is at {at.isoformat()}",
                fix=f"run `rolegen distil --at {at.date()}`",
            )
        log, second = self.eyes.backbone.log, seconds(at) // DAY * DAY
        index = log.user_index(user)
        if index is None or log.rows(index, second).start == log.rows(index, second).stop:
            return None
        seen = self.eyes.look([(index, second)], self._favourites)[0]
        role, labelled = self.head.role_logits(
            torch.from_numpy(seen.event_input), torch.from_numpy(self.counts.of_roles(seen.event_item))
        )
        user_BX = torch.from_numpy(seen.user_input)[None]
        slot = self.head.slot_logits(
            user_BX,
            torch.from_numpy(seen.pool_input)[None],
            torch.from_numpy(self.counts.of_slots(seen.pool))[None],
            self.eyes.vector_ID[torch.from_numpy(seen.pool)][None],
        )[0]
        return Said(
            event=seen.event,
            role_TR=(role / self.head.get_buffer("temperature")).softmax(dim=-1).numpy(),
            labelled_T=labelled.sigmoid().numpy(),
            form_F=self.head.form_logits(user_BX)[0].sigmoid().numpy(),
            item=seen.pool,
            slot_PS=slot.softmax(dim=0).numpy(),
        )

    def save(self, folder: Path) -> None:
        """Write everything to ``folder``; ``student.json`` last, so that its presence says that all is there."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "student.json").unlink(missing_ok=True)
        tensors = {f"head.{name}": tensor.contiguous() for name, tensor in self.head.state_dict().items()}
        some = np.flatnonzero((self.counts.role_IR.sum(axis=1) > 0) | (self.counts.slot_IS.sum(axis=1) > 0))
        tensors["counts.role"] = torch.from_numpy(np.ascontiguousarray(self.counts.role_IR[some]))
        tensors["counts.slot"] = torch.from_numpy(np.ascontiguousarray(self.counts.slot_IS[some]))
        save_file(tensors, folder / "student.safetensors")
        self.eyes.backbone.items[some.tolist()].select("item").write_parquet(folder / "items.parquet")
        content = {
            **self.manifest,
            "format": FORMAT,
            "as_of": self.as_of.isoformat(),
            "shape": asdict(self.shape),
            "facts": [*EVENT_FACTS, *ITEM_FACTS, *TRAIL_FACTS],
        }
        part = folder / "student.json.part"
        part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        part.replace(folder / "student.json")

    @classmethod
    def load(cls, folder: Path, backbone: TrainedBackbone) -> Student:
        """Read what :meth:`save` wrote; ``backbone`` is the one that it was distilled on, perhaps over more items.

        Raises:
            ProjectError: there is none, or one that does not fit this version or this backbone.
        """
        again = "run `rolegen distil --at DATE` again"
        file = folder / "student.json"
        if not file.is_file():
            raise ProjectError("there is no finished student", where=str(folder), fix="run `rolegen distil --at DATE`")
        try:
            manifest = json.loads(file.read_text("utf-8"))
            if manifest["format"] != FORMAT or manifest["facts"] != [*EVENT_FACTS, *ITEM_FACTS, *TRAIL_FACTS]:
                raise ProjectError("the student is of another version of RoleGen", where=str(file), fix=again)
            shape = StudentShape(**manifest["shape"])
            tensors = load_file(folder / "student.safetensors")
            head = StudentHead(shape)
            head.load_state_dict({name[5:]: one for name, one in tensors.items() if name.startswith("head.")})
            as_of = datetime.fromisoformat(manifest["as_of"])
            items = pl.read_parquet(folder / "items.parquet")["item"].to_list()
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RuntimeError,
            SafetensorError,
            pl.exceptions.PolarsError,
        ) as error:
            raise ProjectError(f"the student cannot be read: {error}", where=str(folder), fix=again) from error
        if shape.encoder != backbone.model.config.width:
            raise ProjectError("the student was distilled on a backbone of another width", where=str(file), fix=again)
        index = {item: row for row, item in enumerate(backbone.items["item"].to_list())}
        role_IR, slot_IS = (np.zeros((len(index), size), np.float32) for size in (shape.roles, shape.slots))
        lost = [item for item in items if item not in index]
        if lost:
            raise ProjectError(
                f"the backbone lacks {len(lost)} of the student's items, for instance {lost[0]!r}",
                where=str(file),
                fix=again,
            )
        rows = [index[item] for item in items]
        role_IR[rows], slot_IS[rows] = tensors["counts.role"].numpy(), tensors["counts.slot"].numpy()
        return cls(head, shape, Counts(role_IR, slot_IS), Eyes(backbone), as_of, manifest)


def check_past(backbone: TrainedBackbone, taught: Sequence[int], as_of: datetime) -> None:
    """Refuse what a student as of ``as_of`` must not have seen.

    Args:
        taught: Unix seconds of the decisions that it learns from.

    Raises:
        FutureError: the log, the backbone or a decision reaches to ``as_of`` or past it.
    """
    last = seconds(as_of)
    if len(backbone.log) and int(backbone.log.time.max()) >= last:
        raise FutureError(f"the log holds events at or after {as_of.isoformat()}", fix="read it with until=as_of")
    if backbone.as_of > as_of:
        raise FutureError(
            f"the backbone has learnt from events up to {backbone.as_of.isoformat()}, the student is to be of {as_of.isoformat()}",
            fix="take a backbone that was trained for that date or an earlier one",
        )
    if any(at >= last for at in taught):
        raise FutureError(f"a decision at or after {as_of.isoformat()} was to be learnt from", fix="leave it out")
