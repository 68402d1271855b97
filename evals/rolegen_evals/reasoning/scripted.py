"""Scripted LLMs on a real HTTP server: a perfect, a random and an adversarial mind, and ways to be broken.

They read nothing but the prompt, as a model would; the perfect one looks up what the planter knows by the event ids that it sees there.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, get_args

import polars as pl

from ..worlds import Planted

Failure = Literal[
    "malformed", "truncated", "wrong_schema", "empty", "refusal", "rate_limited", "server_error", "timeout"
]
FAILURES: tuple[Failure, ...] = get_args(Failure)
Answer = dict[str, Any]
_EVENT = re.compile(r"^ *\[(\d+)\] (\w+), ", re.MULTILINE)
_PATHS = re.compile(r"exactly (\d+) paths")
_REJECTED = re.compile(r"^(\d+)\. \w+", re.MULTILINE)
_CLOSING = ("target", "complement", "replenishment", "gateway")
_LABELS = 12


@dataclass(frozen=True)
class Asked:
    """What a prompt says that a mind needs."""

    task: str
    events: tuple[tuple[int, str], ...]
    """id and behaviour of the events shown"""
    categories: tuple[str, ...]
    paths: int
    rejected: tuple[int, ...]
    luck: random.Random

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Asked:
        prompt = "\n".join(str(message["content"]) for message in body["messages"])
        named = body["response_format"]["json_schema"]["name"]
        number = _PATHS.search(prompt)
        return cls(
            task=named,
            events=tuple((int(event), behaviour) for event, behaviour in _EVENT.findall(_fenced(prompt, "trajectory"))),
            categories=tuple(
                line for line in _fenced(prompt, "categories").splitlines() if line and not line.startswith("(")
            ),
            paths=int(number[1]) if number else 1,
            rejected=tuple(int(one) for one in _REJECTED.findall(_fenced(prompt, "rejected"))),
            luck=random.Random(hashlib.sha256(prompt.encode()).hexdigest()),
        )


def _fenced(prompt: str, name: str) -> str:
    found = re.search(rf"^<<<{name}\n(.*?)\n{name}>>>$", prompt, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


class Mind:
    """Answers every task at random, soundly in form: the useless LLM."""

    def __init__(self, planted: Planted) -> None:
        self.planted, self.goods = planted, planted.shop.goods

    def __call__(self, asked: Asked) -> Answer:
        match asked.task:
            case "reason":
                return self.reason(asked)
            case "simulate":
                return {"paths": self.paths(asked)}
            case "revise":
                return {"revisions": [{"number": one, "why": "no better idea", "spec": None} for one in asked.rejected]}
            case _:
                return {"corrections": [], "lessons": []}

    def reason(self, asked: Asked) -> Answer:
        chosen = asked.luck.sample(asked.events, min(_LABELS, len(asked.events)))
        labels = [self.label(event, asked) for event, _ in sorted(chosen)]
        return {"labels": labels, "intent": self.intent(asked)}

    def label(self, event: int, asked: Asked) -> Answer:
        role = asked.luck.choice(("trigger", "bridge", "anchor", "comparison", "complement", "target", "incidental"))
        return _label(event, role, round(asked.luck.uniform(0.2, 0.9), 2))

    def intent(self, asked: Asked) -> Answer:
        return {"stage": "browsing", "category": asked.luck.choice(asked.categories), "need": "something"}

    def items(self, asked: Asked) -> list[int]:
        """Item codes in the order in which they are proposed."""
        return asked.luck.sample(range(len(self.goods)), 2 * asked.paths)

    def paths(self, asked: Asked) -> list[Answer]:
        """One path for each two proposed items; no two alike in role and categories."""
        offered, codes = set(asked.categories), self.items(asked)
        found: list[Answer] = []
        for number, (first, last) in enumerate(zip(codes[::2], codes[1::2], strict=False)):
            opener = ("trigger", "bridge", "comparison", "anchor", "complement", "gateway")[number % 6]
            specs = [self.spec(first, opener, offered), self.spec(last, "target", offered)]
            found.append(
                {
                    "why": "a thought",
                    "operation": "insert",
                    "replaces": None,
                    "intervention": specs[0],
                    "steps": specs[1:],
                }
            )
        return found[: asked.paths]

    def spec(self, item: int, role: str, offered: set[str]) -> Answer:
        category = self.goods.categories[self.goods.category[item]]
        return {
            "role": role,
            "category": category if category in offered else None,
            "price_low": None,
            "price_high": None,
            "text": self.goods.titles[item],
        }


class PerfectMind(Mind):
    """Knows the roles of events, the hidden need and habit of the user, and which items meet a need; not the future."""

    def __init__(self, planted: Planted) -> None:
        super().__init__(planted)
        self._user = dict(planted.events.select("event", "user").iter_rows())
        self._role = dict(planted.roles.iter_rows())
        last = planted.needs.sort("time").group_by("user", maintain_order=True).last()
        self._hidden = {row["user"]: row for row in last.iter_rows(named=True)}
        strength = self.goods.strength * (self.goods.is_a("target") | self.goods.is_a("replenishment"))
        self._targets = {
            c: [int(i) for i in (-strength * (self.goods.category == c)).argsort(kind="stable")[:8]]
            for c in range(len(self.goods.categories))
        }

    def reason(self, asked: Asked) -> Answer:
        known = [event for event, _ in asked.events if event in self._role]
        rare = sorted(known, key=lambda event: (self._role[event] in ("incidental", "comparison"), -event))[:_LABELS]
        labels = [_label(event, self._role[event], 0.95) for event in sorted(rare)]
        labels = labels or [_label(asked.events[-1][0], "unresolved", 0.5)]
        return {"labels": labels, "intent": self.intent(asked)}

    def intent(self, asked: Asked) -> Answer:
        hidden = self._known(asked)
        if hidden["need"] < 0:
            return {"stage": "none", "category": None, "need": ""}
        name = self.goods.categories[hidden["need"]]
        stage = ("none", "browsing", "comparing", "deciding")[hidden["stage"]]
        return {"stage": stage, "category": name if name in asked.categories else None, "need": "what was looked for"}

    def items(self, asked: Asked) -> list[int]:
        hidden = self._known(asked)
        wanted = [hidden["habit"]] if hidden["habit"] >= 0 else []
        wanted += self._targets[hidden["need"]] if hidden["need"] >= 0 else []
        others = asked.luck.sample(list(self._targets), len(self._targets))
        wanted += [item for c in others for item in self._targets[c][:1]]
        return list(dict.fromkeys(wanted))[: 2 * asked.paths]

    def _known(self, asked: Asked) -> Mapping[str, Any]:
        return self._hidden[self._user[asked.events[-1][0]]]


class AdversarialMind(Mind):
    """Swears that eye-catchers, which nobody ever buys, are what everybody wants."""

    def label(self, event: int, asked: Asked) -> Answer:
        return _label(event, "target" if asked.luck.random() < 0.5 else "trigger", 1.0)

    def items(self, asked: Asked) -> list[int]:
        bait = [int(item) for item in self.goods.is_a("incidental").nonzero()[0]]
        return asked.luck.sample(bait, min(len(bait), 2 * asked.paths))


def _label(event: int, role: str, confidence: float) -> Answer:
    nothing = {"stage": "none", "category": None, "need": ""}
    return {
        "event": event,
        "evidence": [event],
        "intent_before": nothing,
        "intent_after": nothing,
        "why": "so it is",
        "role": role,
        "confidence": confidence,
    }


class ScriptedEndpoint:
    """OpenAI's chat completions on loopback, answered by a mind; ``failure`` strikes a share of the requests.

    Use it as a context manager; ``url`` is the base URL.
    """

    def __init__(self, mind: Mind, *, failure: Failure | None = None, share: float = 0.3, delay_s: float = 0.0) -> None:
        self.mind, self.failure, self.share, self.delay_s = mind, failure, share, delay_s
        self.requests = self.failed = 0
        self._lock, self._over = threading.Lock(), threading.Event()
        endpoint = self

        class Handler(_Handler):
            served = endpoint

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ScriptedEndpoint:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def strikes(self, body: bytes) -> bool:
        """Whether this request fails; a repetition of it draws anew."""
        with self._lock:
            self.requests += 1
            struck = self.failure is not None and random.Random(f"{self.requests}{body!r}").random() < self.share
            self.failed += struck
        return struck

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the server."""
        self._over.wait(seconds)


class _Handler(BaseHTTPRequestHandler):
    served: ScriptedEndpoint
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": "scripted", "object": "model", "created": 0}]})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body, endpoint = json.loads(raw), self.served
        failure = endpoint.failure if endpoint.strikes(raw) else None
        if failure == "rate_limited":
            self._send(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, {"Retry-After": "0"})
            return
        if failure == "server_error":
            self._send(500, {"error": {"message": "an error of the server", "code": "server_error"}})
            return
        endpoint.wait(endpoint.delay_s + (5.0 if failure == "timeout" else 0.0))
        text = json.dumps(endpoint.mind(Asked.of(body)))
        if failure in ("malformed", "truncated"):
            text = text[: len(text) // 2]
        elif failure == "wrong_schema":
            text = json.dumps({"answer": "as you wish"})
        elif failure in ("empty", "refusal"):
            text = ""
        message = {"role": "assistant", "content": text, "refusal": "I will not." if failure == "refusal" else None}
        finish = "length" if failure == "truncated" else "stop"
        used = {"prompt_tokens": len(raw) // 4, "completion_tokens": len(text) // 4}
        usage = {**used, "total_tokens": sum(used.values())}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        self._send(
            200,
            {
                "id": "s",
                "object": "chat.completion",
                "created": 0,
                "model": "scripted",
                "choices": [choice],
                "usage": usage,
            },
        )

    def _send(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has given up waiting, which is what a timeout is for


def renumbered(planted: Planted, store: pl.DataFrame) -> Planted:
    """The planted log with the event ids that ingestion gave."""
    keys = ["user", "time", "item", "behaviour"]
    ids = planted.events.select(*keys, old="event").join(
        store.select(*(pl.col(key).cast(planted.events.schema[key]) for key in keys), event="event"), on=keys
    )
    return Planted(
        shop=planted.shop,
        events=planted.events.join(ids.select("old", new="event"), left_on="event", right_on="old").select(
            pl.exclude("event", "new"), event="new"
        ),
        items=planted.items,
        roles=planted.roles.join(ids.select("old", new="event"), left_on="event", right_on="old").select("new", "role"),
        needs=planted.needs,
    )
