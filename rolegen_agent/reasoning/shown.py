"""Roles in a log that tells what was shown: a look that answers an exposure is told apart from one of the user's own accord.

Whether a look moved anything shows in what the user did of their own accord afterwards; what the item is able to move, given the state
that it was met in, is known from its effects on everybody. A role needs both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from rolegen_graphs.words import Event, Role

from ..evidence.effects import MOVE
from ..evidence.states import BROWSING, COMPARING, DECIDING, ELSEWHERE, NONE, SATISFIED, STATES
from ..evidence.store import Evidence
from .beliefs import Beliefs

Offer = Callable[[Role, float, Sequence[int], str, "str | None"], None]
VISIT = timedelta(hours=6)
"""without a session, events so close together are one visit"""
GOES_ON, BY_CHANCE = 0.75, 0.15
"""chance that a user's next own step lies in the category of a need that has just begun; and that it does so anyway"""
SELLS = 0.05
"""chance of an order per look from which on an item is said to sell in a state"""
DEAR = 0.85
"""price quantile in its category from which on an item can be an anchor"""
_NEAR = 4
"""events cited at most"""


@dataclass
class Need:
    """The active need of one user while walking along the events; the same rules as ``evidence.states``."""

    category: str = ""
    stage: int = NONE
    since: datetime | None = None
    items: tuple[str, ...] = ()
    carted: bool = False
    events: tuple[int, ...] = ()
    """of the present run"""

    def towards(self, event: Event, active: timedelta) -> int:
        """The state (``evidence.states``) in which the user met ``event``."""
        if self.since is None or event.at - self.since > active:
            return NONE
        if self.stage in (BROWSING, COMPARING, DECIDING) and self.category != event.category:
            return ELSEWHERE
        return self.stage

    def engage(self, event: Event, active: timedelta) -> None:
        goes_on = (
            self.since is not None
            and self.category == event.category
            and event.at - self.since <= active
            and self.stage != SATISFIED
        )
        if not goes_on:
            self.items, self.carted, self.events = (), False, ()
        self.items = self.items if event.item in self.items else (*self.items, event.item)
        self.carted = self.carted or event.behaviour == "cart"
        self.events = (*self.events, event.event)
        several = COMPARING if len(self.items) > 1 else BROWSING
        self.stage = SATISFIED if event.behaviour == "order" else DECIDING if self.carted else several
        self.category, self.since = event.category, event.at


@dataclass(frozen=True)
class Met:
    """How one event was met, and what followed."""

    state: int
    need: tuple[int, ...]
    """events of the need that was active before"""
    shown: bool
    """the item had been shown in the same visit"""
    bought: bool
    """the item was ordered in the same visit"""
    accord: str | None
    """category of the user's next own step at a later visit within the horizon; None where there is none"""
    cheaper: bool
    """a cheaper one of its kind was ordered within the horizon"""
    before: tuple[Event, ...]
    """earlier orders of the item, for an order"""
    last: Event | None
    """the last order before, for an order"""


def walk(events: Sequence[Event], evidence: Evidence) -> dict[int, Met]:
    """By event id, how each engagement was met; ``events`` in time order."""
    active, horizon = timedelta(days=evidence.options.active_days), timedelta(days=evidence.options.horizon_days)
    need, found = Need(), dict[int, Met]()
    shown: dict[str, datetime] = {}
    orders: list[Event] = []
    own = _own_steps(events)
    for place, event in enumerate(events):
        if event.behaviour == "expose":
            shown[event.item] = event.at
        if event.behaviour not in ("view", "cart", "order"):
            continue
        later = [e for e in events[place + 1 :] if e.at - event.at <= horizon]
        sold = [e for e in later if e.behaviour == "order"]
        step = next((e for e in later if e.event in own and e.at - event.at > VISIT), None)
        found[event.event] = Met(
            state=need.towards(event, active),
            need=need.events[-_NEAR:],
            shown=event.item in shown and event.at - shown[event.item] <= VISIT,
            bought=any(e.item == event.item and e.at - event.at <= VISIT for e in sold),
            accord=step.category if step else None,
            cheaper=any(
                e.category == event.category and (e.price or 0.0) < (event.price or 0.0) and e.item != event.item
                for e in sold
            ),
            before=tuple(e for e in orders if e.item == event.item),
            last=orders[-1] if orders else None,
        )
        need.engage(event, active)
        if event.behaviour == "order":
            orders.append(event)
    return found


def _own_steps(events: Sequence[Event]) -> frozenset[int]:
    """Ids of engagements that no exposure asked for."""
    shown: dict[str, datetime] = {}
    found = set()
    for event in events:
        if event.behaviour == "expose":
            shown[event.item] = event.at
        elif event.behaviour in ("view", "cart", "order"):
            asked = event.item in shown and event.at - shown[event.item] <= VISIT
            if not asked:
                found.add(event.event)
    return frozenset(found)


def claim_shown(event: Event, met: Met, offer: Offer, evidence: Evidence, beliefs: Beliefs) -> None:
    """Offer every role that speaks for itself here, each with how much it does."""
    if event.behaviour == "order":
        _order(event, met, offer, evidence, beliefs)
        return
    if met.bought:
        sure = 0.75 + 0.2 * beliefs.of("target", event.item)
        offer(*_bought_as(event, met, beliefs, sure), None)
        return
    here = met.state in (BROWSING, COMPARING, DECIDING)
    if not met.shown and event.behaviour == "view":
        offer("comparison", 0.8 if here else 0.55, met.need, "looked up of the user's own accord", None)
    if event.behaviour == "cart":
        offer("target", 0.5 + 0.3 * beliefs.of("target", event.item), met.need, "put into the cart", None)
        return
    if not met.shown:
        return
    state = STATES[met.state]
    if met.state in (NONE, SATISFIED):
        went_on = met.accord == event.category
        begins = _posterior(beliefs.per_look(event.item, state, "entry") / GOES_ON, went_on)
        why = "the user went on with it" if went_on else "though the user did not go on with it soon"
        offer("trigger", begins, (), f"no need was active in {event.category}; {why}", None)
    elif here:
        moved = met.accord is not None and met.accord != event.category
        if met.state != DECIDING and moved:
            sure = _posterior(beliefs.per_look(event.item, state, f"{MOVE}{met.accord}") / GOES_ON, True)
            why = f"the next step of the user's own went to {met.accord}, where this item leads"
            offer("bridge", sure, met.need, why, met.accord)
        dear = (evidence.number("anchor", event.item, "price_quantile") or 0.0) > DEAR
        if met.state != DECIDING and dear:
            sure = (0.1 + 0.1 * met.cheaper) + 0.75 * beliefs.of("anchor", event.item)
            offer("anchor", sure, met.need, "a dear one, beside which others sell better", None)
        if not moved or met.state == DECIDING:
            sure = 0.15 + 0.7 * beliefs.of("comparison", event.item)
            offer("comparison", sure, met.need, "met while choosing, and it helps to choose", None)
    offer("incidental", 0.5 if here else 0.505, (), "looked at, and nothing shows that it moved anything", None)


def _posterior(prior: float, followed: bool) -> float:
    """Chance that a look moved the need, by what looks at the item do in general and whether something followed this one."""
    prior = min(max(prior, 0.001), 0.99)
    for_it, against = (GOES_ON, BY_CHANCE) if followed else (1 - GOES_ON, 1 - BY_CHANCE)
    return prior * for_it / (prior * for_it + (1 - prior) * against)


def _bought_as(event: Event, met: Met, beliefs: Beliefs, sure: float) -> tuple[Role, float, Sequence[int], str]:
    """The role in which an item was bought: by what had been bought before, and whether the item sells without a need."""
    if met.shown and met.last is None:
        opens = max(beliefs.per_look(event.item, state, "itself") for state in ("none", "elsewhere", "browsing"))
        if opens > SELLS:
            return "gateway", 0.8, (), "the first order, of an item that sells without a need"
    aside = met.state not in (COMPARING, DECIDING) and beliefs.per_look(event.item, "satisfied", "itself") > SELLS
    if met.shown and aside and met.last is not None and met.last.category != event.category:
        return "complement", 0.8, (met.last.event,), f"bought soon after {met.last.title}"
    return "target", sure, met.need, "it met the need"


def _order(event: Event, met: Met, offer: Offer, evidence: Evidence, beliefs: Beliefs) -> None:
    earlier = [e for e in met.before if event.at - e.at > VISIT]
    if earlier and not met.shown:
        gaps = [(b.at - a.at) / timedelta(days=1) for a, b in zip(earlier, [*earlier[1:], event], strict=True)]
        sure = 0.5 + 0.4 * beliefs.of("replenishment", event.item)
        cited = [e.event for e in earlier[-_NEAR:]]
        offer("replenishment", sure, cited, f"bought again, every {median(gaps):.0f} days in the median", None)
    offer(*_bought_as(event, met, beliefs, 0.6 + 0.3 * beliefs.of("target", event.item)), None)
