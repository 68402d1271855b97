"""``simulate``: diverse counterfactual paths from the present intent. The reasoner proposes; it never scores."""

from __future__ import annotations

from ..parts import LoopSettings, Parts
from ..state import DecisionState
from ..words import CallSite
from .reason import not_worth_it


class Simulate:
    """Asks the reasoner for paths."""

    def __init__(self, parts: Parts, settings: LoopSettings) -> None:
        self.parts, self.settings = parts, settings

    def __call__(self, state: DecisionState) -> DecisionState:
        site = CallSite(decision=state["key"], round=state["number"], node="simulate")
        paths, answer = self.parts.ask(
            "simulate",
            lambda reasoner: reasoner.simulate(state["observation"], state["reading"], state["corrections"], site=site),
            unless=not_worth_it(state),
        )
        return {"paths": list(paths), "answers": [*state["answers"], answer]}
