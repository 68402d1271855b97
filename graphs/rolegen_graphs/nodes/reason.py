"""``reason``: which functional role each event played for this user, and which intent is active now.

What an LLM says of roles is fused with the log's evidence before anybody else sees it; both sides stay in the label.
"""

from __future__ import annotations

from datetime import datetime
from typing import cast

from ..fusion import fuse_reading
from ..parts import LoopSettings, Parts
from ..state import DecisionState
from ..words import CallSite


class Reason:
    """Asks the reasoner, or the fallback where the gate grants the user no LLM."""

    def __init__(self, parts: Parts, settings: LoopSettings) -> None:
        self.parts, self.settings = parts, settings

    def __call__(self, state: DecisionState) -> DecisionState:
        site = CallSite(decision=state["key"], round=state["number"], node="reason")
        reading, answer = self.parts.ask(
            "reason",
            lambda reasoner: reasoner.reason(state["observation"], state["corrections"], site=site),
            unless=not_worth_it(state),
        )
        evidence = self.parts.evidence
        if evidence is not None and self.parts.fallback is not None and answer.reasoner == self.parts.reasoner.name:
            reading = fuse_reading(reading, evidence.beliefs(state["observation"]), self.settings.fusion)
        return {"reading": reading, "answers": [answer]}


def not_worth_it(state: DecisionState) -> str:
    """Why the gate grants this user no LLM call; empty where it does, or where there is no gate."""
    worth = state.get("worth")
    return worth.why if worth is not None and not worth.rounds else ""


def time_of(state: DecisionState) -> datetime:
    """The decision time, which ``observe`` made a datetime."""
    return cast(datetime, state["at"])
