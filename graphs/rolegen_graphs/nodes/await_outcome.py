"""``await_outcome``: the graph waits until somebody says what came of the decision, days or months later."""

from __future__ import annotations

from typing import Protocol, TypedDict

from langgraph.types import interrupt

from rolegen_errors import InputError

from ..reports import OutcomeReport, parse_report
from ..words import Decision, Outcome


class OutcomeSink(Protocol):
    """Where reported outcomes go. The same report twice changes nothing."""

    def __call__(self, report: OutcomeReport) -> Outcome:
        """The outcome as it now stands; ``InputError`` for what cannot be one of its decision."""
        ...


class Decided(TypedDict):
    """What the node reads of the state."""

    decision: Decision


class Awaited(TypedDict):
    """What the node writes to the state."""

    outcome: Outcome


class AwaitOutcome:
    """Interrupts with what is awaited; ``Command(resume=…)`` brings a report (:class:`OutcomeReport`, as a mapping).

    ``decision`` and ``user`` may be left out of it; nothing yet is ``{"ordered_at": None}``, for LangGraph takes ``{}`` for no answer. What is no report, or cannot be this decision's, is asked for
    again, and the new interrupt says why under ``error``; so is a provisional outcome after it was stored. A node that resumes runs
    from its start, so ``sink`` may see a report again.
    """

    def __init__(self, sink: OutcomeSink) -> None:
        self.sink = sink

    def __call__(self, state: Decided) -> Awaited:
        decision, error = state["decision"], ""
        while True:
            answer = interrupt(_question(decision, error))
            try:
                outcome = self.sink(_report(decision, answer))
            except InputError as refused:
                error = str(refused)
                continue
            if outcome.final:
                return {"outcome": outcome}
            error = ""


def _question(decision: Decision, error: str) -> dict[str, object]:
    asked: dict[str, object] = {
        "awaiting": "outcome",
        "decision": decision.decision,
        "user": decision.user,
        "at": decision.at.isoformat(),
        "items": [item.item for item in decision.slate.items],
    }
    return {**asked, "error": error} if error else asked


def _report(decision: Decision, answer: object) -> OutcomeReport:
    if not isinstance(answer, dict):
        raise InputError(
            f"the graph was resumed with {type(answer).__name__}, not with a report",
            fix='resume with a mapping, such as {"ordered_at": "2011-10-03T10:00:00+00:00", "items": ["22423"]}',
        )
    report = parse_report({"decision": decision.decision, "user": decision.user, **answer})
    if report.decision != decision.decision:
        raise InputError(
            f"the report is of decision {str(report.decision)[:80]!r}, the graph waits for {decision.decision!r}",
            fix="resume the thread of the decision that the report is of",
        )
    return report
