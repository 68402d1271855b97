"""``reason``: which functional role each event played for this user, and which intent is active now."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from ..parts import LoopSettings, Parts
from ..state import DecisionState
from ..words import CallSite


class Reason:
    """Asks the reasoner, or the fallback where the recommender is sure of the user already."""

    def __init__(self, parts: Parts, settings: LoopSettings) -> None:
        self.parts, self.settings = parts, settings

    def __call__(self, state: DecisionState) -> DecisionState:
        site = CallSite(decision=state["key"], round=state["number"], node="reason")
        reading, answer = self.parts.ask(
            "reason",
            lambda reasoner: reasoner.reason(state["observation"], state["corrections"], site=site),
            unless=confident(state, self.settings),
        )
        return {"reading": reading, "answers": [answer]}


def confident(state: DecisionState, settings: LoopSettings) -> str:
    """Why this user is not worth an LLM call; empty when they are."""
    entropy = state["baseline"].entropy
    if settings.think == "uncertain" and entropy < settings.entropy_floor:
        return f"the recommender is sure of this user: entropy {entropy:.2f} below {settings.entropy_floor:.2f} nats"
    return ""


def time_of(state: DecisionState) -> datetime:
    """The decision time, which ``observe`` made a datetime."""
    return cast(datetime, state["at"])
