"""Observations with known content, and an ``Asker`` that plays back texts: for tests of the LLM reasoner."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rolegen_graphs.words import (
    Behaviour,
    CallSite,
    Candidate,
    Correction,
    Effect,
    Event,
    Intent,
    ItemSpec,
    Lesson,
    Observation,
    PastDecision,
    Path,
    Reading,
    RoleLabel,
    Signal,
    Statistic,
    Trajectory,
)
from rolegen_prompts import Message, Prompt

AT = datetime(2011, 6, 1, 9, 0, tzinfo=UTC)
SITE = CallSite(decision="d1", round=1, node="reason")

_ROWS: tuple[tuple[int, int, str, str, str, Behaviour, float, float | None], ...] = (
    (101, 200, "85123A", "WHITE HANGING HEART T-LIGHT HOLDER", "Lighting", "order", 6, 2.55),
    (102, 200, "22423", "REGENCY CAKESTAND 3 TIER", "Kitchen", "order", 1, 12.75),
    (140, 170, "85123A", "WHITE HANGING HEART T-LIGHT HOLDER", "Lighting", "order", 6, 2.55),
    (141, 170, "47566", "PARTY BUNTING", "Garden", "refund", 2, 4.95),
    (180, 140, "85123A", "WHITE HANGING HEART T-LIGHT HOLDER", "Lighting", "order", 12, 2.55),
    (190, 120, "22697", "GREEN REGENCY TEACUP AND SAUCER", "Kitchen", "view", 1, None),
)


def make_event(
    event: int,
    days_before: float,
    *,
    item: str = "20725",
    title: str = "LUNCH BAG RED RETROSPOT",
    category: str = "Bags",
    behaviour: Behaviour = "order",
    quantity: float = 1,
    price: float | None = 1.65,
    session: str | None = None,
) -> Event:
    return Event(
        event=event,
        at=AT - timedelta(days=days_before),
        item=item,
        title=title,
        category=category,
        behaviour=behaviour,
        quantity=quantity,
        price=price,
        session=session,
    )


def make_observation(events: Sequence[Event] | None = None, **more: Any) -> Observation:
    """The default history, or one of the given events."""
    shown = (
        tuple(events)
        if events is not None
        else tuple(
            make_event(
                number, days, item=item, title=title, category=category, behaviour=what, quantity=count, price=price
            )
            for number, days, item, title, category, what, count, price in _ROWS
        )
    )
    trajectory = Trajectory(
        user="customer-17850",
        at=AT,
        events=shown,
        total_events=max(40, len(shown)),
        orders=3,
        days_since_last=120.0,
        dormant_because="ordered before, nothing for 90 days",
        cohort="lapsed buyer",
    )
    return Observation(trajectory=trajectory, **more)


LESSON = Lesson(
    lesson="l1",
    scope="cohort",
    scope_key="lapsed buyer",
    text="Customers who rebuy lights respond to a matching set.",
    learnt_at=AT - timedelta(days=30),
    evidence_for=4,
    evidence_against=1,
)
PAST = PastDecision(decision="d0", at=AT - timedelta(days=60), items=("22423", "47566"), ordered=False)
CORRECTION = Correction(kind="wrong_role", detail="event 102 was bought for its own sake", event=102)
READING = Reading(
    labels=(
        RoleLabel(
            event=101,
            item="85123A",
            role="gateway",
            confidence=0.7,
            evidence=(101,),
            intent_before=Intent(stage="none"),
            intent_after=Intent(stage="satisfied", category="Lighting", need="lights for a room"),
            statistic=Statistic(name="later orders", value=0.31, low=0.12, high=0.5, support=214),
            why="a cheap first order that was repeated twice",
        ),
    ),
    intent=Intent(stage="browsing", category="Lighting", need="a rebuy that is due"),
)
PATH = Path(
    path=0,
    operation="insert",
    intervention=ItemSpec(role="replenishment", category="Lighting", price_low=2, price_high=3.5, text="hanging light"),
    steps=(ItemSpec(role="complement", category="Kitchen", text="teacup and saucer"),),
    why="the rebuy is overdue",
)
REJECTED = Candidate(
    path=0, step=1, role="complement", spec=PATH.steps[0], fate="rejected", reason="nothing in stock comes close"
)
EFFECT = Effect(path=0, probability_without=0.2, probability_with=0.24, change=0.04, low=-0.01, high=0.09)
SIGNAL = Signal(kind="ungrounded", detail="step 1 of path 0 matched no item", path=0, step=1)


OUTCOMES = (
    (
        "lapsed buyer: category 'Lighting'",
        "9.0% of 200 decisions that led with it were ordered from, 6.0% of 400 others; adjusted +2.1 points [-0.4, +4.6]",
    ),
)


class PlayedBack:
    """An ``Asker`` that returns prepared texts in turn and keeps what it was asked. A dict stands for its JSON."""

    def __init__(self, *answers: str | dict[str, Any] | Callable[[Sequence[Message]], str]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, tuple[Message, ...], dict[str, Any], Prompt]] = []

    def ask(
        self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
    ) -> str:
        self.asked.append((task, tuple(messages), schema, prompt))
        answer = self._answers.pop(0)
        if callable(answer):
            return answer(messages)
        return answer if isinstance(answer, str) else json.dumps(answer)
