"""OpenTelemetry: a span around each decision (``spans.py``, ``steps.py``); where the command line's go (``export.py``), and
without what (``cleaning.py``)."""

from .spans import DecisionSpan, current_trace_id, decision_span, earlier_span, trace_page, tracing
from .steps import async_steps_within, steps_within

__all__ = [
    "DecisionSpan",
    "async_steps_within",
    "current_trace_id",
    "decision_span",
    "earlier_span",
    "steps_within",
    "trace_page",
    "tracing",
]
