"""The rules of a :class:`~rolegen_graphs.ports.Reasoner`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..ports import Reasoner
from ..words import CallSite, Candidate, ItemSpec, Observation, Path, Reading
from .rules import Rules


def check_reasoner(reasoner: Reasoner, *, seen: Sequence[Observation]) -> None:
    """Hold a reasoner against its rules, on observations such as :func:`check_observer` returns.

    - It has a name, which will stand in every trace.
    - Labels are of events of the trajectory, each at most once, with their item; evidence is not later than its event.
    - Paths have different numbers. ``insert`` names no event; ``replace`` and ``remove`` name one of the trajectory.
    - ``revise`` gives one spec or None for each rejected candidate, in order.
    - ``reflect`` answers for what it proposed.

    Raises:
        ConformanceError: with every rule that does not hold. A ``ReasonerError`` counts: let it answer for the check.
    """
    with Rules(reasoner) as rules:
        rules.hold("has a name", bool(reasoner.name))
        for one in seen:
            reading = rules.ask("reason", reasoner.reason, one, (), site=_site("reason"))
            if reading is None:
                continue
            _labels(rules, one, reading)
            paths = rules.ask("simulate", reasoner.simulate, one, reading, (), site=_site("simulate"))
            if paths is None:
                continue
            _paths(rules, one, paths)
            rejected = [_rejected(path) for path in paths or [Path(path=0, operation="insert", intervention=WISH)]]
            revised = rules.ask("revise", reasoner.revise, one, rejected, site=_site("ground"))
            if revised is not None:
                rules.hold("revises each rejected candidate", len(revised) == len(rejected), len(revised))
            rules.ask("reflect", reasoner.reflect, one, reading, paths, rejected, (), (), site=_site("reflect"))


WISH = ItemSpec(role="complement", text="anything")


def _labels(rules: Rules, seen: Observation, reading: Reading) -> None:
    events = {event.event: event for event in seen.trajectory.events}
    labelled = [label.event for label in reading.labels]
    rules.hold("labels an event at most once", len(set(labelled)) == len(labelled), labelled)
    for label in reading.labels:
        event = events.get(label.event)
        if not rules.hold("labels are of events of the trajectory", event is not None, label.event) or event is None:
            continue
        rules.hold("a label has its event's item", label.item == event.item, label.item)
        unknown = [number for number in label.evidence if number not in events]
        rules.hold("evidence names events of the trajectory", not unknown, unknown)
        late = [number for number in label.evidence if number in events and events[number].at > event.at]
        rules.hold("evidence is not later than its event", not late, late)


def _paths(rules: Rules, seen: Observation, paths: Sequence[Path]) -> None:
    events = {event.event for event in seen.trajectory.events}
    numbers = [path.path for path in paths]
    rules.hold("paths have different numbers", len(set(numbers)) == len(numbers), numbers)
    for path in paths:
        if path.operation == "insert":
            rules.hold("insert names no event", path.replaces is None, path.replaces)
        else:
            rules.hold(f"{path.operation} names an event of the trajectory", path.replaces in events, path.replaces)


def _rejected(path: Path) -> Candidate:
    wish = path.intervention
    return Candidate(path=path.path, step=0, role=wish.role, spec=wish, fate="rejected", reason="no such item")


def _site(node: Literal["reason", "simulate", "ground", "reflect"]) -> CallSite:
    return CallSite(decision="conformance", round=1, node=node)
