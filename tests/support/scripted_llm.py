"""A real HTTP server on loopback that speaks OpenAI's chat completions and follows a script instead of thinking.

It reads the prompt that it gets, answers with valid JSON about the very events and categories that stand there, and can
be told to go wrong in every way that endpoints do. It streams when asked to, reports usage, and logs what it was asked.
For trials of the command line:

    python -m tests.support.scripted_llm --port 8808 --mode good
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, get_args

Mode = Literal[
    "good",
    "malformed",  # JSON that breaks off in the middle, finish reason "stop"
    "truncated",  # the same with finish reason "length"
    "wrong_schema",  # JSON of another shape
    "wrong_facts",  # right shape, event ids and categories that do not exist
    "prose",  # the right JSON with sentences around it
    "code_block",  # the right JSON in a Markdown code block: allowed
    "empty",
    "refusal",
    "echo_key",  # answers with the key it was sent
    "rate_limited",  # 429 with Retry-After
    "quota",  # 429 insufficient_quota
    "server_error",  # 500
    "bad_request",  # 400
    "no_protocol",  # 200 with a page of HTML
    "no_choices",  # 200 with "choices": null
    "no_usage",  # a good answer without usage numbers
    "cut",  # the connection is closed in the middle of the answer
    "slow",  # answers after ``delay_s``
    "dripping",  # the same, with a blank now and then to keep the connection open
    "unauthorised",  # 401 that quotes the key
    "bad_then_good",  # malformed until it is shown its error
]

_EVENT = re.compile(r"^  \[(\d+)\] (\w+), ", re.MULTILINE)
_PATHS = re.compile(r"exactly (\d+) paths")
_PATH = re.compile(r"^path (\d+): ", re.MULTILINE)
_REJECTED = re.compile(r"^(\d+)\. \w+", re.MULTILINE)


class Refusal(str):
    """What a model says instead of an answer, in the field that the protocol has for it."""


@dataclass
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    body: dict[str, Any]
    mode: Mode | None = None
    keys: list[str] = field(default_factory=list)
    """the bearer tokens of the request"""

    @property
    def prompt(self) -> str:
        return "\n".join(str(message["content"]) for message in self.body.get("messages", ()))

    @property
    def repairing(self) -> bool:
        return any(message["role"] == "assistant" for message in self.body.get("messages", ()))


class ScriptedLlm:
    """The server. Use it as a context manager; ``url`` is the base URL for a client.

    Args:
        modes: what to do with each chat request in turn; the last mode holds for all that follow.
        models: what ``/v1/models`` lists; None: the server has no such list (404).
        api_key: the key it wants; None: any.
        retry_after: value of the header of a 429; None: no header.
        delay_s: pause of modes ``slow`` and ``dripping``.
        answers: what it answers instead of the valid answer about the prompt, from the body of the request.
        port: 0 takes a free one.
    """

    def __init__(
        self,
        *modes: Mode,
        models: Sequence[str] | None = ("scripted",),
        api_key: str | None = None,
        retry_after: str | None = "0",
        delay_s: float = 2.0,
        answers: Callable[[dict[str, Any]], str] | None = None,
        port: int = 0,
    ) -> None:
        self.modes: tuple[Mode, ...] = modes or ("good",)
        self.models, self.api_key, self.retry_after, self.delay_s = models, api_key, retry_after, delay_s
        self.answers = answers
        self.asked: list[Asked] = []
        self.most_in_flight = 0
        self._in_flight = 0
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        script = self

        class Handler(_Handler):
            server_script = script

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ScriptedLlm:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def chats(self) -> list[Asked]:
        """The chat requests, in order of arrival."""
        with self._lock:
            return [one for one in self.asked if one.path.endswith("/chat/completions")]

    def note(self, asked: Asked) -> None:
        with self._lock:
            if asked.path.endswith("/chat/completions"):
                turn = sum(one.path.endswith("/chat/completions") for one in self.asked)
                asked.mode = self.modes[min(turn, len(self.modes) - 1)]
            self.asked.append(asked)

    def enter(self) -> None:
        with self._lock:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)

    def leave(self) -> None:
        with self._lock:
            self._in_flight -= 1


class _Handler(BaseHTTPRequestHandler):
    server_script: ScriptedLlm
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the log of requests is ``asked``."""

    def do_GET(self) -> None:
        script = self.server_script
        asked = Asked("GET", self.path, {}, keys=self._keys())
        script.note(asked)
        if self._unauthorised(asked):
            return
        if self.path.rstrip("/") == "/v1/models" and script.models is not None:
            self._send(200, {"object": "list", "data": [_model(name) for name in script.models]})
        elif self.path.startswith("/v1/"):
            self._send(404, _error("not found", "not_found"))
        else:
            self._send_page(200)

    def do_POST(self) -> None:
        script = self.server_script
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = Asked("POST", self.path, body, keys=self._keys())
        script.note(asked)
        if self._unauthorised(asked):
            return
        if self.path != "/v1/chat/completions":
            self._send(404, _error("not found", "not_found"))
            return
        script.enter()
        try:
            self._chat(asked)
        finally:
            script.leave()

    def _keys(self) -> list[str]:
        return [value.removeprefix("Bearer ") for value in self.headers.get_all("Authorization", [])]

    def _unauthorised(self, asked: Asked) -> bool:
        wanted = self.server_script.api_key
        if asked.mode != "unauthorised" and (wanted is None or asked.keys == [wanted]):
            return False
        self._send(401, _error(f"Incorrect API key provided: {', '.join(asked.keys)}", "invalid_api_key"))
        return True

    def _chat(self, asked: Asked) -> None:
        script, body = self.server_script, asked.body
        if script.models is not None and body["model"] not in script.models:
            self._send(404, _error(f"The model '{body['model']}' does not exist", "model_not_found"))
            return
        match asked.mode:
            case "rate_limited":
                headers = {} if script.retry_after is None else {"Retry-After": script.retry_after}
                self._send(429, _error("rate limit reached", "rate_limit_exceeded"), headers)
            case "quota":
                self._send(429, _error("You exceeded your current quota", "insufficient_quota"))
            case "server_error":
                self._send(500, _error("the server had an error", "server_error"))
            case "bad_request":
                self._send(400, _error("unsupported value: response_format", "unsupported_value"))
            case "no_protocol":
                self._send_page(200)
            case "no_choices":
                self._send(200, {"id": "x", "object": "chat.completion", "model": body["model"], "choices": None})
            case _:
                if asked.mode == "slow":
                    script.stopping.wait(script.delay_s)
                self._answer(asked)

    def _answer(self, asked: Asked) -> None:
        mode = asked.mode
        if mode == "bad_then_good":
            mode = "good" if asked.repairing else "malformed"
        own = self.server_script.answers
        good = (
            own(asked.body) if own else json.dumps(answer(asked.body, facts=mode != "wrong_facts"), ensure_ascii=False)
        )
        text = {
            "malformed": good[: len(good) // 2],
            "truncated": good[: len(good) // 2],
            "wrong_schema": json.dumps({"roles": {"17": "buyer"}, "item": "85123A"}),
            "prose": f"Certainly! Here it is:\n{good}\nShall I go on?",
            "code_block": f"```json\n{good}\n```",
            "empty": "",
            "refusal": "",
            "echo_key": f"the key is {', '.join(asked.keys)}",
        }.get(mode or "good", good)
        refusal = "I cannot help with that." if mode == "refusal" else str(good) if isinstance(good, Refusal) else None
        finish = "length" if mode == "truncated" else "stop"
        tokens_in, tokens_out = -(-len(asked.prompt) // 4), -(-len(text) // 4)
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        head = {"id": "scripted-1", "created": int(time.time()), "model": asked.body["model"]}
        if asked.body.get("stream"):
            pieces = _stream(head, text, refusal, finish, None if mode == "no_usage" else usage)
            if mode == "dripping":
                self._drip("".join(pieces), ": keep-alive\n\n", "text/event-stream")
                return
            self._send_stream(pieces, cut=mode == "cut")
            return
        message = {"role": "assistant", "content": None if refusal else text, "refusal": refusal}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        whole = {**head, "object": "chat.completion", "choices": [choice]}
        if mode == "dripping":
            self._drip(json.dumps({**whole, "usage": usage}))
            return
        self._send(200, whole if mode == "no_usage" else {**whole, "usage": usage}, cut=mode == "cut")

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self._write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut

    def _send_page(self, status: int) -> None:
        data = b"<html><body>It works!</body></html>"
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self._write(data)

    def _drip(self, last: str, drop: str = " ", content_type: str = "application/json") -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        end = time.monotonic() + self.server_script.delay_s
        while time.monotonic() < end and not self.close_connection and not self.server_script.stopping.wait(0.05):
            self._write(f"{len(drop):x}\r\n{drop}\r\n".encode())
        self._write(f"{len(last.encode()):x}\r\n".encode() + last.encode() + b"\r\n0\r\n\r\n")

    def _send_stream(self, pieces: Iterator[str], *, cut: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, piece in enumerate(pieces):
            if cut and number == 3:
                self.close_connection = True
                return
            data = piece.encode()
            self._write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self._write(b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        try:
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has given up waiting, as some tests want it to


def _stream(
    head: dict[str, Any], text: str, refusal: str | None, finish: str, usage: dict[str, int] | None
) -> Iterator[str]:
    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    if refusal:
        yield chunk({"refusal": refusal})
    for start in range(0, len(text), 40):
        yield chunk({"content": text[start : start + 40]})
    yield chunk({}, finish)
    if usage:
        last = {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}
        yield f"data: {json.dumps(last)}\n\n"
    yield "data: [DONE]\n\n"


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "tests"}


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": code, "code": code, "param": None}}


def answer(body: dict[str, Any], *, facts: bool = True) -> dict[str, Any]:
    """A valid answer to a chat request about the events and categories in its prompt, or one with invented facts."""
    prompt = "\n".join(str(message["content"]) for message in body["messages"])
    task = _task(body, prompt)
    categories = _fenced(prompt, "categories")
    events = [(int(number), behaviour) for number, behaviour in _EVENT.findall(prompt)]
    if not facts:
        events, categories = [(987_654_321, "order")], ["A category of my own"]
    match task:
        case "reason":
            return _reason(events, categories)
        case "simulate":
            found = _PATHS.search(prompt)
            return _simulate(int(found[1]) if found else 1, events, categories, facts=facts)
        case "revise":
            numbers = [int(number) for number in _REJECTED.findall("\n".join(_fenced(prompt, "rejected")))]
            return {"revisions": [_revision(number, categories) for number in (numbers if facts else [99])]}
        case "reflect":
            paths = [int(number) for number in _PATH.findall(prompt)] if facts else [99]
            return _reflect(paths)
        case _:
            return {"ok": True}


def _task(body: dict[str, Any], prompt: str) -> str:
    named = body.get("response_format", {}).get("json_schema", {}).get("name")
    if named:
        return str(named)
    shapes = {'{"labels"': "reason", '{"paths"': "simulate", '{"revisions"': "revise", '{"corrections"': "reflect"}
    return next((task for shape, task in shapes.items() if shape in prompt), "")


def _fenced(prompt: str, name: str) -> list[str]:
    found = re.search(rf"^<<<{name}\n(.*?)\n{name}>>>$", prompt, re.MULTILINE | re.DOTALL)
    lines = found[1].splitlines() if found else []
    return [line for line in lines if line.strip() and not line.startswith("(")]


def _reason(events: list[tuple[int, str]], categories: list[str]) -> dict[str, Any]:
    category = categories[0] if categories else None
    cycle = ("trigger", "target", "complement", "replenishment", "bridge", "incidental")
    none = {"stage": "none", "category": None, "need": ""}
    after = {"stage": "satisfied", "category": category, "need": "something for the house"}
    labels = [
        {
            "event": event,
            "evidence": sorted({events[0][0], event}),
            "intent_before": none if i == 0 else after,
            "intent_after": after,
            "why": f"the {behaviour} came when it did",
            "role": cycle[i % len(cycle)],
            "confidence": 0.6,
        }
        for i, (event, behaviour) in enumerate(events[:6])
    ]
    return {"labels": labels, "intent": {"stage": "browsing", "category": category, "need": "a rebuy that is due"}}


def _spec(role: str, category: str | None, text: str) -> dict[str, Any]:
    return {"role": role, "category": category, "price_low": 1.0, "price_high": 5.0, "text": text}


def _simulate(number: int, events: list[tuple[int, str]], categories: list[str], *, facts: bool) -> dict[str, Any]:
    offered: list[str | None] = [*categories] or [None]
    openers = ("replenishment", "trigger", "bridge", "gateway", "anchor", "complement")
    paths: list[dict[str, Any]] = []
    for i in range(number):
        here, there = offered[i % len(offered)], offered[(i + 1) % len(offered)]
        operation = "replace" if events and i % 3 == 2 else "insert"
        paths.append(
            {
                "why": "the history suggests it",
                "operation": operation,
                "replaces": events[-1][0] if operation == "replace" or not facts else None,
                "intervention": _spec(openers[(i + i // len(openers)) % len(openers)], here, "small gift"),
                "steps": [_spec("target", there, "matching set")],
            }
        )
    return {"paths": paths}


def _revision(number: int, categories: list[str]) -> dict[str, Any]:
    if number % 3 == 0:
        return {"number": number, "why": "nothing alike", "spec": None}
    spec = _spec("target", categories[0] if categories else None, "plain gift")
    del spec["role"]
    return {"number": number, "why": "plainer words", "spec": {**spec, "price_low": None, "price_high": None}}


def _reflect(paths: list[int]) -> dict[str, Any]:
    corrections = [
        {"detail": "offer something cheaper", "kind": "wrong_price", "path": path, "event": None} for path in paths[:1]
    ]
    return {"corrections": corrections, "lessons": ["Customers who rebuy one category respond to its complements."]}


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A scripted LLM on loopback that speaks OpenAI's chat completions.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--mode", action="append", choices=get_args(Mode), help="may be given several times, in order")
    parser.add_argument("--model", action="append", help="a name to list and accept; default: scripted")
    parser.add_argument("--api-key")
    args = parser.parse_args()
    models = args.model or ["scripted"]
    with ScriptedLlm(*(args.mode or ()), models=models, api_key=args.api_key, port=args.port) as server:
        sys.stdout.write(f"OPENAI_BASE_URL={server.url} OPENAI_MODEL={models[0]}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.stdout.write(f"{len(server.chats)} chat requests answered\n")


if __name__ == "__main__":
    main()
