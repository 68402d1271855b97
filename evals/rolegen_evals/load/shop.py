"""The loop over made-up ports, so that a process starts without torch: all but observer, catalogue and recommender is real.

The graph, the LLM reasoner with its prompts, the client over HTTP, the memory and the checkpoints are those of the product.
The ports are functions of the user's name, so that two runs decide alike.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rolegen_agent.llm import LlmClient, chat_model
from rolegen_agent.memory import Memory
from rolegen_agent.memory.spending import RunLedger
from rolegen_graphs import LoopSettings, Parts
from rolegen_graphs.llm import LlmReasoner
from rolegen_graphs.ports import NO_CHANGES, Reasoner
from rolegen_graphs.words import (
    CallSite,
    Candidate,
    Correction,
    Effect,
    Event,
    Intent,
    ItemSpec,
    Observation,
    Path,
    Reading,
    Reflection,
    RoleLabel,
    Signal,
    Slate,
    SlateItem,
    Trajectory,
)
from rolegen_prompts import PromptPack

from ..endpoint import Asked

AT = datetime(2011, 9, 1, tzinfo=UTC)
CATEGORIES = ("Light", "Kitchen", "Garden", "Bags", "Candles", "Toys", "Paper", "Tins")
ITEMS = {f"item-{n:03}": CATEGORIES[n % len(CATEGORIES)] for n in range(240)}
EVENTS, SLATE = 12, 10
_OPENERS = ("trigger", "bridge", "comparison", "anchor", "complement", "gateway")


def luck_of(*key: object) -> random.Random:
    """Numbers that depend on ``key`` alone."""
    return random.Random(hashlib.sha256(repr(key).encode()).hexdigest())


def user_name(number: int) -> str:
    return f"user-{number:06}"


@dataclass(frozen=True)
class MadeUpUsers:
    """An ``Observer`` that knows everybody, and reads lessons and past decisions from the memory as the real one does."""

    memory: Memory | None

    def observe(self, user: str, at: datetime) -> Observation:
        luck, first = luck_of("user", user), int(user.rsplit("-", 1)[1]) * EVENTS
        events = []
        for number in range(EVENTS):
            item = luck.choice(list(ITEMS))
            events.append(
                Event(
                    event=first + number,
                    at=at - timedelta(days=300 - 15 * number, hours=luck.randrange(12)),
                    item=item,
                    title=f"{ITEMS[item].lower()} article {item[-3:]}",
                    category=ITEMS[item],
                    behaviour=luck.choice(("view", "view", "cart", "order")),
                    quantity=1,
                    price=round(luck.uniform(1, 20), 2),
                )
            )
        trajectory = Trajectory(
            user=user,
            at=at,
            events=tuple(events),
            total_events=EVENTS,
            orders=sum(event.behaviour == "order" for event in events),
            days_since_last=135.0,
            dormant_because="silent",
            cohort="lapsed",
        )
        if self.memory is None:
            return Observation(trajectory=trajectory)
        return Observation(
            trajectory=trajectory,
            lessons=self.memory.lessons_for(user, "lapsed", at),
            past=self.memory.past_decisions(user, at),
        )


class Shelf:
    """A ``Catalogue`` in which a spec finds an item of its category, and now and then none."""

    def ground(self, specs: Sequence[tuple[int, int, ItemSpec]], seen: Observation) -> tuple[Candidate, ...]:
        found = []
        for path, step, spec in specs:
            luck = luck_of("spec", seen.trajectory.user, path, step, spec.text, spec.category)
            item = luck.choice([item for item, category in ITEMS.items() if category == spec.category] or list(ITEMS))
            missing = luck.random() < 0.1
            found.append(
                Candidate(
                    path=path,
                    step=step,
                    role=spec.role,
                    spec=spec,
                    fate="rejected" if missing else "accepted",
                    reason="nothing alike" if missing else "near enough",
                    item=None if missing else item,
                    title="" if missing else f"{ITEMS[item].lower()} article {item[-3:]}",
                    score=round(luck.random(), 6),
                )
            )
        return tuple(found)


class Ranker:
    """A ``Recommender``: the candidates first, then items that the user's name draws."""

    def rollout(
        self,
        user: str,
        at: datetime,
        paths: Sequence[tuple[int, Sequence[str]]],
        changes: Mapping[int, tuple[int, str | None]] = NO_CHANGES,
    ) -> tuple[Effect, ...]:
        found = []
        for path, items in paths:
            change = round(luck_of("effect", user, path, tuple(items)).uniform(-0.03, 0.06), 6)
            found.append(
                Effect(
                    path=path,
                    probability_without=0.1,
                    probability_with=0.1 + change,
                    change=change,
                    low=change - 0.02,
                    high=change + 0.02,
                )
            )
        return tuple(found)

    def slate(
        self, user: str, at: datetime, candidates: Sequence[Candidate], size: int, labels: Sequence[RoleLabel] = ()
    ) -> Slate:
        reasons = dict[str, Candidate]()
        for one in candidates:
            if one.item is not None:
                reasons.setdefault(one.item, one)  # the first spec of an item counts, as with the backbone
        drawn = luck_of("slate", user).sample(list(ITEMS), size)
        ranked = list(dict.fromkeys([*drawn[: size // 2], *reasons, *drawn]))[:size]
        return Slate(
            items=tuple(
                SlateItem(
                    rank=rank,
                    item=item,
                    title=f"article {item[-3:]}",
                    category=ITEMS[item],
                    score=round(1 / rank, 6),
                    role=reasons[item].role if item in reasons else None,
                    path=reasons[item].path if item in reasons else None,
                )
                for rank, item in enumerate(ranked, 1)
            ),
            entropy=4.0,
        )


class PlainReasoner:
    """A ``Reasoner`` without an LLM: what the loop itself costs shows with it."""

    name = "evidence"

    def reason(self, seen: Observation, corrections: Sequence[Correction], *, site: CallSite) -> Reading:
        labels = tuple(
            RoleLabel(
                event=event.event,
                item=event.item,
                role="target" if event.behaviour == "order" else "comparison",
                confidence=0.5,
                intent_before=Intent(stage="none"),
                intent_after=Intent(stage="browsing", category=event.category),
            )
            for event in seen.trajectory.events
        )
        return Reading(labels=labels, intent=Intent(stage="browsing", category=seen.trajectory.events[-1].category))

    def simulate(
        self, seen: Observation, reading: Reading, corrections: Sequence[Correction], *, site: CallSite
    ) -> tuple[Path, ...]:
        luck = luck_of("paths", seen.trajectory.user, site.round)
        return tuple(
            Path(
                path=number,
                operation="insert",
                intervention=ItemSpec(role=_OPENERS[number % 6], category=luck.choice(CATEGORIES), text="small"),
                steps=(ItemSpec(role="target", category=luck.choice(CATEGORIES), text="large"),),
            )
            for number in range(8)
        )

    def revise(
        self, seen: Observation, rejected: Sequence[Candidate], *, site: CallSite
    ) -> tuple[ItemSpec | None, ...]:
        return tuple(None for _ in rejected)

    def reflect(
        self,
        seen: Observation,
        reading: Reading,
        paths: Sequence[Path],
        candidates: Sequence[Candidate],
        effects: Sequence[Effect],
        signals: Sequence[Signal],
        *,
        site: CallSite,
    ) -> Reflection:
        return Reflection()


def mind(asked: Asked) -> dict[str, Any]:
    """A valid answer about the events and categories in the prompt, the same for the same prompt."""
    luck, offered = asked.luck, asked.categories or (None,)
    match asked.task:
        case "reason":
            nothing = {"stage": "none", "category": None, "need": ""}
            intent = {"stage": "browsing", "category": luck.choice(offered), "need": "something for the house"}
            labels = [
                {
                    "event": shown.number,
                    "evidence": [shown.number],
                    "intent_before": nothing,
                    "intent_after": intent,
                    "why": f"the {shown.behaviour} came when it did",
                    "role": luck.choice(("trigger", "target", "complement", "bridge", "incidental")),
                    "confidence": 0.6,
                }
                for shown in asked.events[:6]
            ]
            return {"labels": labels, "intent": intent}
        case "simulate":
            return {
                "paths": [
                    {
                        "why": "the history suggests it",
                        "operation": "insert",
                        "replaces": None,
                        "intervention": _spec(
                            _OPENERS[(number + number // len(offered)) % 6], offered[number % len(offered)]
                        ),
                        "steps": [_spec("target", offered[(number + 1) % len(offered)])],
                    }
                    for number in range(asked.paths)
                ]
            }
        case "revise":
            return {"revisions": [{"number": one, "why": "no better idea", "spec": None} for one in asked.rejected]}
        case _:
            again = [{"detail": "offer something cheaper", "kind": "wrong_price", "path": None, "event": None}]
            return {"corrections": again if luck.random() < 0.3 else [], "lessons": []}


def _spec(role: str, category: str | None) -> dict[str, Any]:
    return {"role": role, "category": category, "price_low": 1.0, "price_high": 5.0, "text": "small gift"}


@dataclass(frozen=True)
class ScriptedShop:
    """The filled ports of one run, as a batch wants them."""

    parts: Parts
    settings: LoopSettings
    client: LlmClient | None
    allocation: None = None


def open_shop(memory: Memory, run: str, *, endpoint: str | None, concurrency: int = 4, paths: int = 8) -> ScriptedShop:
    """The loop of ``run``; ``endpoint`` is the base URL of the LLM, None for a loop without one."""
    plain = PlainReasoner()
    client, reasoner = None, None
    if endpoint is not None:
        client = LlmClient(
            chat_model("scripted", base_url=endpoint, api_key="none", timeout_s=30.0),
            name="scripted",
            log=memory,
            ledger=RunLedger(memory, run),
            concurrency=concurrency,
            claim=memory.claimed,
        )
        prompts = PromptPack.default()
        reasoner = LlmReasoner(client, model="scripted", prompts=prompts, paths=paths)
        for prompt in map(prompts.get, prompts.names()):
            memory.record_prompt(prompt.name, str(prompt.version), prompt.sha256, prompt.text)
    asked: Reasoner = reasoner or plain
    parts = Parts(
        observer=MadeUpUsers(memory),
        reasoner=asked,
        fallback=None if reasoner is None else plain,
        catalogue=Shelf(),
        recommender=Ranker(),
        memory=memory,
    )
    return ScriptedShop(parts=parts, settings=LoopSettings(run=run, slate_size=SLATE), client=client)
