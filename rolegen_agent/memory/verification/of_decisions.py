"""Checks of one decision: what its parts say of each other.

The order of a slate is the recommender's, changed by diversity, the guard and chance, none of which is stored; so ranks are
compared with places, and scores with their parts, but the order is not derived from the scores.
"""

from __future__ import annotations

from collections.abc import Iterator

from rolegen_errors import RoleGenError
from rolegen_graphs.keys import decision_id
from rolegen_graphs.words import Candidate, Round, Slate

from .. import rows
from .registry import Finding, Recorded, decision_check

_ADDITIVE = {"decoder", "item model", "repeat", "trend", "reasoning"}
"""parts of the backbone's scores, which add up; another recommender's parts may mix in another way"""
_ROUNDED = 1e-5
"""parts are stored with eight digits, and computed in single precision"""


@decision_check("identity")
def _identity(found: Recorded) -> Iterator[Finding]:
    decision = found.decision
    if decision.decision != decision_id(decision.run, decision.user, decision.at):
        yield "decisions", decision.decision, "the id is not the digest of run, user and time"


@decision_check("no future")
def _no_future(found: Recorded) -> Iterator[Finding]:
    try:
        rows.check(found.decision)
    except RoleGenError as error:
        yield "decisions", found.decision.decision, error.what


@decision_check("who answered")
def _reasoner(found: Recorded) -> Iterator[Finding]:
    decision = found.decision
    names = {answer.reasoner for one in decision.rounds for answer in one.answers}
    derived = names.pop() if len(names) == 1 else "mixed"
    if decision.rounds and decision.reasoner != derived:
        yield "decisions", decision.decision, f"the reasoner is {decision.reasoner!r}, by its rounds {derived!r}"


@decision_check("rounds")
def _rounds(found: Recorded) -> Iterator[Finding]:
    decision = found.decision
    numbers = [one.number for one in decision.rounds]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "rounds", decision.decision, f"rounds are numbered {numbers}"


@decision_check("slates")
def _slates(found: Recorded) -> Iterator[Finding]:
    decision = found.decision
    slates = (("rolegen", decision.slate), ("backbone", decision.slate_without_reasoning))
    for policy, slate in slates:
        for what in _of_slate(slate):
            yield "slates", f"{decision.decision} {policy}", what
    if decision.rounds and decision.rounds[-1].slate != decision.slate:
        yield "slates", f"{decision.decision} rolegen", "the slate is not that of the last round"


def _of_slate(slate: Slate) -> Iterator[str]:
    ranks = [item.rank for item in slate.items]
    if ranks != list(range(1, len(ranks) + 1)):
        yield f"the ranks are {ranks}"
    if len({item.item for item in slate.items}) != len(slate.items):
        yield "an item stands twice in the slate"
    for item in slate.items:
        if set(item.parts) == _ADDITIVE and abs(sum(item.parts.values()) - item.score) > _ROUNDED:
            yield f"rank {item.rank} has the score {item.score:.8f}, its parts add up to {sum(item.parts.values()):.8f}"


@decision_check("reasons of slate items")
def _reasons(found: Recorded) -> Iterator[Finding]:
    """What only reasoning brought in carries role and path of the first candidate with that item that survived."""
    decision = found.decision
    if not decision.rounds:
        return
    grounds = _grounds(decision.rounds[-1])
    for item in decision.slate.items:
        if item.role is None and item.path is None:
            continue
        candidate = grounds.get(item.item)
        if candidate is None:
            said = "no candidate of a chosen path has the item"
        elif (candidate.role, candidate.path) != (item.role, item.path):
            said = f"its candidate says {candidate.role} and path {candidate.path}"
        else:
            continue
        key = f"{decision.decision} rolegen {item.rank - 1}"
        yield "slate_items", key, f"item {item.item!r} has role {item.role} and path {item.path}; {said}"


def _grounds(last: Round) -> dict[str, Candidate]:
    chosen = {choice.path for choice in last.choices if choice.chosen}
    found: dict[str, Candidate] = {}
    for candidate in last.candidates:
        if candidate.item is not None and (candidate.path in chosen or not last.choices):
            found.setdefault(candidate.item, candidate)
    return found


@decision_check("known items")
def _known_items(found: Recorded) -> Iterator[Finding]:
    """What was shown is of the catalogue, or was found in it by a candidate then."""
    if found.known_items is None:
        return
    decision = found.decision
    seen = {event.item for event in decision.observation.trajectory.events}
    seen |= {candidate.item for one in decision.rounds for candidate in one.candidates if candidate.item is not None}
    for item in decision.slate.items:
        if item.item not in seen and item.item not in found.known_items:
            key = f"{decision.decision} rolegen {item.rank - 1}"
            yield "slate_items", key, f"item {item.item!r} is in no catalogue, candidate or event"


@decision_check("candidates")
def _candidates(found: Recorded) -> Iterator[Finding]:
    for one in found.decision.rounds:
        specs = {(path.path, step): spec for path in one.paths for step, spec in enumerate(path.specs())}
        for seq, candidate in enumerate(one.candidates):
            key = f"{found.decision.decision} {one.number} {seq}"
            if (candidate.fate == "rejected") != (candidate.item is None):
                yield "candidates", key, f"the fate is {candidate.fate}, the item {candidate.item!r}"
            spec = specs.get((candidate.path, candidate.step))
            if spec is None:
                yield "candidates", key, f"there is no step {candidate.step} of path {candidate.path}"
            elif candidate.role != spec.role or (not candidate.revised and candidate.spec != spec):
                yield "candidates", key, "role or spec are not those of the path"


@decision_check("effects and choices")
def _effects(found: Recorded) -> Iterator[Finding]:
    for one in found.decision.rounds:
        paths = {path.path for path in one.paths}
        at = f"{found.decision.decision} {one.number}"
        for seq, effect in enumerate(one.effects):
            if effect.path not in paths:
                yield "effects", f"{at} {seq}", f"there is no path {effect.path}"
            if abs(effect.probability_with - effect.probability_without - effect.change) > _ROUNDED:
                yield "effects", f"{at} {seq}", "the change is not what lies between the two probabilities"
            if not effect.low <= effect.change <= effect.high:
                yield "effects", f"{at} {seq}", "the change lies outside its interval"
        places = sorted(choice.place for choice in one.choices if choice.place is not None)
        if places != list(range(1, len(places) + 1)):
            yield "path_choices", at, f"the places of the chosen paths are {places}"
        for seq, choice in enumerate(one.choices):
            if choice.path not in paths:
                yield "path_choices", f"{at} {seq}", f"there is no path {choice.path}"
            if choice.chosen != (choice.place is not None):
                yield "path_choices", f"{at} {seq}", "chosen paths have a place, and others none"


@decision_check("role labels")
def _labels(found: Recorded) -> Iterator[Finding]:
    events = {event.event: event for event in found.decision.observation.trajectory.events}
    for one in found.decision.rounds:
        for seq, label in enumerate(one.reading.labels):
            key, event = f"{found.decision.decision} {one.number} {seq}", events.get(label.event)
            if event is None or event.item != label.item:
                yield "role_labels", key, f"event {label.event} of item {label.item!r} is not in the trajectory"
                continue
            for other in label.evidence:
                if other not in events or events[other].at > event.at:
                    yield "role_labels", key, f"its evidence {other} is no event up to then"


@decision_check("lesson uses")
def _lesson_uses(found: Recorded) -> Iterator[Finding]:
    decision = found.decision
    derived = tuple((one.lesson, one.learnt_at.isoformat()) for one in decision.observation.lessons)
    if derived != found.lesson_uses:
        yield (
            "lesson_uses",
            decision.decision,
            f"{len(found.lesson_uses)} uses stored, {len(derived)} by the observation",
        )
