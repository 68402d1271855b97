"""``observe``: the trajectory, cohort, past decisions and lessons of one user, strictly before the decision."""

from __future__ import annotations

from datetime import datetime

from rolegen_errors import InputError

from ..gate import within_budget, worth_of
from ..keys import decision_id
from ..parts import LoopSettings, Parts
from ..state import DecisionInput, DecisionState
from ..words import Observation, Slate, Worth


class Observe:
    """Reads the user, and asks the recommender once what it would show without any reasoning."""

    def __init__(self, parts: Parts, settings: LoopSettings) -> None:
        self.parts, self.settings = parts, settings

    def __call__(self, state: DecisionInput) -> DecisionState:
        user, at = state["user"], moment(state["at"])
        seen = self.parts.observer.observe(user, at)
        baseline = self.parts.recommender.slate(user, at, (), self.settings.slate_size)
        return {
            "at": at,
            "key": decision_id(self.settings.run, user, at),
            "observation": seen,
            "baseline": baseline,
            "worth": self._worth(seen, baseline),
            "number": 1,
            "corrections": [],
            "answers": [],
            "rounds": [],
        }

    def _worth(self, seen: Observation, baseline: Slate) -> Worth | None:
        if self.parts.fallback is None or not self.parts.gated:
            return None
        found = weigh(self.parts, self.settings, seen, baseline)
        granted = self.settings.granted
        return found if granted is None else within_budget(found, granted.get(seen.trajectory.user, 0))


def weigh(parts: Parts, settings: LoopSettings, seen: Observation, baseline: Slate) -> Worth:
    """What the gate says of a user, before any budget of a run is looked at."""
    return worth_of(
        seen,
        baseline,
        parts.evidence.beliefs(seen) if parts.evidence is not None else {},
        gate=settings.gate,
        fusion=settings.fusion,
        think=settings.think,
        rounds=settings.rounds,
    )


def moment(at: object) -> datetime:
    """An aware datetime from itself or its ISO form; whatever a caller, or JSON over the wire, gave as the time.

    Raises:
        InputError: not a time, or one without a zone.
    """
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at)
        except ValueError as error:
            raise InputError(f"{at!r} is no ISO time", fix="write for instance 2011-09-01T00:00:00+00:00") from error
    if not isinstance(at, datetime):
        raise InputError(f"{at!r} is no time", fix="pass an aware datetime, or text like 2011-09-01T00:00:00+00:00")
    if at.tzinfo is None:
        raise InputError(f"the decision time {at.isoformat()} has no zone", fix="add one, for instance +00:00")
    return at
