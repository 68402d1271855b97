"""Rollouts: the probability of a net order within the horizon, with and without an intervention.

An intervention is put into the trajectory as events at the decision time and the outcome head looks again. What the
difference means depends on the log. Where the log records exposures or views, the inserted event is one, and "without"
is the untouched trajectory. Where it records orders alone, an inserted order makes any user look active again, whatever
the item; so "without" is then the same insertion of *some* item, and the change says what this item does beyond that.
Neither is a causal effect unless exposure was randomised; both are labelled as associations of the log.
An intervention may also change the past: an event that had not happened, or with another item in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .events import BEHAVIOURS, ORDER, EventLog, Floats, Ints
from .examples import Change, Collator
from .model import UNKNOWN_ITEM, Backbone, Batch, Encoded

Z90 = 1.6449
"""normal quantile of a 90 % interval"""
ROWS = 512
"""trajectories of one forward pass"""


@dataclass(frozen=True)
class Rollout:
    """Estimates for one intervention: probabilities and a 90 % interval of the change."""

    without: float
    with_: float
    change: float
    low: float
    high: float


def intervention_behaviour(log: EventLog) -> int:
    """The weakest behaviour that the log knows: what showing an item would leave behind."""
    known = log.behaviour[log.behaviour <= ORDER]
    return int(known.min()) if len(known) else ORDER


def encode_events(
    model: Backbone,
    collate: Collator,
    user: Ints,
    at: Ints,
    feature: Floats,
    appended: Sequence[Sequence[tuple[int, int]]] | None,
    changes: Sequence[Change | None] | None = None,
) -> Encoded:
    """Encode trajectories without pools: all that the outcome head needs."""
    item, behaviour, event, mask = collate.events(user, at, appended, changes)
    nothing = torch.zeros(len(user), 1, dtype=torch.long)
    batch = Batch(
        item_BT=item,
        behaviour_BT=behaviour,
        event_BTX=event,
        event_mask_BT=mask,
        event_role_BT=torch.zeros_like(item),
        key_BY=nothing[:, :0],
        key_mask_BY=nothing[:, :0].bool(),
        user_BU=torch.from_numpy(np.ascontiguousarray(feature)),
        pool_BP=nothing,
        pool_BPF=nothing.float(),
        pool_real_BP=nothing.bool(),
        pool_mask_BP=nothing.bool(),
        candidate_BC=nothing,
        role_BC=nothing,
        candidate_BCX=nothing.float(),
        candidate_mask_BC=nothing.bool(),
    )
    return model.encode(batch)


@dataclass(frozen=True)
class Question:
    """One decision to roll out, and its interventions."""

    user: int
    at: int
    """Unix second"""
    feature: Floats
    """(len(USER_FEATURES),) facts at the decision; the same with and without"""
    paths: Sequence[Sequence[int]]
    """item indices of each intervention, in order"""
    changes: Sequence[Change | None] = ()
    """what each intervention changes of the past; empty: nothing"""


@torch.no_grad()
def rollout(
    model: Backbone, collate: Collator, platt: tuple[float, float], code: int, questions: Sequence[Question]
) -> list[list[Rollout]]:
    """One :class:`Rollout` for each path of each question, in forward passes of about :data:`ROWS` trajectories.

    ``code`` is the inserted behaviour, see :func:`intervention_behaviour`.
    """
    trajectories = [_trajectories(question, code) for question in questions]
    results: list[list[Rollout]] = []
    while len(results) < len(questions):
        first, rows = len(results), 0
        last = first
        while last < len(questions) and (last == first or rows + len(trajectories[last]) <= ROWS):
            rows += len(trajectories[last])
            last += 1
        together = range(first, last)
        owner = np.repeat(np.array(together), [len(trajectories[number]) for number in together])
        user, at = (np.array([getattr(questions[k], name) for k in owner], np.int64) for name in ("user", "at"))
        feature = np.stack([questions[k].feature for k in owner])
        inserted = [walk for number in together for walk in trajectories[number]]
        changed = [change for number in together for change in _changes(questions[number], len(trajectories[number]))]
        encoded = encode_events(model, collate, user, at, feature, inserted, changed)
        logit_RK = model.outcome(torch.from_numpy(feature), encoded)
        results += [
            _compare(questions[number], logit_RK[torch.from_numpy(owner == number)], platt, code) for number in together
        ]
    return results


def _trajectories(question: Question, code: int) -> list[list[tuple[int, int]]]:
    """What each row appends: nothing in row 0, "some item" in as many steps in rows 1 … longest, then the paths."""
    longest = max((len(path) for path in question.paths), default=0)
    return [[(UNKNOWN_ITEM, code)] * k for k in range(longest + 1)] + [
        [(item + 1, code) for item in path] for path in question.paths
    ]


def _changes(question: Question, rows: int) -> list[Change | None]:
    """What each row changes of the past: the references nothing."""
    changes = list(question.changes) or [None] * len(question.paths)
    return [None] * (rows - len(question.paths)) + changes


def _compare(question: Question, logit_RK: torch.Tensor, platt: tuple[float, float], code: int) -> list[Rollout]:
    orders_only = BEHAVIOURS[code] == "order"
    slope, intercept = platt
    probability = torch.sigmoid(slope * logit_RK + intercept).numpy()
    # What was calibrated is the ensemble's mean logit, not the mean of the heads' probabilities.
    without = float(torch.sigmoid(slope * logit_RK[0].mean() + intercept))
    before = len(logit_RK) - len(question.paths)
    results = []
    for number, path in enumerate(question.paths):
        reference = len(path) if orders_only else 0
        change = probability[before + number] - probability[reference]
        middle, spread = float(change.mean()), float(change.std(ddof=1)) if len(change) > 1 else 0.0
        # A probability stays one: the change and its interval are cut where "with" would leave [0, 1].
        low, middle, high = (
            min(max(value, -without), 1.0 - without) for value in (middle - Z90 * spread, middle, middle + Z90 * spread)
        )
        results.append(Rollout(without, without + middle, middle, low, high))
    return results
