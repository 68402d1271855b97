"""``feedback``: what is known about this round before any outcome. Counting only, no LLM."""

from __future__ import annotations

from ..parts import LoopSettings
from ..sources import reasoned
from ..state import DecisionState
from ..words import RoleLabel, Signal

LIKELIER_THAN_NOT = 0.5
"""the log contradicts an LLM where it gives another role this probability, and weighs at least as much in the pool"""

MAPPED_TOO_OFTEN = 2
"""specs of one path that lost their price band or category before the path is called wrong"""


class Feedback:
    """Grounding failures, wishes met in part, harmful paths, roles that the log contradicts, and collapse."""

    def __init__(self, settings: LoopSettings) -> None:
        self.settings = settings

    def __call__(self, state: DecisionState) -> DecisionState:
        state = reasoned(state)
        return {
            "signals": [
                *_ungrounded(state),
                *_mapped(state),
                *_harmful(state),
                *_disagreement(state),
                *self._collapse(state),
            ]
        }

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


def _mapped(state: DecisionState) -> list[Signal]:
    """Paths of which several wishes had to give up their price band or category: the next round can wish better."""
    found = []
    for path in state["paths"]:
        mapped = [c for c in state["candidates"] if c.path == path.path and c.fate == "mapped"]
        if len(mapped) >= MAPPED_TOO_OFTEN:
            detail = f"{len(mapped)} of {len(path.specs())} specs were met in part only; step {mapped[0].step}: {mapped[0].reason}"
            found.append(Signal(kind="mapped", detail=detail, path=path.path, value=len(mapped)))
    return found


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
    """Labels that the log contradicts; of a fused label it is the LLM's side that is compared with the log's."""
    return [found for label in state["reading"].labels if (found := _contradicted(label)) is not None]


def _contradicted(label: RoleLabel) -> Signal | None:
    if (parts := label.parts) is not None:
        if (
            parts.log_role in (None, parts.llm_role)
            or parts.llm_role == "unresolved"
            or min(parts.log_probability, parts.log_weight) < LIKELIER_THAN_NOT
        ):
            return None
        # The event names itself; an item's id has no place in what a prompt will show.
        detail = (
            f"called {parts.llm_role} ({parts.llm_confidence:.0%}), the log says {parts.log_role} "
            f"({parts.log_probability:.0%} from {parts.support} observations); together: {label.role}"
        )
        return Signal(kind="disagreement", detail=detail, event=label.event, value=parts.log_probability)
    s = label.statistic
    # An instrumental role where the log's interval lies wholly on the other side of "no effect".
    if label.role in ("incidental", "unresolved") or s is None or s.high >= s.neutral:
        return None
    detail = f"{label.role}, but {s.name} is {s.value:.2f} [{s.low:.2f}, {s.high:.2f}] from {s.support}"
    return Signal(kind="disagreement", detail=detail, event=label.event, value=s.value)
