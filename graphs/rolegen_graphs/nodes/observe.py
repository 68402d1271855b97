"""``observe``: the trajectory, cohort, past decisions and lessons of one user, strictly before the decision."""

from __future__ import annotations

from datetime import datetime

from rolegen_errors import InputError

from ..keys import decision_id
from ..parts import LoopSettings, Parts
from ..state import DecisionInput, DecisionState


class Observe:
    """Reads the user, and asks the recommender once what it would show without any reasoning."""

    def __init__(self, parts: Parts, settings: LoopSettings) -> None:
        self.parts, self.settings = parts, settings

    def __call__(self, state: DecisionInput) -> DecisionState:
        user, at = state["user"], moment(state["at"])
        return {
            "at": at,
            "key": decision_id(self.settings.run, user, at),
            "observation": self.parts.observer.observe(user, at),
            "baseline": self.parts.recommender.slate(user, at, (), self.settings.slate_size),
            "number": 1,
            "corrections": [],
            "answers": [],
            "rounds": [],
        }


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
