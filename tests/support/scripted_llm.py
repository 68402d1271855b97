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
from typing import Any, Literal, Self, get_args

from rolegen_evals.endpoint import CHAT, Endpoint, Heard, Reply, models

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
        self._lock = threading.Lock()
        self._server = Endpoint(self._respond, port=port)
        self.stopping = self._server.over
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    @property
    def most_in_flight(self) -> int:
        """The most requests that were under way at a time."""
        return self._server.most_in_flight

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

    def _respond(self, heard: Heard) -> Reply:
        asked = Asked(heard.method, heard.path, dict(heard.body), keys=list(heard.keys))
        self.note(asked)
        if asked.mode == "unauthorised" or (self.api_key is not None and asked.keys != [self.api_key]):
            return Reply(_error(f"Incorrect API key provided: {', '.join(asked.keys)}", "invalid_api_key"), 401)
        if heard.method == "POST":
            return self._chat(asked) if heard.path == CHAT else Reply(_error("not found", "not_found"), 404)
        if heard.path.rstrip("/") == "/v1/models" and self.models is not None:
            return Reply(models(*self.models))
        return Reply(_error("not found", "not_found"), 404) if heard.path.startswith("/v1/") else _PAGE

    def _chat(self, asked: Asked) -> Reply:
        body = asked.body
        if self.models is not None and body["model"] not in self.models:
            return Reply(_error(f"The model '{body['model']}' does not exist", "model_not_found"), 404)
        match asked.mode:
            case "rate_limited":
                headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
                return Reply(_error("rate limit reached", "rate_limit_exceeded"), 429, headers)
            case "quota":
                return Reply(_error("You exceeded your current quota", "insufficient_quota"), 429)
            case "server_error":
                return Reply(_error("the server had an error", "server_error"), 500)
            case "bad_request":
                return Reply(_error("unsupported value: response_format", "unsupported_value"), 400)
            case "no_protocol":
                return _PAGE
            case "no_choices":
                return Reply({"id": "x", "object": "chat.completion", "model": body["model"], "choices": None})
            case "slow":
                self.stopping.wait(self.delay_s)
        return self._answer(asked)

    def _answer(self, asked: Asked) -> Reply:
        mode = asked.mode
        if mode == "bad_then_good":
            mode = "good" if asked.repairing else "malformed"
        good = (
            self.answers(asked.body)
            if self.answers
            else json.dumps(answer(asked.body, facts=mode != "wrong_facts"), ensure_ascii=False)
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
                pieces = self._drip("".join(pieces), ": keep-alive\n\n")
            stream = {"Content-Type": "text/event-stream"}
            return Reply((piece.encode() for piece in pieces), headers=stream, cut=mode == "cut")
        message = {"role": "assistant", "content": None if refusal else text, "refusal": refusal}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        whole = {**head, "object": "chat.completion", "choices": [choice]}
        if mode == "dripping":
            return Reply(piece.encode() for piece in self._drip(json.dumps({**whole, "usage": usage})))
        return Reply(whole if mode == "no_usage" else {**whole, "usage": usage}, cut=mode == "cut")

    def _drip(self, last: str, drop: str = " ") -> Iterator[str]:
        end = time.monotonic() + self.delay_s
        while time.monotonic() < end and not self.stopping.wait(0.05):
            yield drop
        yield last


_PAGE = Reply(b"<html><body>It works!</body></html>", headers={"Content-Type": "text/html"})


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
