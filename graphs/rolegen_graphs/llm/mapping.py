"""From checked answers to the loop's own words."""

from __future__ import annotations

from collections.abc import Sequence

from ..words import Candidate, Correction, Intent, ItemSpec, Path, Reading, Reflection, RoleLabel, Trajectory
from .answers import IntentAnswer, PathAnswer, ReasonAnswer, ReflectAnswer, ReviseAnswer, SimulateAnswer, SpecAnswer
from .categories import Offer


def to_reading(answer: ReasonAnswer, trajectory: Trajectory, offer: Offer) -> Reading:
    """Labels in time order. ``answer`` has passed the fact checks."""
    place = {event.event: i for i, event in enumerate(trajectory.events)}
    labels = sorted(answer.labels, key=lambda label: place[label.event])
    return Reading(
        labels=tuple(
            RoleLabel(
                event=label.event,
                item=trajectory.events[place[label.event]].item,
                role=label.role,
                confidence=label.confidence,
                evidence=tuple(sorted(set(label.evidence), key=place.__getitem__)),
                intent_before=_intent(label.intent_before, offer),
                intent_after=_intent(label.intent_after, offer),
                why=label.why,
            )
            for label in labels
        ),
        intent=_intent(answer.intent, offer),
    )


def to_paths(answer: SimulateAnswer, offer: Offer) -> tuple[Path, ...]:
    """Paths numbered from 0 in the order of the answer."""
    return tuple(_path(number, path, offer) for number, path in enumerate(answer.paths))


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


def to_reflection(answer: ReflectAnswer) -> Reflection:
    """Corrections and proposed lessons; an empty lesson is none."""
    return Reflection(
        corrections=tuple(
            Correction(kind=one.kind, detail=one.detail, path=one.path, event=one.event) for one in answer.corrections
        ),
        lessons=tuple(lesson for lesson in answer.lessons if lesson),
    )


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


def _path(number: int, answer: PathAnswer, offer: Offer) -> Path:
    return Path(
        path=number,
        operation=answer.operation,
        intervention=_spec(answer.intervention, offer),
        replaces=answer.replaces,
        steps=tuple(_spec(step, offer) for step in answer.steps),
        why=answer.why,
    )
