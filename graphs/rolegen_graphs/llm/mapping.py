"""From checked answers to the loop's own words, with event ids for the numbers that prompts show."""

from __future__ import annotations

from collections.abc import Sequence

from ..words import Candidate, Correction, Intent, ItemSpec, Path, Reading, Reflection, RoleLabel, Trajectory
from .answers import IntentAnswer, PathAnswer, ReasonAnswer, ReflectAnswer, ReviseAnswer, SimulateAnswer, SpecAnswer
from .categories import Offer
from .trajectory import Numbers


def to_reading(answer: ReasonAnswer, trajectory: Trajectory, offer: Offer) -> Reading:
    """Labels in time order. ``answer`` has passed the fact checks."""
    numbers = Numbers(trajectory)
    labels = sorted(answer.labels, key=lambda label: label.event)
    return Reading(
        labels=tuple(
            RoleLabel(
                event=numbers.event(label.event).event,
                item=numbers.event(label.event).item,
                role=label.role,
                confidence=label.confidence,
                evidence=tuple(numbers.event(number).event for number in sorted(set(label.evidence))),
                intent_before=_intent(label.intent_before, offer),
                intent_after=_intent(label.intent_after, offer),
                why=label.why,
            )
            for label in labels
        ),
        intent=_intent(answer.intent, offer),
    )


def to_paths(answer: SimulateAnswer, trajectory: Trajectory, offer: Offer) -> tuple[Path, ...]:
    """Paths numbered from 0 in the order of the answer."""
    numbers = Numbers(trajectory)
    return tuple(_path(number, path, numbers, offer) for number, path in enumerate(answer.paths))


def to_specs(answer: ReviseAnswer, rejected: Sequence[Candidate], offer: Offer) -> tuple[ItemSpec | None, ...]:
    """One spec, or None, for each rejected candidate in order; the role stays what it was."""
    revised = {revision.number: revision.spec for revision in answer.revisions}
    specs: list[ItemSpec | None] = []
    for number, candidate in enumerate(rejected, start=1):
        spec = revised[number]
        specs.append(
            None
            if spec is None
            else ItemSpec(
                role=candidate.spec.role,
                category=offer.original(spec.category),
                price_low=spec.price_low,
                price_high=spec.price_high,
                text=spec.text,
            )
        )
    return tuple(specs)


def to_reflection(answer: ReflectAnswer, trajectory: Trajectory) -> Reflection:
    """Corrections and proposed lessons; an empty lesson is none."""
    numbers = Numbers(trajectory)
    return Reflection(
        corrections=tuple(
            Correction(kind=one.kind, detail=one.detail, path=one.path, event=_event(one.event, numbers))
            for one in answer.corrections
        ),
        lessons=tuple(lesson for lesson in answer.lessons if lesson),
    )


def _event(number: int | None, numbers: Numbers) -> int | None:
    return None if number is None else numbers.event(number).event


def _intent(answer: IntentAnswer, offer: Offer) -> Intent:
    return Intent(stage=answer.stage, category=offer.original(answer.category), need=answer.need)


def _spec(answer: SpecAnswer, offer: Offer) -> ItemSpec:
    return ItemSpec(
        role=answer.role,
        category=offer.original(answer.category),
        price_low=answer.price_low,
        price_high=answer.price_high,
        text=answer.text,
    )


def _path(number: int, answer: PathAnswer, numbers: Numbers, offer: Offer) -> Path:
    return Path(
        path=number,
        operation=answer.operation,
        intervention=_spec(answer.intervention, offer),
        replaces=_event(answer.replaces, numbers),
        steps=tuple(_spec(step, offer) for step in answer.steps),
        why=answer.why,
    )
