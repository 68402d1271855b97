"""Training decisions from a log, and their padded batches.

A *return* is an order day of a user who had ordered before; its decision lies some days earlier, as it does in use: the
shop decides today, the customer comes within the horizon. A *spell* is any decision with the question "net order within
the horizon?"; one whose horizon is not over by the end of the log has no label yet and is never called a "no".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from .events import DAY, Baskets, EventLog, Floats, Ints
from .features import Features, Pool
from .model import CANDIDATE_FEATURES, EVENT_FEATURES, Batch

SHORTEST_GAP = 3
"""returns after less than a third of the dormancy are left out: they cost time and did not help"""
KEYS = 4
"""events that the decoder has before the codes, at most"""
MAX_TARGETS = 6
"""target items sampled from one basket for one step; more only cost time"""


NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Hint:
    """What reasoning says of one decision: C candidates, and the roles of R events of the trajectory."""

    item: Ints
    role: Ints
    score: Floats
    event: Ints = field(default_factory=lambda: NONE)
    """ids of events, those that matter most first; the first :data:`KEYS` of them are the key events"""
    event_role: Ints = field(default_factory=lambda: NONE)


NO_HINT = Hint(NONE, NONE, np.zeros(0, np.float32))


@dataclass(frozen=True)
class Decision:
    """One decision for the model, with what it may see already looked up."""

    user: int
    at: int
    """Unix second; a whole day, so that nothing of the same day is seen"""
    pool: Pool
    hint: Hint = NO_HINT
    target: Ints = field(default_factory=lambda: NONE)
    weight: float = 1.0


@dataclass(frozen=True)
class Spells:
    """N decisions with the label of the outcome head."""

    user: Ints
    at: Ints
    feature: Floats
    """(N, len(USER_FEATURES))"""
    ordered: Floats
    """(N,) 1 where a net order is known to have followed within the horizon"""
    delay: Ints
    """(N,) days from the decision to that order, -1 where none is known"""
    watched: Ints
    """(N,) days after the decision that the log knows, at most the horizon; below it "no order" is not known yet"""
    dormant: npt.NDArray[np.bool_]
    """(N,) whether the last order lay at least the dormancy back"""


def returns(
    baskets: Baskets, *, horizon_days: int, dormant_days: int, first_day: int, last_day: int, seed: int
) -> tuple[Ints, Ints, Floats]:
    """Baskets that end a gap, the day of their decision, and their weight.

    A decision lies less than ``horizon_days`` before its order; half of those after short gaps lie on its very day. Gaps of at least
    ``dormant_days`` are what the model is for: their decision lies after the user had become dormant, and they weigh 1;
    shorter gaps teach taste and weigh less, and those below a third teach nothing more (``backbone/LOG.md``).

    Returns:
        basket index (N,), decision day (N,), weight (N,) for decision days in [first_day, last_day).
    """
    random = np.random.default_rng(seed)
    basket = np.flatnonzero(baskets.previous >= 0)
    gap = baskets.day[basket] - baskets.previous[basket]
    dormant = gap >= dormant_days
    room = np.where(dormant, gap - dormant_days, gap - 1)
    lead = (random.random(len(basket)) * (np.minimum(room, horizon_days - 1) + 1)).astype(np.int64)
    lead[~dormant & (random.random(len(basket)) < 0.5)] = 0
    day = baskets.day[basket] - lead
    weight = np.where(dormant, 1.0, np.clip(gap / dormant_days, 0.15, 0.6)).astype(np.float32)
    keep = (gap * SHORTEST_GAP >= dormant_days) & (day >= first_day) & (baskets.day[basket] < last_day)
    return basket[keep], day[keep], weight[keep]


def spells(
    log: EventLog,
    baskets: Baskets,
    features: Features,
    *,
    horizon_days: int,
    dormant_days: int,
    first_day: int,
    last_day: int,
    limit: int,
    seed: int,
    unfinished: bool = False,
) -> Spells:
    """Decisions of dormant and of fresh buyers whose horizon ended by ``last_day``.

    Each basket opens a spell that lasts until the next net order; decisions are drawn uniformly over its days, most of
    them (60 %) from days on which the user was dormant.

    Args:
        unfinished: also decisions whose horizon reaches past ``last_day``: what became of them so far is no label on its
            own, see ``delayed.py``. An order that is to be refunded after ``last_day`` still counts as one.
    """
    random = np.random.default_rng(seed)
    never = np.iinfo(np.int32).max
    following = np.full(len(baskets), never, np.int64)
    net = baskets.kept(log, horizon_days)
    for before in range(len(baskets) - 2, -1, -1):
        if baskets.user[before + 1] == baskets.user[before]:
            following[before] = baskets.day[before + 1] if net[before + 1] else following[before + 1]
    last = last_day if unfinished else last_day - horizon_days
    picked: list[tuple[Ints, Ints]] = []
    for shift, share in ((dormant_days, 0.6), (0, 0.4)):
        begin = np.maximum(baskets.day + 1 + shift, first_day)
        end = np.minimum(following, last)
        room = np.maximum(end - begin, 0)
        if not room.sum():
            continue
        row = random.choice(len(baskets), size=int(limit * share), p=room / room.sum())
        picked.append((row, begin[row] + (random.random(len(row)) * room[row]).astype(np.int64)))
    if not picked:
        none, no = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return Spells(none, none, no.reshape(0, 0), no, none, none, none.astype(bool))
    row = np.concatenate([r for r, _ in picked])
    day = np.concatenate([d for _, d in picked])
    delay = np.where(following[row] - day < horizon_days, following[row] - day, -1)
    at = day * DAY
    return Spells(
        user=baskets.user[row],
        at=at,
        feature=np.stack([features.user(int(u), int(t)) for u, t in zip(baskets.user[row], at, strict=True)]),
        ordered=(delay >= 0).astype(np.float32),
        delay=delay,
        watched=np.minimum(last_day - day, horizon_days),
        dormant=day - baskets.day[row] > dormant_days,
    )


class Change(NamedTuple):
    """An event of the past as it might have been."""

    event: int
    """its id"""
    item: int | None
    """the item that stands there instead; None: the event had not happened"""


class Collator:
    """Pads decisions into a :class:`Batch`."""

    def __init__(self, log: EventLog, history: int) -> None:
        self.log, self.history = log, history

    def events(
        self,
        users: Ints,
        ats: Ints,
        appended: Sequence[Sequence[tuple[int, int]]] | None = None,
        changes: Sequence[Change | None] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Content rows (B, T), behaviours (B, T), features (B, T, EVENT_FEATURES), mask (B, T).

        An intervention is what is ``appended``, (content row, behaviour) of events put at the decision time of each
        decision, and what ``changes`` of its past; an event older than the history changes nothing.
        """
        log = self.log
        extra = max((len(a) for a in appended), default=0) if appended else 0
        rows = [log.rows(int(u), int(t)) for u, t in zip(users, ats, strict=True)]
        T = max(1, min(self.history, max(r.stop - r.start for r in rows)) + extra)
        B = len(users)
        item = np.zeros((B, T), np.int64)
        behaviour = np.zeros((B, T), np.int64)
        feature = np.zeros((B, T, EVENT_FEATURES), np.float32)
        mask = np.zeros((B, T), bool)
        for b, r in enumerate(rows):
            start = max(r.start, r.stop - self.history)
            n = r.stop - start
            part = slice(start, r.stop)
            item[b, :n] = log.item[part] + 1
            behaviour[b, :n] = log.behaviour[part]
            days = (int(ats[b]) - log.time[part]) / DAY
            feature[b, :n, 0] = np.log1p(days) / 3
            feature[b, :n, 1] = np.cos(2 * np.pi * days / 364)
            feature[b, :n, 2] = np.log1p(log.quantity[part]) / 3
            feature[b, :n, 3] = np.nan_to_num(np.log(np.maximum(log.price[part], 1e-3))) / 2
            mask[b, :n] = True
            if changes and (change := changes[b]) is not None:
                place = np.flatnonzero(log.event[part] == change.event)
                if change.item is None:
                    mask[b, place] = False
                else:
                    item[b, place] = change.item + 1
            if appended:
                for k, (row, code) in enumerate(appended[b]):
                    item[b, n + k], behaviour[b, n + k], mask[b, n + k] = row, code, True
                    feature[b, n + k, 1] = 1.0
        return tuple(torch.from_numpy(x) for x in (item, behaviour, feature, mask))  # type: ignore[return-value]

    def read(self, decisions: Sequence[Decision], T: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Roles of the events (B, T) from 1, places of the key events (B, Y), mask (B, Y).

        Events that the model does not see any more, being older than its history, are left out.
        """
        found, B = [], len(decisions)
        role = np.zeros((B, T), np.int64)
        for b, d in enumerate(decisions):
            rows = self.log.rows(d.user, d.at)
            known = self.log.event[max(rows.start, rows.stop - self.history) : rows.stop]
            _, place, number = np.intersect1d(known, d.hint.event, return_indices=True)
            role[b, place] = d.hint.event_role[number] + 1
            found.append(np.sort(place[np.argsort(number)][:KEYS]))
        Y = max(len(keys) for keys in found)
        key, mask = np.zeros((B, Y), np.int64), np.zeros((B, Y), bool)
        for b, keys in enumerate(found):
            key[b, : len(keys)], mask[b, : len(keys)] = keys, True
        return torch.from_numpy(role), torch.from_numpy(key), torch.from_numpy(mask)

    def batch(self, decisions: Sequence[Decision]) -> Batch:
        """Pad pools and candidates; candidates must be in their decision's pool."""
        B = len(decisions)
        item, behaviour, feature, mask = self.events(
            np.array([d.user for d in decisions]), np.array([d.at for d in decisions])
        )
        event_role, key, key_mask = self.read(decisions, item.shape[1])
        P = max(len(d.pool.item) for d in decisions)
        C = max(1, max(len(d.hint.item) for d in decisions))
        pool = np.zeros((B, P), np.int64)
        pool_feature = np.zeros((B, P, decisions[0].pool.feature.shape[1]), np.float32)
        pool_real, pool_mask = np.zeros((B, P), bool), np.zeros((B, P), bool)
        candidate, role = np.zeros((B, C), np.int64), np.zeros((B, C), np.int64)
        candidate_feature = np.zeros((B, C, CANDIDATE_FEATURES), np.float32)
        candidate_mask = np.zeros((B, C), bool)
        for b, d in enumerate(decisions):
            n, c = len(d.pool.item), len(d.hint.item)
            pool[b, :n], pool_feature[b, :n] = d.pool.item, d.pool.feature
            pool_real[b, :n], pool_mask[b, : n - d.pool.extra] = True, True
            if c:
                order = np.argsort(d.pool.item, kind="stable")
                candidate[b, :c] = order[np.searchsorted(d.pool.item[order], d.hint.item)]
                role[b, :c], candidate_mask[b, :c] = d.hint.role, True
                candidate_feature[b, :c, 0] = d.hint.score
                candidate_feature[b, :c, 1] = (d.hint.item[:, None] == d.hint.item[None, :]).mean(axis=1)
        return Batch(
            item_BT=item,
            behaviour_BT=behaviour,
            event_BTX=feature,
            event_mask_BT=mask,
            event_role_BT=event_role,
            key_BY=key,
            key_mask_BY=key_mask,
            user_BU=torch.from_numpy(np.stack([d.pool.user for d in decisions])),
            pool_BP=torch.from_numpy(pool),
            pool_BPF=torch.from_numpy(pool_feature),
            pool_real_BP=torch.from_numpy(pool_real),
            pool_mask_BP=torch.from_numpy(pool_mask),
            candidate_BC=torch.from_numpy(candidate),
            role_BC=torch.from_numpy(role),
            candidate_BCX=torch.from_numpy(candidate_feature),
            candidate_mask_BC=torch.from_numpy(candidate_mask),
        )


def sample_targets(
    decisions: Sequence[Decision], random: np.random.Generator, most: int = MAX_TARGETS
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, S) target items, at most ``most``, and their weights; each decision's weights sum to its own weight."""
    S = min(most, max(len(d.target) for d in decisions))
    target = np.zeros((len(decisions), S), np.int64)
    weight = np.zeros((len(decisions), S), np.float32)
    for b, d in enumerate(decisions):
        chosen = d.target if len(d.target) <= S else random.choice(d.target, S, replace=False)
        target[b, : len(chosen)] = chosen
        weight[b, : len(chosen)] = d.weight / len(chosen)
    return torch.from_numpy(target), torch.from_numpy(weight)


def pool_hits(decisions: Sequence[Decision], batch: Batch) -> torch.Tensor:
    """(B, P) which items of the pool are among the decision's targets; padding is none."""
    hit = np.zeros(batch.pool_BP.shape, bool)
    for row, decision in zip(hit, decisions, strict=True):
        row[: len(decision.pool.item)] = np.isin(decision.pool.item, decision.target)
    return torch.from_numpy(hit)
