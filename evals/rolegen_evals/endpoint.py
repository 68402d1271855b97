"""A real HTTP server on loopback for scripted LLMs: the plumbing. What it answers is a function from a request to a reply.

``completion`` wraps an answer in OpenAI's chat completions; :class:`Asked` is what a prompt of ours says that a mind needs.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

CHAT = "/v1/chat/completions"
_VISIT = re.compile(r"(\d{4}-\d\d-\d\d)(?: \d\d:\d\d)? \(\d+ days before\)")
_EVENT = re.compile(r' *\[(\d+)\] (\w+), [^|]*\|[^|]*\| "([^"]*)"')
_PATHS = re.compile(r"exactly (\d+) paths")
_REJECTED = re.compile(r"^(\d+)\. \w+", re.MULTILINE)


@dataclass(frozen=True)
class Heard:
    """One request as the server got it; ``body`` is empty for a GET."""

    method: str
    path: str
    body: Mapping[str, Any]
    raw: bytes
    keys: tuple[str, ...]
    """the bearer tokens"""


@dataclass(frozen=True)
class Reply:
    """What is sent back. A ``body`` in pieces goes out in chunks, each when it comes."""

    body: object
    """bytes, an iterable of bytes, or anything else, which is sent as JSON"""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    """break off: in the middle of the bytes, or after three pieces"""


class Endpoint:
    """The server. Use it as a context manager; ``url`` is the base URL for a client.

    Args:
        respond: called in a thread of each connection. It may block; ``over`` is set when the server ends.
        port: 0 takes a free one.
    """

    def __init__(self, respond: Callable[[Heard], Reply], *, port: int = 0) -> None:
        self.respond, self.over = respond, threading.Event()
        self.in_flight = self.most_in_flight = 0
        """chat requests between their arrival and their reply"""
        self._lock = threading.Lock()
        endpoint = self

        class Handler(_Handler):
            served = endpoint

        self._server = _Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def count(self, change: int) -> None:
        """One chat request more or less under way."""
        with self._lock:
            self.in_flight += change
            self.most_in_flight = max(self.most_in_flight, self.in_flight)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that dies leaves a broken connection, which is no error here."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    served: Endpoint
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer may wait 40 ms for the acknowledgement of its head

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._send(self.served.respond(Heard("GET", self.path, {}, b"", self._keys())))

    def do_POST(self) -> None:
        wanted = int(self.headers["Content-Length"])
        raw = self.rfile.read(wanted)
        if len(raw) < wanted:  # the client died while it spoke
            self.close_connection = True
            return
        self.served.count(1)
        try:
            self._send(self.served.respond(Heard("POST", self.path, json.loads(raw), raw, self._keys())))
        finally:
            self.served.count(-1)

    def _keys(self) -> tuple[str, ...]:
        return tuple(value.removeprefix("Bearer ") for value in self.headers.get_all("Authorization", []))

    def _send(self, reply: Reply) -> None:
        whole = not isinstance(reply.body, bytes) and (
            isinstance(reply.body, str | Mapping | list) or not isinstance(reply.body, Iterable)
        )
        body = json.dumps(reply.body).encode() if whole else reply.body
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        try:
            if isinstance(body, bytes):
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if reply.cut else body)
            elif isinstance(body, Iterable):
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self._pieces(body, cut=reply.cut)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has given up waiting, or is dead: what timeouts and kills are for
        self.close_connection = self.close_connection or reply.cut

    def _pieces(self, pieces: Iterable[bytes], *, cut: bool) -> None:
        for number, piece in enumerate(pieces):
            if cut and number == 3:
                return
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


def completion(heard: Heard, text: str, *, refusal: str | None = None, finish: str = "stop") -> dict[str, Any]:
    """``text`` as a chat completion, with a usage of four bytes a token."""
    used = {"prompt_tokens": -(-len(heard.raw) // 4), "completion_tokens": -(-len(text) // 4)}
    message = {"role": "assistant", "content": text, "refusal": refusal}
    return {
        "id": "scripted-1",
        "object": "chat.completion",
        "created": 0,
        "model": heard.body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {**used, "total_tokens": sum(used.values())},
    }


def models(*names: str) -> dict[str, Any]:
    """The body of ``/v1/models``."""
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 0} for name in names]}


class Shown(NamedTuple):
    """One event as it stands in a prompt."""

    number: int
    day: str
    """of its visit"""
    behaviour: str
    title: str


@dataclass(frozen=True)
class Asked:
    """What a prompt says that a mind needs."""

    task: str
    prompt: str
    """all of it"""
    events: tuple[Shown, ...]
    categories: tuple[str, ...]
    paths: int
    rejected: tuple[int, ...]
    luck: random.Random
    """the same for the same prompt"""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Asked:
        prompt = "\n".join(str(message["content"]) for message in body["messages"])
        number = _PATHS.search(prompt)
        offered = fenced(prompt, "categories").splitlines()
        return cls(
            task=body["response_format"]["json_schema"]["name"],
            prompt=prompt,
            events=tuple(_shown(fenced(prompt, "trajectory"))),
            categories=tuple(line for line in offered if line and not line.startswith("(")),
            paths=int(number[1]) if number else 1,
            rejected=tuple(int(one) for one in _REJECTED.findall(fenced(prompt, "rejected"))),
            luck=random.Random(hashlib.sha256(prompt.encode()).hexdigest()),
        )


def _shown(trajectory: str) -> Iterator[Shown]:
    day = ""
    for line in trajectory.splitlines():
        if visit := _VISIT.match(line):
            day = visit[1]
        elif event := _EVENT.match(line):
            yield Shown(int(event[1]), day, event[2], event[3])


def fenced(prompt: str, name: str) -> str:
    """The data that stands in a prompt between the fences of that name; empty if there are none."""
    found = re.search(rf"^<<<{name}\n(.*?)\n{name}>>>$", prompt, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""
