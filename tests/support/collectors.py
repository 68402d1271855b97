"""Real HTTP servers on loopback that receive traces: an OTLP collector, and the ingest endpoint of the LangSmith API."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Ears:
    """A server that keeps what was posted to it. ``silent``: it takes connections, and never answers."""

    reply: tuple[str, bytes] = ("application/json", b"{}")

    def __init__(self, *, silent: bool = False) -> None:
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.over = threading.Event()
        ears = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                body = b"".join(self._body())
                ears.heard.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self._answer()

            def _body(self) -> Iterator[bytes]:
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    yield self.rfile.read(int(self.headers["Content-Length"]))
                    return
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def _answer(self) -> None:
                if silent:
                    ears.over.wait()
                    self.close_connection = True
                    return
                kind, body = ears.reply
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def everything(self) -> bytes:
        """Headers and unpacked bodies of all requests: where a secret must not be."""
        return b"\n".join(
            repr(headers).encode() + (gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body)
            for _, headers, body in self.heard
        )

    @contextmanager
    def listening(self) -> Iterator[Any]:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield self
        finally:
            self.over.set()
            self._server.shutdown()
            self._server.server_close()


@dataclass(frozen=True)
class SpanSeen:
    """One span as it came over the wire; ids in hexadecimal digits."""

    name: str
    trace: str
    span: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    service: str
    links: tuple[str, ...]
    """span ids that it is linked to"""
    whole: str
    """all of it as text"""


class OtlpCollector(Ears):
    """The HTTP receiver of a collector: takes ``POST /v1/traces`` in protobuf."""

    reply = ("application/x-protobuf", ExportTraceServiceResponse().SerializeToString())

    def spans(self, name: str | None = None) -> list[SpanSeen]:
        found = []
        for path, headers, body in self.heard:
            assert path == "/v1/traces" and headers["content-type"] == "application/x-protobuf"
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                service = _values(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    found += [_seen(span, service) for span in scope.spans]
        return [span for span in found if name in (None, span.name)]

    def roots(self) -> list[SpanSeen]:
        return self.spans("rolegen.decide")


def _seen(span: Any, service: str) -> SpanSeen:
    return SpanSeen(
        name=span.name,
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_values(span.attributes),
        failed=span.status.code == 2,
        service=service,
        links=tuple(link.span_id.hex() for link in span.links),
        whole=json.dumps(MessageToDict(span), ensure_ascii=False),
    )


def _values(pairs: Any) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind) if kind else None
        found[pair.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


class LangSmith(Ears):
    """What LangSmith's API says of itself, and its ``POST /runs/multipart``."""

    info: ClassVar[dict[str, Any]] = {
        "batch_ingest_config": {
            "use_multipart_endpoint": True,
            "size_limit": 100,
            "size_limit_bytes": 20_971_520,
            "scale_up_qsize_trigger": 1_000,
            "scale_up_nthreads_limit": 16,
            "scale_down_nempty_trigger": 4,
        }
    }
    reply = ("application/json", json.dumps(info).encode())

    def runs(self) -> dict[str, dict[str, Any]]:
        """By id, what was posted of each run and later patched."""
        found: dict[str, dict[str, Any]] = {}
        for path, headers, body in self.heard:
            assert path == "/runs/multipart", path
            message = BytesParser(policy=HTTP).parsebytes(
                b"Content-Type: " + headers["content-type"].encode() + b"\r\n\r\n" + body
            )
            for part in message.iter_parts():
                name = part.get_param("name", header="content-disposition")
                _, run, *field = str(name).split(".")
                content = json.loads(part.get_payload(decode=True))
                seen = found.setdefault(run, {})
                seen.update(content if not field else {field[0]: content})
        return found
