"""The functional role of each event that matters, from the user's own trajectory and the log's evidence together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import mean, median, pstdev

from rolegen_graphs.words import Event, Intent, Reading, Role, RoleBelief, RoleLabel, Statistic, Trajectory

from ..evidence.store import Evidence
from .beliefs import UNKNOWN, Beliefs
from .hindsight import Hindsight
from .shown import Met, claim_shown, walk

RESOLVED = 0.5
"""a role below this confidence is not claimed: the event is unresolved"""


@dataclass
class _Claim:
    """The best role so far for one event, and what was said for each."""

    role: Role = "unresolved"
    confidence: float = 0.0
    evidence: tuple[int, ...] = ()
    other: str | None = None
    why: str = ""
    offers: dict[Role, tuple[float, int, str | None]] = field(default_factory=dict)
    """by role: the best confidence, the user's own events behind it, and the other item or category"""

    def offer(self, role: Role, confidence: float, evidence: Sequence[int], why: str, other: str | None = None) -> None:
        if role not in self.offers or confidence > self.offers[role][0]:
            self.offers[role] = (confidence, max(1, len(evidence)), other)
        if confidence > self.confidence:
            self.role, self.confidence, self.why, self.other = role, confidence, why, other
            self.evidence = tuple(evidence)


@dataclass
class _Past:
    """What the walk over the trajectory has seen so far."""

    bought: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    last_bought: dict[str, Event] = field(default_factory=dict)
    looked: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    """by category"""
    stage: dict[str, tuple[datetime, Intent, frozenset[str]]] = field(default_factory=dict)


def read_trajectory(
    trajectory: Trajectory, evidence: Evidence, beliefs: Beliefs, *, limit: int, doubted: frozenset[int]
) -> Reading:
    """Labels of the most telling events, at most ``limit``, in time order, and the intent at the decision time.

    Args:
        doubted: events whose role a correction called wrong; they come out as unresolved.
    """
    claims, past = _walk(trajectory, evidence, beliefs)
    doubt = _Claim(confidence=1.0, why="an earlier round doubted the role of this event")
    claims = [(e, doubt if e.event in doubted else claim, before, after) for e, claim, before, after in claims]
    labels = [_label(*chosen, evidence) for chosen in _telling(claims, limit, doubted)]
    return Reading(labels=tuple(labels), intent=_present_intent(trajectory, past, evidence))


def believe_trajectory(
    trajectory: Trajectory, evidence: Evidence, beliefs: Beliefs
) -> dict[int, dict[Role, RoleBelief]]:
    """For every event, each role that the trajectory and the log speak for, with its support.

    The support is that of the role's statistic plus the user's own events behind the role: a role that only the
    trajectory speaks for rests on a few observations.
    """
    found: dict[int, dict[Role, RoleBelief]] = {}
    for event, claim, _, _ in _walk(trajectory, evidence, beliefs)[0]:
        for role, (confidence, own, other) in claim.offers.items():
            statistic = _statistic(role, event, other, evidence)
            support = own + (statistic.support if statistic is not None else 0)
            belief = RoleBelief(probability=round(min(confidence, 0.99), 4), support=support, statistic=statistic)
            found.setdefault(event.event, {})[role] = belief
    return found


def read_intents(trajectory: Trajectory, evidence: Evidence) -> tuple[dict[int, tuple[Intent, Intent]], Intent]:
    """By event, the intent in its category before and after it; and the present one. Rules alone, no statistic."""
    past, found = _Past(), dict[int, tuple[Intent, Intent]]()
    for event in sorted(trajectory.events, key=lambda event: event.at):
        before = _active(past, event, evidence)
        found[event.event] = (before, _advance(past, event, before, evidence))
    return found, _present_intent(trajectory, past, evidence)


def _walk(
    trajectory: Trajectory, evidence: Evidence, beliefs: Beliefs
) -> tuple[list[tuple[Event, _Claim, Intent, Intent]], _Past]:
    """The claim for each event in time order, with the intent before and after it, and what was seen by the end."""
    events = sorted(trajectory.events, key=lambda event: event.at)
    hindsight = Hindsight.of(events, evidence, trajectory.at)
    past = _Past()
    met = walk(events, evidence) if evidence.shown else {}
    claims: list[tuple[Event, _Claim, Intent, Intent]] = []
    for event in events:
        before = _active(past, event, evidence)
        claim = _claim(event, past, before, hindsight, evidence, beliefs, met.get(event.event))
        claims.append((event, claim, before, _advance(past, event, before, evidence)))
    return claims, past


def _statistic(role: Role, event: Event, other: str | None, evidence: Evidence) -> Statistic | None:
    if role == "complement" and other is not None:  # its statistic belongs to the earlier item and leads to this one
        return evidence.statistic("complement", other, other=event.item)
    return evidence.statistic(role, event.item, other=other)


def _telling(
    claims: list[tuple[Event, _Claim, Intent, Intent]], limit: int, doubted: frozenset[int]
) -> list[tuple[Event, _Claim, Intent, Intent]]:
    """The surest claims, no role taking more than a third; the newest unresolved events fill up to four labels."""
    newest = list(reversed(claims))  # which comes first among equals
    ranked = sorted(newest, key=lambda c: (c[0].event not in doubted, -round(c[1].confidence, 6)))
    quota: dict[str, int] = defaultdict(int)
    seen: set[tuple[str, str]] = set()
    chosen, spare = [], []
    for claim in ranked:
        event, (role, sure) = claim[0], (claim[1].role, claim[1].confidence >= RESOLVED)
        if event.event in doubted:
            chosen.append(claim)
        elif not sure:
            spare.append(claim)
        elif quota[role] < max(1, limit // 3) and (role, event.item) not in seen:
            quota[role] += 1
            seen.add((role, event.item))
            chosen.append(claim)
    chosen = chosen[:limit]
    if len(chosen) < 4:
        unsure = {c[0].event for c in spare}
        chosen += [c for c in newest if c[0].event in unsure][: min(4, limit) - len(chosen)]
    kept = {c[0].event for c in chosen}
    return [c for c in claims if c[0].event in kept]


def _label(event: Event, claim: _Claim, before: Intent, after: Intent, evidence: Evidence) -> RoleLabel:
    if claim.confidence < RESOLVED or claim.role == "unresolved":
        doubt = claim.why or "neither the trajectory nor the log speaks for a role"
        sure = 1.0 - claim.confidence if claim.role != "unresolved" else UNKNOWN
        return RoleLabel(
            event=event.event,
            item=event.item,
            role="unresolved",
            confidence=round(sure, 4),
            intent_before=before,
            intent_after=after,
            why=f"undecided: {doubt}",
        )
    return RoleLabel(
        event=event.event,
        item=event.item,
        role=claim.role,
        confidence=round(min(claim.confidence, 0.99), 4),
        evidence=claim.evidence,
        intent_before=before,
        intent_after=after,
        statistic=_statistic(claim.role, event, claim.other, evidence),
        why=claim.why,
    )


def _claim(
    event: Event,
    past: _Past,
    before: Intent,
    after: Hindsight,
    evidence: Evidence,
    beliefs: Beliefs,
    met: Met | None,
) -> _Claim:
    """``met``: where exposures are logged, how the event was met."""
    claim = _Claim()
    if met is not None:
        claim_shown(event, met, claim.offer, evidence, beliefs)
        return claim
    if event.behaviour == "refund":
        claim.why = "given back"
    elif event.behaviour == "order":
        _claim_order(claim, event, past, after, evidence, beliefs)
        _claim_mover(claim, event, before, after, evidence, beliefs)
    else:
        if event.behaviour != "expose":
            _claim_look(claim, event, past, after, evidence, beliefs)
        _claim_mover(claim, event, before, after, evidence, beliefs)
        follows = after.next_in_category.get(event.event)
        if follows is None or follows > timedelta(days=evidence.options.horizon_days):
            sure = 0.8 if event.item in beliefs.single["incidental"] else 0.55
            claim.offer("incidental", sure, (), "nothing in its category followed within the horizon")
    if claim.confidence < RESOLVED and event.item in beliefs.single["incidental"]:
        claim.offer("incidental", 0.7, (), "every effect measured for this item lies within the margin of none")
    return claim


def _claim_order(
    claim: _Claim, event: Event, past: _Past, after: Hindsight, evidence: Evidence, beliefs: Beliefs
) -> None:
    day = event.at.date()
    earlier = [other for other in past.bought.get(event.item, ()) if other.at.date() != day]
    if earlier:
        times = [other.at for other in earlier] + [event.at]
        gaps = [max((b - a) / timedelta(days=1), 0.01) for a, b in pairwise(times)]
        own = 1 - 0.5 ** len(gaps)
        if len(gaps) > 1:
            own *= 1 - 0.3 * min(pstdev(gaps) / mean(gaps), 1.0)
        sure = 0.5 * own + 0.5 * beliefs.of("replenishment", event.item)
        why = f"bought for the {_ordinal(len(earlier) + 1)} time, every {median(gaps):.0f} days in the median"
        claim.offer("replenishment", sure, [other.event for other in earlier[-4:]], why)
    if day == after.first_day:
        sure = beliefs.single.get("gateway", {}).get(event.item, 0.0) * (1.0 if after.came_back else 0.3)
        what = "came back soon" if after.came_back else "did not come back soon"
        claim.offer("gateway", sure, (), f"in the first order, and the user {what}")
    window = timedelta(days=evidence.options.complement_days)
    best: tuple[Event, str] | None = None
    best_source = 0.0
    sources = beliefs.complements_of.get(event.item, {})
    for source, last in past.last_bought.items():
        if source not in sources or event.at - last.at > window:
            continue
        when = "together with" if last.at.date() == day else "soon after"
        why = f"bought {when} {last.title}, which it goes with more often than by chance"
        if sources[source] >= best_source:  # the strongest source wins; among equals the one bought last
            best_source, best = sources[source], (last, why)
    if best is not None:
        claim.offer("complement", 0.9 * best_source, (best[0].event,), best[1], best[0].item)
    looks = past.looked.get(event.category, [])
    near = [e for e in looks if event.at - e.at <= timedelta(days=evidence.options.active_days)]
    if near:
        sure = 0.6 + 0.35 * beliefs.of("target", event.item)
        claim.offer("target", sure, [e.event for e in near[-4:]], "bought after looking around in its category")
    elif day in after.ended:
        sure = 0.35 + 0.4 * beliefs.of("target", event.item)
        claim.offer("target", sure, (), "in an order after which the buying stopped: the need was met")


def _claim_look(
    claim: _Claim, event: Event, past: _Past, after: Hindsight, evidence: Evidence, beliefs: Beliefs
) -> None:
    active = timedelta(days=evidence.options.active_days)
    horizon = timedelta(days=evidence.options.horizon_days)
    bought = [sale for sale in after.bought_later.get(event.category, ()) if event.at <= sale[0] <= event.at + horizon]
    if any(item == event.item for _, item, _ in bought):
        sure = 0.5 + 0.35 * beliefs.of("target", event.item)
        claim.offer("target", sure, (), "looked at, then bought")
        return
    rivals = [e for e in past.looked.get(event.category, []) if e.item != event.item and event.at - e.at <= active]
    if event.price is not None and any(price < event.price for _, _, price in bought):
        sure = 0.5 + 0.4 * beliefs.of("anchor", event.item)
        claim.offer("anchor", sure, (), "looked at, not bought, and a cheaper one of its kind was bought instead")
    if rivals:
        sure = 0.35 + 0.5 * beliefs.of("comparison", event.item)
        claim.offer("comparison", sure, [e.event for e in rivals[-4:]], "looked at beside others of its category")


def _claim_mover(
    claim: _Claim, event: Event, before: Intent, after: Hindsight, evidence: Evidence, beliefs: Beliefs
) -> None:
    """Trigger and bridge: what the event set in motion, as far as it had happened by the decision time."""
    horizon = timedelta(days=evidence.options.horizon_days)
    follows = after.next_in_category.get(event.event)
    if before.stage == "none" and follows is not None and follows <= horizon:
        sure = 0.2 + 0.6 * beliefs.of("trigger", event.item)
        claim.offer("trigger", sure, (), f"no need was active in {event.category}, and more of it followed")
    entered = after.entered_next.get(event.at, frozenset())
    leads = beliefs.bridges_from.get(event.item)
    if leads:
        for category in sorted(entered & leads.keys() - {event.category}):
            why = f"the next visit entered {category}, where this item leads more often than back"
            claim.offer("bridge", 0.8 * leads[category], (), why, category)


def _active(past: _Past, event: Event, evidence: Evidence) -> Intent:
    """The intent in the event's category just before it."""
    known = past.stage.get(event.category)
    if known is None or event.at - known[0] > timedelta(days=evidence.options.active_days):
        return Intent(stage="none")
    return known[1]


def _advance(past: _Past, event: Event, before: Intent, evidence: Evidence) -> Intent:
    """Take the event into the past; returns the intent in its category just after it."""
    if event.behaviour in ("expose", "refund"):
        return before
    known = past.stage.get(event.category)
    seen = known[2] if known is not None and before.stage != "none" else frozenset()
    seen = seen | {event.item}
    if event.behaviour == "order":
        past.bought[event.item].append(event)
        past.last_bought.pop(event.item, None)  # so that the dictionary stays in the order of buying
        past.last_bought[event.item] = event
        after = Intent(stage="satisfied", category=event.category, need=f"bought {event.title}")
    else:
        past.looked[event.category].append(event)
        if event.behaviour == "cart":
            after = Intent(stage="deciding", category=event.category, need=f"has {event.title} in the cart")
        elif len(seen) > 1:
            after = Intent(stage="comparing", category=event.category, need=f"compares {len(seen)} items")
        else:
            after = Intent(stage="browsing", category=event.category, need=f"looks at {event.title}")
    past.stage[event.category] = (event.at, after, seen)
    return after


def _present_intent(trajectory: Trajectory, past: _Past, evidence: Evidence) -> Intent:
    """The need still active at the decision time, of the category engaged last; or none, saying since when."""
    if past.stage:
        category, (when, intent, _) = max(past.stage.items(), key=lambda entry: (entry[1][0], entry[0]))
        if trajectory.at - when <= timedelta(days=evidence.options.active_days):
            return intent
        lines: dict[str, int] = defaultdict(int)
        for event in trajectory.events:
            lines[event.category] += event.behaviour in ("view", "cart", "order")
        favourite = min(lines, key=lambda name: (-lines[name], name))
        need = f"no need active since {when.date().isoformat()}, last in {category}; most engaged in {favourite}"
        return Intent(stage="none", need=need)
    return Intent(stage="none", need="no engagement yet")


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
