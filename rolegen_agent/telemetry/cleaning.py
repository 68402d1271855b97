"""What leaves the process in spans: never a secret, and with ``[telemetry] mask`` no text and no user."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..llm.failures import Redactor

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event, ReadableSpan

USER = "user.id"
_KEPT = {"openinference.span.kind", "llm.model_name", "llm.provider", "llm.system", "metadata", "session.id"}
_KEPT_BELOW = ("rolegen.", "llm.token_count.", "llm.cost.")
_KEPT_OF_EVENTS = {"exception.type", "exception.escaped"}


def cleaned(span: ReadableSpan, redact: Redactor, *, masked: bool) -> ReadableSpan:
    """A copy of ``span`` without secrets: providers' errors quote keys, and so may a model.

    ``masked`` keeps what is known to hold no text of a person (an allow list, so that an attribute that a later version of
    the instrumentation adds stays here), and a digest in place of the user.
    """
    from opentelemetry.sdk.trace import ReadableSpan as Copy
    from opentelemetry.trace.status import Status

    attributes = dict(span.attributes or {})
    if masked:
        attributes = {name: value for name, value in attributes.items() if _is_kept(name)} | (
            {USER: pseudonym(str(attributes[USER]))} if USER in attributes else {}
        )
    told = span.status.description
    return Copy(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_redacted(attributes, redact),
        events=[_event(event, redact, masked=masked) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, redact(told) if told and not masked else None),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def pseudonym(user: str) -> str:
    """A user's stand-in. Who knows the ids can compute it: it hides them from readers, and makes nobody anonymous."""
    return f"user-{hashlib.sha256(user.encode()).hexdigest()[:16]}"


def _is_kept(name: str) -> bool:
    return name in _KEPT or name.startswith(_KEPT_BELOW)


def _event(event: Event, redact: Redactor, *, masked: bool) -> Event:
    from opentelemetry.sdk.trace import Event as Copy

    attributes = dict(event.attributes or {})
    if masked:
        attributes = {name: value for name, value in attributes.items() if name in _KEPT_OF_EVENTS}
    return Copy(event.name, _redacted(attributes, redact), event.timestamp)


def _redacted(attributes: Mapping[str, Any], redact: Redactor) -> dict[str, Any]:
    return {name: _of(value, redact) for name, value in attributes.items()}


def _of(value: Any, redact: Redactor) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_of(one, redact) for one in value]
    return value
