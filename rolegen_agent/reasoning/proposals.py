"""Which items could come next for a user, by the kind of path that leads to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rolegen_graphs.words import Role, Trajectory

from ..evidence.market import Market, microseconds
from ..evidence.signals import FEATURES, Considered, Floats, History, Reference, consider
from ..evidence.store import Evidence
from .beliefs import UNKNOWN, Beliefs

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
STEPS = 4
"""specs of a path: the intervention and three steps"""
_AT = {name: index for index, name in enumerate(FEATURES)}
_SEASON_LINES = 5
"""lines in these weeks last year below which nothing is called seasonal"""


@dataclass(frozen=True)
class Kind:
    """A kind of path. ``number`` is the path's number in every round, so that a correction finds its kind again."""

    number: int
    name: str
    role: Role
    """of the intervention and of the steps before the target"""


REBUY = Kind(0, "rebuy", "replenishment")
COMPLEMENT = Kind(1, "complement", "complement")
SEASON = Kind(2, "season", "trigger")
BRIDGE = Kind(3, "bridge", "bridge")
FAVOURITE = Kind(4, "favourite category", "target")
VIEWED = Kind(5, "looked at, not bought", "target")
HABIT = Kind(6, "rest of the habit", "replenishment")
POPULAR = Kind(7, "popular", "gateway")
KINDS = (REBUY, COMPLEMENT, SEASON, BRIDGE, FAVOURITE, VIEWED, HABIT, POPULAR)


@dataclass(frozen=True)
class Proposals:
    """The considered items with their chance to be in the next order, and what they qualify for."""

    considered: Considered
    chance: Floats
    """(items,): P(in the next order | one comes)"""
    market: Market
    bridges: dict[str, str]
    """by category that is led to: the user's item that leads there most surely"""

    def members(self, kind: Kind, *, due_only: bool = False) -> Ints:
        """Rows of ``considered`` that fit the kind, likeliest first; ties by item code."""
        fits = _QUALIFIES[kind.number](self.considered)
        if kind == BRIDGE:
            reached = np.array([category in self.bridges for category in self.market.categories], dtype=np.bool_)
            fits = fits & reached[self.market.category_code[self.considered.code]]
        rows = np.flatnonzero(fits)
        if due_only:
            rows = rows[self.considered.signals[rows, _AT["due"]] >= 0]
        return rows[np.lexsort((self.considered.code[rows], -np.round(self.chance[rows], 9)))]

    def signal(self, row: int, name: str) -> float:
        return float(self.considered.signals[row, _AT[name]])


def _owned(c: Considered) -> Mask:
    return c.owned & (c.signals[:, _AT["orders"]] > 0)


def _unlinked(c: Considered) -> Mask:
    """New items that nothing the user has leads to: those that are linked belong to a kind that can say why."""
    linked = (c.signals[:, _AT["complement"]] > 0) | (c.signals[:, _AT["sibling"]] > 0)
    return np.logical_not(c.owned | linked)


_QUALIFIES: dict[int, Callable[[Considered], Mask]] = {
    REBUY.number: _owned,
    HABIT.number: _owned,
    VIEWED.number: lambda c: c.owned & (c.signals[:, _AT["orders"]] == 0),
    COMPLEMENT.number: lambda c: ~c.owned & (c.signals[:, _AT["complement"]] > 0),
    SEASON.number: lambda c: (
        (c.signals[:, _AT["season_peak"]] > 0.1) & (c.signals[:, _AT["season"]] >= np.log1p(_SEASON_LINES))
    ),
    BRIDGE.number: lambda c: _unlinked(c) & (c.signals[:, _AT["category"]] < 0),
    FAVOURITE.number: lambda c: ~c.owned & (c.signals[:, _AT["category"]] > 0),
    POPULAR.number: _unlinked,
}


def propose(
    trajectory: Trajectory, evidence: Evidence, beliefs: Beliefs, market: Market, reference: Reference
) -> Proposals:
    """Consider own and new items for the trajectory; only what it shows and what was sold before ``at`` counts."""
    considered = consider(
        history_of(trajectory, market), microseconds(trajectory.at), market, market.as_of(trajectory.at), reference
    )
    chance = evidence.next_order.probability(considered)
    return Proposals(considered, chance, market, _bridges(trajectory, beliefs))


def _bridges(trajectory: Trajectory, beliefs: Beliefs) -> dict[str, str]:
    """By category: the engaged item that is believed most to lead there, where that is likelier than not."""
    best: dict[str, tuple[float, str]] = {}
    for item in sorted({event.item for event in trajectory.events if event.behaviour in ("view", "cart", "order")}):
        for category, belief in beliefs.bridges_from.get(item, {}).items():
            if belief > UNKNOWN and belief > best.get(category, (0.0, ""))[0]:
                best[category] = (belief, item)
    return {category: item for category, (_, item) in best.items()}


def history_of(trajectory: Trajectory, market: Market) -> History:
    """The visible orders, views and carts; an item that was given back altogether was never bought."""
    balance: dict[str, float] = {}
    refunded: set[str] = set()
    for event in trajectory.events:
        if event.behaviour == "order":
            balance[event.item] = balance.get(event.item, 0.0) + event.quantity
        elif event.behaviour == "refund":
            refunded.add(event.item)
            balance[event.item] = balance.get(event.item, 0.0) - event.quantity
    undone = {item for item in refunded if balance[item] <= 0}
    kept = [
        event
        for event in trajectory.events
        if event.item in market.code
        and (event.behaviour in ("view", "cart") or (event.behaviour == "order" and event.item not in undone))
    ]
    return History(
        code=np.array([market.code[event.item] for event in kept], dtype=np.int64),
        us=np.array([microseconds(event.at) for event in kept], dtype=np.int64),
        order=np.array([event.behaviour == "order" for event in kept], dtype=np.bool_),
    )
