"""The torch backbone behind the loop's ``Recommender`` port: ids and titles outside, indices and tensors inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from rolegen_backbone.artefact import TrainedBackbone
from rolegen_backbone.events import Ints
from rolegen_backbone.examples import NO_HINT, Change, Decision, Hint
from rolegen_backbone.since import NOTHING, Told
from rolegen_errors import InputError, ProjectError
from rolegen_graphs.ports import NO_CHANGES
from rolegen_graphs.words import ROLES, Candidate, Effect, Role, RoleLabel, Slate, SlateItem

if TYPE_CHECKING:
    from .showing import Showing

PARTS = ("decoder", "item model", "repeat", "trend", "reasoning")
"""names of the mixture's parts in ``SlateItem.parts``; they add up to the score, the item's probability"""
SILENT: tuple[Role, ...] = ("incidental", "unresolved")
"""roles of events that tell nothing of what comes next"""
AHEAD = 64
"""baseline slates that are computed together in a batch"""


class Wished(Protocol):
    """What the model reads of a candidate."""

    @property
    def item(self) -> str | None: ...

    @property
    def role(self) -> Role: ...

    @property
    def path(self) -> int: ...

    @property
    def score(self) -> float: ...


class Labelled(Protocol):
    """What the model reads of an event's role."""

    @property
    def event(self) -> int: ...

    @property
    def role(self) -> Role: ...

    @property
    def confidence(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One slate of a batch, for a user of whom more may be known than the log holds."""

    told: Told
    candidates: Sequence[Wished] = ()
    labels: Sequence[Labelled] = ()
    without: Ints = field(default_factory=lambda: NOTHING)
    """items that must not come out"""


class InStock(Protocol):
    """What a recommender asks of a catalogue."""

    def in_stock(self, at: datetime) -> npt.NDArray[np.bool_]:
        """(items,) what can be bought at ``at``."""
        ...


class BackboneRecommender:
    """Rolls out paths and ranks slates with a :class:`TrainedBackbone`; safe for several threads.

    ``until``: the log goes on after this time, but was read only up to it. A later decision would miss what happened in
    between, so it is refused; None when nothing is missing. ``diversity``: how far slates go from the most probable items
    alone, see ``rolegen_backbone.diversity``; ``showing`` raises what is worth being shown. Scores and parts stay those
    of the model in both.
    """

    def __init__(
        self,
        backbone: TrainedBackbone,
        catalogue: InStock,
        *,
        beam: int = 50,
        diversity: float = 0.0,
        until: datetime | None = None,
        showing: Showing | None = None,
    ) -> None:
        self._showing = showing if showing is not None and showing.weight > 0 else None
        self._backbone, self._catalogue, self._until = backbone, catalogue, until
        self._beam, self._diversity = beam, diversity
        items = backbone.items
        self._ids: list[str] = items["item"].to_list()
        self._titles: list[str] = items["title"].to_list()
        self._categories: list[str] = items["category"].to_list()
        self._index = {item: row for row, item in enumerate(self._ids)}
        self._stock: tuple[datetime, npt.NDArray[np.bool_]] | None = None
        self._ahead: dict[tuple[str, datetime, int], Slate] = {}
        self._lock = Lock()

    def rollout(
        self,
        user: str,
        at: datetime,
        paths: Sequence[tuple[int, Sequence[str]]],
        changes: Mapping[int, tuple[int, str | None]] = NO_CHANGES,
    ) -> tuple[Effect, ...]:
        """Change of P(net order within the horizon) for each path; see ``rolegen_backbone.rollout`` on its meaning."""
        decision = self._backbone.decision(user, at, NO_HINT)
        walks = [[self._index[item] for item in items if item in self._index] for _, items in paths]
        past = [self._change(*changes[number]) if number in changes else None for number, _ in paths]
        return tuple(
            Effect(
                path=number,
                probability_without=found.without,
                probability_with=found.with_,
                change=found.change,
                low=found.low,
                high=found.high,
            )
            for (number, _), found in zip(paths, self._backbone.roll(decision, walks, past), strict=True)
        )

    def slate(
        self, user: str, at: datetime, candidates: Sequence[Candidate], size: int, labels: Sequence[RoleLabel] = ()
    ) -> Slate:
        """The best ``size`` available items under the mixture, with ``candidates`` and ``labels`` integrated.

        Raises ``InputError`` for a time later than ``until``.
        """
        if self._until is not None and at > self._until:
            raise InputError(
                f"the log was read up to {self._until.isoformat()}, the decision is at {at.isoformat()}",
                fix="ask for the graph of that time: RoleGen.graph(at), or ROLEGEN_AT for the server",
            )
        if not candidates and (ready := self._ahead.pop((user, at, size), None)) is not None:
            return ready
        known = [c for c in candidates if c.item in self._index]
        hint = make_hint(known, self._index, labels)
        return self._slates([user], [self._backbone.decision(user, at, hint)], [known], at, size)[0]

    def prepare(self, users: Sequence[str], at: datetime, size: int) -> None:
        """Compute the slates without candidates of many users in one batch; the next ``slate`` call of each takes it."""
        decisions = [self._backbone.decision(user, at, NO_HINT) for user in users]
        for low in range(0, len(users), AHEAD):
            part, some = decisions[low : low + AHEAD], users[low : low + AHEAD]
            for user, slate in zip(some, self._slates(some, part, [[]] * len(part), at, size), strict=True):
                self._ahead[user, at, size] = slate

    def slates_since(self, asked: Sequence[Asked], at: datetime, size: int) -> list[Slate]:
        """Slates of one batch; each sees the log before ``at`` and what was told of its user, see ``rolegen_backbone.since``.

        With nothing told and nothing left out a slate is that of :meth:`slate` at ``at``.
        """
        known = [[one for one in each.candidates if one.item in self._index] for each in asked]
        hints = [make_hint(some, self._index, each.labels) for some, each in zip(known, asked, strict=True)]
        view, decisions = self._backbone.decisions_since([each.told for each in asked], hints, at)
        users = [each.told.user for each in asked]
        barred = [each.without for each in asked]
        without = barred if any(len(items) for items in barred) else None
        return self._slates(users, decisions, known, at, size, backbone=view, without=without)

    def _slates(
        self,
        users: Sequence[str],
        decisions: Sequence[Decision],
        candidates: Sequence[Sequence[Wished]],
        at: datetime,
        size: int,
        *,
        backbone: TrainedBackbone | None = None,
        without: Sequence[Ints] | None = None,
    ) -> list[Slate]:
        available = self._available(at)
        changes = [self._showing.change(user, at) for user in users] if self._showing is not None else None
        found = (backbone or self._backbone).rank(
            decisions,
            available,
            size=min(size, int(available.sum())),
            beam=self._beam,
            diversity=self._diversity,
            bonus=np.stack([self._showing.bonus(user, at) for user in users]) if self._showing is not None else None,
            without=without,
        )
        # As lists at once: reading one number after the other out of tensors would cost as much as a level of the search.
        chosen, scores = found.item_BN.tolist(), found.log_probability_BN.exp().tolist()
        parts, entropy = found.parts_BNM.tolist(), found.entropy_B.tolist()
        slates = []
        for row, given in enumerate(candidates):
            reasons = {c.item: c for c in reversed(given)}
            items = []
            for rank, item in enumerate(chosen[row]):
                if item < 0:
                    break
                reason = reasons.get(self._ids[item])
                items.append(
                    SlateItem(
                        rank=rank + 1,
                        item=self._ids[item],
                        title=self._titles[item],
                        category=self._categories[item],
                        score=scores[row][rank],
                        parts={name: round(part, 8) for name, part in zip(PARTS, parts[row][rank], strict=True)},
                        role=reason.role if reason else None,
                        path=reason.path if reason else None,
                        showing=float(changes[row][item]) if changes is not None else None,
                    )
                )
            slates.append(Slate(items=tuple(items), entropy=entropy[row]))
        return slates

    def _change(self, event: int, item: str | None) -> Change | None:
        """None where the item in the event's place is unknown: nothing can be said of it."""
        if item is None:
            return Change(event, None)
        return Change(event, self._index[item]) if item in self._index else None

    def _available(self, at: datetime) -> npt.NDArray[np.bool_]:
        with self._lock:
            if self._stock is None or self._stock[0] != at:
                mask = self._catalogue.in_stock(at)
                if not mask.any():
                    raise ProjectError(
                        f"no item is available at {at.isoformat()}",
                        fix="raise [data] stock_days, or look at the catalogue's `available`",
                    )
                self._stock = (at, mask)
            return self._stock[1]


def make_hint(candidates: Sequence[Wished], index: Mapping[str, int], labels: Sequence[Labelled] = ()) -> Hint:
    """Candidates and roles as the model reads them.

    Candidates without a known item are left out; the first spec of an item counts. Events whose role is not resolved, or
    that did nothing, are left out too; the surest label comes first, among equals that of the latest event.
    """
    first: dict[int, Wished] = {}
    for candidate in candidates:
        if candidate.item is not None and candidate.item in index:
            first.setdefault(index[candidate.item], candidate)
    latest_first = [one for one in reversed(labels) if one.role not in SILENT]  # a reading is in time order
    telling = sorted(latest_first, key=lambda one: -one.confidence)
    if not first and not telling:
        return NO_HINT
    return Hint(
        item=np.array(list(first), np.int64),
        role=np.array([ROLES.index(c.role) for c in first.values()], np.int64),
        score=np.array([c.score for c in first.values()], np.float32),
        event=np.array([one.event for one in telling], np.int64),
        event_role=np.array([ROLES.index(one.role) for one in telling], np.int64),
    )


def use_threads(count: int) -> None:
    """Let torch and numpy's matrix products use ``count`` threads; decisions that run side by side are better off with one each.

    Waiting threads of a BLAS count in circles: with two where there was work for one, a decision took 1.3 times as long.
    """
    torch.set_num_threads(count)
    threadpool_limits(count, user_api="blas")
