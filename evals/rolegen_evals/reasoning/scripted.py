"""Scripted LLMs on a real HTTP server: a perfect, a random and an adversarial mind, and ways to be broken.

They read nothing but the prompt, as a model would; the perfect one recognises the user by the history that it sees there, and
looks up what the planter knows.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import polars as pl

from ..endpoint import Asked, Endpoint, Heard, Reply, completion, models
from ..worlds import Planted

Failure = Literal[
    "malformed", "truncated", "wrong_schema", "empty", "refusal", "rate_limited", "server_error", "timeout"
]
FAILURES: tuple[Failure, ...] = get_args(Failure)
Answer = dict[str, Any]
_CLOSING = ("target", "complement", "replenishment", "gateway")
_LABELS = 12


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
        labels = [self.label(event.number, asked) for event in sorted(chosen)]
        return {"labels": labels, "intent": self.intent(asked)}

    def label(self, event: int, asked: Asked) -> Answer:
        role = asked.luck.choice(("trigger", "bridge", "anchor", "comparison", "complement", "target", "incidental"))
        return label_of(event, role, round(asked.luck.uniform(0.2, 0.9), 2))

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
        self._events: dict[tuple[str, str, str], dict[str, list[int]]] = {}
        titles = dict(planted.items.select("item", "title").iter_rows())
        days = pl.col("time").min().over("session").dt.strftime("%Y-%m-%d")
        for event, user, day, behaviour, item in planted.events.select(
            "event", "user", days, "behaviour", "item"
        ).iter_rows():
            self._events.setdefault((day, behaviour, titles[item]), {}).setdefault(user, []).append(event)
        self.role: dict[int, str] = dict(planted.roles.iter_rows())
        """planted role by event id"""
        last = planted.needs.sort("time").group_by("user", maintain_order=True).last()
        self._hidden = {row["user"]: row for row in last.iter_rows(named=True)}
        strength = self.goods.strength * (self.goods.is_a("target") | self.goods.is_a("replenishment"))
        self._targets = {
            c: [int(i) for i in (-strength * (self.goods.category == c)).argsort(kind="stable")[:8]]
            for c in range(len(self.goods.categories))
        }

    def reason(self, asked: Asked) -> Answer:
        roles = self._roles(asked)
        rare = sorted(roles, key=lambda number: (roles[number] in ("incidental", "comparison"), -number))[:_LABELS]
        labels = [label_of(number, roles[number], 0.95) for number in sorted(rare)]
        labels = labels or [label_of(asked.events[-1].number, "unresolved", 0.5)]
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

    def _user(self, asked: Asked) -> str:
        """The one whose history holds all that is shown; the first of those who look alike."""
        return min(set.intersection(*(set(self._events[shown[1:]]) for shown in asked.events)))

    def _roles(self, asked: Asked) -> dict[int, str]:
        """Planted roles by the numbers of the events shown."""
        return {number: self.role[event] for number, event in self.planted_events(asked).items()}

    def planted_events(self, asked: Asked) -> dict[int, int]:
        """Events with a planted role, by the numbers under which they are shown; those that look alike are taken in order of time."""
        user, taken, found = self._user(asked), Counter[tuple[str, ...]](), dict[int, int]()
        for shown in asked.events:
            event = self._events[shown[1:]][user][taken[shown[1:]]]
            taken[shown[1:]] += 1
            if event in self.role:
                found[shown.number] = event
        return found

    def _known(self, asked: Asked) -> Mapping[str, Any]:
        return self._hidden[self._user(asked)]


class AdversarialMind(Mind):
    """Swears that eye-catchers, which nobody ever buys, are what everybody wants."""

    def label(self, event: int, asked: Asked) -> Answer:
        return label_of(event, "target" if asked.luck.random() < 0.5 else "trigger", 1.0)

    def items(self, asked: Asked) -> list[int]:
        bait = [int(item) for item in self.goods.is_a("incidental").nonzero()[0]]
        return asked.luck.sample(bait, min(len(bait), 2 * asked.paths))


def label_of(event: int, role: str, confidence: float) -> Answer:
    """A label in form, without a thought behind it."""
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
        self._lock = threading.Lock()
        self._server = Endpoint(self._respond)
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    def strikes(self, body: bytes) -> bool:
        """Whether this request fails; a repetition of it draws anew."""
        with self._lock:
            self.requests += 1
            struck = self.failure is not None and random.Random(f"{self.requests}{body!r}").random() < self.share
            self.failed += struck
        return struck

    def _respond(self, heard: Heard) -> Reply:
        if heard.method == "GET":
            return Reply(models("scripted"))
        failure = self.failure if self.strikes(heard.raw) else None
        if failure == "rate_limited":
            body = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
            return Reply(body, 429, {"Retry-After": "0"})
        if failure == "server_error":
            return Reply({"error": {"message": "an error of the server", "code": "server_error"}}, 500)
        self._server.over.wait(self.delay_s + (5.0 if failure == "timeout" else 0.0))
        text = json.dumps(self.mind(Asked.of(heard.body)))
        if failure in ("malformed", "truncated"):
            text = text[: len(text) // 2]
        elif failure == "wrong_schema":
            text = json.dumps({"answer": "as you wish"})
        elif failure in ("empty", "refusal"):
            text = ""
        refusal = "I will not." if failure == "refusal" else None
        finish = "length" if failure == "truncated" else "stop"
        return Reply(completion(heard, text, refusal=refusal, finish=finish))


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
