"""Where the command line's spans go: an OTLP collector that the standard ``OTEL_*`` variables name, or nowhere.

This sets global state, so only a process that is ours may call it: the command and its workers, never a library call.
A collector that is slow or gone costs a decision nothing: spans wait in a bounded queue, a thread of their own sends
them, and what could not be delivered is counted and told at the end.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from rolegen_errors import MissingExtraError, ProjectError

from ..llm.failures import Redactor, public_url
from .cleaning import cleaned
from .spans import tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from ..project import Project

FAREWELL_S = 5.0
"""how long the end of a command waits for the last spans to be delivered"""
SENT_TOGETHER = 64
"""spans in one request: each holds the state of the graph, some 50 kB, and collectors refuse requests of many megabytes"""
UNNAMED = "unknown_service"
"""the SDK's name for a process that nobody named, with or without its program behind it"""
_PROTOCOL = "http/protobuf"


def asked_for(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the standard variables ask for spans: an endpoint is named (or the exporter ``otlp``), and nothing is
    switched off.

    Raises:
        ProjectError: an exporter or a protocol is asked for that is not spoken here.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter == "none":
        return False
    if exporter not in ("", "otlp"):
        raise ProjectError(
            f"spans cannot be exported with {exporter[:40]!r}",
            where="environment variable OTEL_TRACES_EXPORTER",
            fix="unset it or use otlp or none; under `opentelemetry-instrument rolegen …` any exporter will do",
        )
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if not exporter and not any(environment.get(name) for name in endpoints):
        return False
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(name, "").strip()
        if protocol not in ("", _PROTOCOL):
            raise ProjectError(
                f"spans cannot be sent by {protocol[:40]!r}",
                where=f"environment variable {name}",
                fix=f"unset it or use {_PROTOCOL} (collectors usually listen for it on port 4318)",
            )
        if protocol:
            break
    return True


@dataclass
class Delivery:
    """How many spans ended and how many of them a collector took."""

    ended: int = 0
    delivered: int = 0

    @property
    def lost(self) -> int:
        return self.ended - self.delivered


@contextmanager
def exported_spans(project: Project, *, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """Spans of everything in the block, delivered at its end. Does nothing if no spans are asked for, or if the process has
    a tracer provider already, for instance under ``opentelemetry-instrument``.

    Args:
        tell: hears how many spans could not be delivered, if any; None writes it to stderr.

    Raises:
        MissingExtraError: spans are asked for, and the extra ``otel`` is not installed.
        ProjectError: what is asked for is not understood.
    """
    if not asked_for() or tracing():
        yield
        return
    delivery = Delivery()
    provider = _begin(project, delivery)
    try:
        yield
    finally:
        _end(provider)
        if delivery.lost:
            line = f"{delivery.lost:,} of {delivery.ended:,} spans could not be delivered to {_collector()}"
            tell(line) if tell is not None else sys.stderr.write(f"{line}\n")


def deliver_spans() -> None:
    """Send the spans that wait, in a process that goes on and may be killed."""
    if tracing():
        from opentelemetry import trace

        flush = getattr(trace.get_tracer_provider(), "force_flush", None)  # a provider of others need not have it
        if flush is not None:
            flush(int(1000 * FAREWELL_S))


def _begin(project: Project, delivery: Delivery) -> TracerProvider:
    try:
        from openinference.instrumentation.langchain import LangChainInstrumentor
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
    except ModuleNotFoundError as error:
        raise MissingExtraError("openinference-instrumentation-langchain", "otel") from error
    from .. import __version__

    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # what is lost is told once, by us
    logging.getLogger("opentelemetry").propagate = False
    try:
        exporter = OTLPSpanExporter()
    except (ValueError, OSError) as error:  # a malformed address, a certificate that is not there
        raise ProjectError(
            f"spans cannot be exported: {error}",
            where="environment variables OTEL_EXPORTER_OTLP_…",
            fix="correct them, or set OTEL_SDK_DISABLED=true",
        ) from None
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes.get(SERVICE_NAME, UNNAMED)).startswith(UNNAMED):
        resource = resource.merge(Resource({SERVICE_NAME: "rolegen"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    guarded = guard(exporter, Redactor(secrets_of(project)), delivery, masked=project.settings.telemetry.mask)
    provider.add_span_processor(_counting(guarded, delivery))
    trace.set_tracer_provider(provider)
    instrumentor = LangChainInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument(tracer_provider=provider)
    return provider


def _end(provider: TracerProvider) -> None:
    """Deliver what waits, for a bounded time: the provider's own shutdown waits as long as its exporter retries."""
    last = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
    last.start()
    last.join(FAREWELL_S)


def secrets_of(project: Project, environment: Mapping[str, str] = os.environ) -> list[str]:
    """What must stand in no span: keys of endpoints, the database's password, headers of the collector."""
    from sqlalchemy import make_url

    llm = project.settings.llm
    found = [llm.api_key.get_secret_value()] if llm.api_key else []
    found += [value for name, value in environment.items() if name.endswith(("_API_KEY", "_TOKEN", "_SECRET"))]
    url = project.memory_url
    if not url.startswith("sqlite") and (password := make_url(url).password):
        found.append(str(password))
    for name in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        found += [part.partition("=")[2].strip() for part in environment.get(name, "").split(",")]
    return found


def _collector() -> str:
    """The collector's address without secrets, for messages."""
    name = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    return public_url(os.environ.get(name) or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4318")


def _counting(exporter: SpanExporter, delivery: Delivery) -> Any:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    lock = Lock()

    class Counting(BatchSpanProcessor):
        """Counts what ends, so that what a full queue drops is known too."""

        def on_end(self, span: ReadableSpan) -> None:
            if span.context is not None and span.context.trace_flags.sampled:
                with lock:
                    delivery.ended += 1
            super().on_end(span)

    size = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
    return Counting(exporter, max_export_batch_size=None if os.environ.get(size) else SENT_TOGETHER)


def guard(exporter: SpanExporter, redact: Redactor, delivery: Delivery, *, masked: bool) -> SpanExporter:
    """``exporter`` behind a gate that no secret passes, and with ``masked`` no text and no user."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Guarded(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = exporter.export([cleaned(span, redact, masked=masked) for span in spans])
            if result is SpanExportResult.SUCCESS:
                delivery.delivered += len(spans)
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    return Guarded()
