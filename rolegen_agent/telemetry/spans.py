"""One root span for each decision, by whatever tracer provider the process has.

Nothing here sets a provider or imports OpenTelemetry: a process that traces has imported it. What happens inside a decision
(graph nodes, LLM calls) becomes spans by OpenInference's langchain instrumentation, which the command line switches on
(``export.py``) and a host switches on for itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rolegen_errors import PausedError

if TYPE_CHECKING:
    from opentelemetry.context import Context as TraceContext
    from opentelemetry.trace import Span, SpanContext

    from rolegen_graphs.words import Decision, LlmCall

PARENT = "rolegen_trace"
"""key of the metadata under which a checkpoint keeps the span that its decision began with, as a W3C traceparent"""
_API = "opentelemetry.trace"
_INSTRUMENTATION = "openinference.instrumentation.langchain"


def tracing() -> bool:
    """Whether somebody in this process set a tracer provider."""
    api: Any = sys.modules.get(_API)
    return api is not None and not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)


def current_trace_id() -> str | None:
    """The trace that is being recorded here, as 32 hexadecimal digits; None where nothing is recorded."""
    api: Any = sys.modules.get(_API)
    if api is None:
        return None
    for span in (api.get_current_span(), _span_of_the_graph()):
        context = None if span is None else span.get_span_context()
        if context is not None and context.is_valid and context.trace_flags.sampled:
            return f"{context.trace_id:032x}"
    return None


def _span_of_the_graph() -> Span | None:
    """The span of the running node. The instrumentation makes no span current: it is found by the callbacks of its run."""
    instrumentation: Any = sys.modules.get(_INSTRUMENTATION)
    if instrumentation is None or not instrumentation.LangChainInstrumentor().is_instrumented_by_opentelemetry:
        return None
    span: Span | None = instrumentation.get_current_span()
    return span


@dataclass(frozen=True)
class DecisionSpan:
    """The root span of a decision under way; one without a span does nothing."""

    span: Span | None = None

    @property
    def recording(self) -> bool:
        """Whether :meth:`tell` is worth its price."""
        return self.span is not None and self.span.is_recording()

    @property
    def metadata(self) -> dict[str, str]:
        """What a checkpoint must keep, so that the decision is resumed in the same trace."""
        if self.span is None:
            return {}
        context = self.span.get_span_context()
        return {PARENT: f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"}

    def tell(self, decision: Decision, calls: Sequence[LlmCall] = ()) -> None:
        """Note what was decided, by whom, and what it took. Repeats from memory cost nothing and count apart.

        Tokens do not carry OpenInference's names here: viewers add those up over a trace, and the LLM spans have them.
        """
        if self.span is None:
            return
        paid = [call for call in calls if not call.cached]
        items = [{"rank": one.rank, "item": one.item, "title": one.title} for one in decision.slate.items]
        self.span.set_attributes(
            {
                "rolegen.reasoner": decision.reasoner,
                "rolegen.rounds": len(decision.rounds),
                "rolegen.models": tuple(sorted({call.model for call in calls})),
                "rolegen.calls": len(paid),
                "rolegen.calls.cached": len(calls) - len(paid),
                "rolegen.tokens.input": sum(call.input_tokens for call in paid),
                "rolegen.tokens.output": sum(call.output_tokens for call in paid),
                "output.value": json.dumps(items, ensure_ascii=False),
                "output.mime_type": "application/json",
            }
        )


@contextmanager
def decision_span(
    decision: str, run: str, user: str, at: datetime, *, earlier: str | None = None
) -> Iterator[DecisionSpan]:
    """The root span of one decision, current within the block: a child of the caller's span, if there is one.

    Args:
        earlier: the traceparent under which the decision was begun in another process. Where nobody else's span is
            current it goes on in that trace, below that span; else it is linked to it.
    """
    if not tracing():
        yield DecisionSpan()
        return
    from opentelemetry import trace

    parent, links = None, []
    if (begun := _context_of(earlier)) is not None:
        if trace.get_current_span().get_span_context().is_valid:
            links = [trace.Link(begun)]
        else:
            parent = _below(begun)
    with trace.get_tracer("rolegen").start_as_current_span(
        "rolegen.decide",
        context=parent,
        links=links,
        attributes={
            "openinference.span.kind": "CHAIN",
            "rolegen.decision": decision,
            "rolegen.run": run,
            "rolegen.at": at.isoformat(),
            "rolegen.resumed": begun is not None,
            "user.id": user,
            "input.value": json.dumps({"user": user, "at": at.isoformat()}, ensure_ascii=False),
            "input.mime_type": "application/json",
        },
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield DecisionSpan(span)
        except PausedError as paused:  # it goes on later: that is no failure
            span.set_attribute("rolegen.paused", paused.what)
            raise
        except Exception as error:
            span.record_exception(error)
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise
        else:
            span.set_status(trace.StatusCode.OK)


def trace_page(template: str, trace: str | None) -> str | None:
    """The page of a trace in the user's viewer, by ``[telemetry] trace_url``; None without a template or a trace."""
    return template.replace("{trace_id}", trace) if template and trace else None


def earlier_span(metadata: Mapping[str, Any] | None) -> str | None:
    """The traceparent that a checkpoint's metadata holds, if any."""
    found = (metadata or {}).get(PARENT)
    return found if isinstance(found, str) else None


def _context_of(traceparent: str | None) -> SpanContext | None:
    if traceparent is None:
        return None
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carried: TraceContext = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    found = get_current_span(carried).get_span_context()
    return found if found.is_valid else None


def _below(begun: SpanContext) -> TraceContext:
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    return set_span_in_context(NonRecordingSpan(begun))
