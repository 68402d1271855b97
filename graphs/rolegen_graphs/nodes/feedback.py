"""``feedback``: what is known about this round before any outcome. Counting only, no LLM."""

from __future__ import annotations

from ..parts import LoopSettings
from ..state import DecisionState
from ..words import Signal


class Feedback:
    """Grounding failures, harmful paths, roles that the log contradicts, and collapse."""

    def __init__(self, settings: LoopSettings) -> None:
        self.settings = settings

    def __call__(self, state: DecisionState) -> DecisionState:
        return {"signals": [*_ungrounded(state), *_harmful(state), *_disagreement(state), *self._collapse(state)]}

    def _collapse(self, state: DecisionState) -> list[Signal]:
        slate = state["slate"]
        categories = {item.category for item in slate.items}
        wanted = min(self.settings.min_categories, len(slate.items))
        roles = {path.intervention.role for path in state["paths"]}
        signals = []
        if len(categories) < wanted:
            detail = f"the slate has {len(categories)} categories, at least {wanted} are wanted"
            signals.append(Signal(kind="collapse", detail=detail, value=len(categories)))
        if len(state["paths"]) > 1 and len(roles) < 2:
            detail = f"all {len(state['paths'])} paths begin with the same role"
            signals.append(Signal(kind="collapse", detail=detail, value=len(roles)))
        return signals


def _ungrounded(state: DecisionState) -> list[Signal]:
    return [
        Signal(kind="ungrounded", detail=c.reason, path=c.path, step=c.step)
        for c in state["candidates"]
        if c.fate == "rejected"
    ]


def _harmful(state: DecisionState) -> list[Signal]:
    return [
        Signal(
            kind="negative_effect",
            detail=f"the whole interval [{e.low:+.4f}, {e.high:+.4f}] lies below zero",
            path=e.path,
            value=e.change,
        )
        for e in state["effects"]
        if e.high < 0
    ]


def _disagreement(state: DecisionState) -> list[Signal]:
    """A label speaks of an instrumental role where the log's interval lies wholly on the other side of "no effect"."""
    return [
        Signal(
            kind="disagreement",
            detail=f"{label.role} of {label.item}, but {s.name} is {s.value:.2f} [{s.low:.2f}, {s.high:.2f}] from {s.support}",
            event=label.event,
            value=s.value,
        )
        for label in state["reading"].labels
        if label.role not in ("incidental", "unresolved") and (s := label.statistic) is not None and s.high < s.neutral
    ]
