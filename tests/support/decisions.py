"""Complete decisions with made-up but valid content, for tests that store or show them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from rolegen_agent.memory import decision_id
from rolegen_graphs.words import (
    ROLES,
    STAGES,
    Answer,
    CallSite,
    Candidate,
    Correction,
    Decision,
    Effect,
    Event,
    Intent,
    ItemSpec,
    LabelParts,
    Lesson,
    LlmCall,
    Observation,
    PastDecision,
    Path,
    PathChoice,
    Reading,
    Reflection,
    RoleLabel,
    Round,
    Signal,
    Slate,
    SlateItem,
    Statistic,
    Trajectory,
    Worth,
)

AT = datetime(2011, 6, 1, 12, 30, tzinfo=UTC)


def make_slate(seed: int, size: int = 10) -> Slate:
    rng = random.Random(seed)
    return Slate(
        items=tuple(
            SlateItem(
                rank=rank,
                item=f"I{rng.randrange(500)}",
                title=f"title {rng.randrange(500)}",
                category=rng.choice(["candles", "bags", ""]),
                score=rng.random(),
                parts={"decoder": rng.random(), "candidate": -rng.random()},
                role=rng.choice([*ROLES, None]),
                path=rng.choice([None, 0, 1]),
            )
            for rank in range(1, size + 1)
        ),
        entropy=rng.random() * 5,
    )


def _intent(rng: random.Random) -> Intent:
    return Intent(stage=rng.choice(STAGES), category=rng.choice([None, "bags"]), need=rng.choice(["", "a gift"]))


def _spec(rng: random.Random) -> ItemSpec:
    return ItemSpec(
        role=rng.choice(ROLES),
        category=rng.choice([None, "bags"]),
        price_low=rng.choice([None, 1.25]),
        price_high=rng.choice([None, 9.5]),
        text="a small bag",
    )


def make_round(number: int, rng: random.Random, *, paths: int = 5, candidates: int = 15, events: int = 8) -> Round:
    intent = _intent(rng)
    labels = tuple(
        RoleLabel(
            event=event,
            item=f"I{rng.randrange(500)}",
            role=rng.choice(ROLES),
            confidence=rng.random(),
            evidence=tuple(range(event)),
            intent_before=_intent(rng),
            intent_after=intent,
            statistic=rng.choice(
                [None, Statistic(name="lift", value=rng.random(), low=0.1, high=0.9, support=7, neutral=1.0)]
            ),
            why="bought before",
            parts=rng.choice(
                [
                    None,
                    LabelParts(
                        llm_role="bridge",
                        llm_confidence=0.75,
                        log_role=rng.choice(["target", None]),
                        log_probability=0.5,
                        log_for_llm_role=0.25,
                        support=12,
                        log_weight=0.375,
                    ),
                ]
            ),
        )
        for event in range(events)
    )
    return Round(
        number=number,
        reading=Reading(labels=labels, intent=intent),
        paths=tuple(
            Path(
                path=path,
                operation=rng.choice(["insert", "replace", "remove"]),
                intervention=_spec(rng),
                replaces=rng.choice([None, 3]),
                steps=tuple(_spec(rng) for _ in range(rng.randrange(4))),
                why="leads to a bag",
            )
            for path in range(paths)
        ),
        candidates=tuple(
            Candidate(
                path=place // 3,
                step=place % 3,
                role=rng.choice(ROLES),
                spec=_spec(rng),
                fate=rng.choice(["accepted", "mapped", "rejected"]),
                reason="closest title",
                item=rng.choice([None, f"I{rng.randrange(500)}"]),
                title="a bag",
                score=rng.random(),
                revised=rng.random() < 0.5,
            )
            for place in range(candidates)
        ),
        effects=tuple(
            Effect(
                path=path,
                probability_without=0.1,
                probability_with=0.2,
                change=0.1,
                low=-rng.random(),
                high=rng.random(),
            )
            for path in range(paths)
        ),
        choices=tuple(
            PathChoice(
                path=path,
                chosen=path % 2 == 0,
                place=path // 2 + 1 if path % 2 == 0 else None,
                effect=rng.choice([None, rng.random()]),
                likeness=rng.choice([None, rng.random()]),
                reason="the best effect",
            )
            for path in range(paths)
        ),
        slate=make_slate(rng.randrange(10**6)),
        signals=(Signal(kind="negative_effect", detail="interval below zero", path=1, value=-0.1),),
        reflection=Reflection(
            corrections=(Correction(kind="wrong_price", detail="too dear", path=1),), lessons=("offer cheaper bags",)
        ),
        answers=(Answer(node="reason", reasoner="evidence"), Answer(node="reflect", reasoner="evidence", why="no LLM")),
    )


def make_decision(
    user: str = "17850", at: datetime = AT, run: str = "demo", *, seed: int = 0, rounds: int = 2, events: int = 30
) -> Decision:
    rng = random.Random(f"{seed} {user!r} {at} {run!r}")
    seen = Observation(
        trajectory=Trajectory(
            user=user,
            at=at,
            events=tuple(
                Event(
                    event=number,
                    at=at - timedelta(days=200 - number),
                    item=f"I{rng.randrange(500)}",
                    title="WHITE HANGING HEART T-LIGHT HOLDER",
                    category="candles",
                    behaviour="order",
                    quantity=6,
                    price=rng.choice([None, 2.55]),
                )
                for number in range(events)
            ),
            total_events=events,
            orders=3,
            days_since_last=170.5,
            dormant_because="ordered before, nothing for 90 days",
            cohort="lapsed",
        ),
        lessons=(Lesson(lesson="L1", scope="all", scope_key="", text="be early", learnt_at=at - timedelta(days=1)),),
        past=(PastDecision(decision="p", at=at - timedelta(days=100), items=("I1",), ordered=False),),
    )
    return Decision(
        decision=decision_id(run, user, at),
        run=run,
        user=user,
        at=at,
        observation=seen,
        rounds=tuple(make_round(number, rng) for number in range(1, rounds + 1)),
        slate=make_slate(rng.randrange(10**6)),
        slate_without_reasoning=make_slate(rng.randrange(10**6)),
        reasoner="evidence",
        worth=rng.choice(
            [None, Worth(uncertainty=0.5, thinness=0.25, value=1.0, worth=0.5, rounds=1, why="worth 0.50")]
        ),
    )


def make_call(
    decision: str, *, request_hash: str = "h1", error: str = "", cached: bool = False, **changed: object
) -> LlmCall:
    values: dict[str, object] = {
        "site": CallSite(decision=decision, round=1, node="reason"),
        "request_hash": request_hash,
        "prompt": "reason",
        "prompt_version": "1",
        "prompt_hash": "abc",
        "model": "m",
        "messages": '[["user", "hello"]]',
        "raw": "" if error else "{}",
        "error": error,
        "input_tokens": 100,
        "output_tokens": 20,
        "cost_usd": 0.25,
        "latency_s": 1.5,
        "cached": cached,
        "at": AT,
    }
    return LlmCall.model_validate({**values, **changed})
