"""Each typed correction can arise, and the round after it is another one: with an LLM over HTTP, and without one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rolegen_agent.facade import RoleGen
from rolegen_agent.reasoning.reflection import reflect_on
from rolegen_graphs.nodes.feedback import Feedback
from rolegen_graphs.parts import LoopSettings
from rolegen_graphs.state import DecisionState
from rolegen_graphs.words import (
    Candidate,
    Correction,
    CorrectionKind,
    Effect,
    ItemSpec,
    Reading,
    Role,
    Slate,
    SlateItem,
)
from rolegen_graphs.words import Path as Walk
from tests.support.observations import READING, make_observation
from tests.support.scripted_llm import ScriptedLlm, answer
from tests.support.shop import AT, users_at

KINDS: tuple[CorrectionKind, ...] = (
    "wrong_role",
    "wrong_category",
    "wrong_price",
    "too_early",
    "ungrounded",
    "collapsed",
)


def asked_for(body: dict[str, Any]) -> str:
    return str(body["response_format"]["json_schema"]["name"])


def test_what_an_llm_corrects_stands_in_its_next_prompts_and_changes_its_answer(project: Path) -> None:
    """The scripted model heeds a correction as a good one would: it leaves out its first path."""
    kind: CorrectionKind = "wrong_role"

    def say(body: dict[str, Any]) -> str:
        said, task = answer(body), asked_for(body)
        shown = str(body["messages"][-1]["content"])
        if task == "reflect":
            event = int(shown.split("[", 1)[1].split("]")[0]) if kind == "wrong_role" else None
            said["corrections"] = [{"detail": f"mend {kind} now", "kind": kind, "path": 0, "event": event}]
        if task == "simulate" and f"mend {kind} now" in shown:
            said["paths"] = said["paths"][1:]
        return json.dumps(said)

    with ScriptedLlm(answers=say) as server:
        overrides: dict[str, dict[str, object]] = {
            "reasoner": {"kind": "llm", "rounds": 2},
            "llm": {"model": "scripted", "base_url": server.url},
        }
        with RoleGen.open(project, overrides=overrides) as shop:
            for kind, user in zip(KINDS, users_at(project, len(KINDS)), strict=True):
                begin = len(server.chats)
                first, second = shop.decide(user, AT).rounds
                assert [one.kind for one in first.reflection.corrections] == [kind]
                told = [asked_for(one.body) for one in server.chats[begin:] if f"mend {kind} now" in one.prompt]
                assert told == ["reason", "simulate"], "in the second round, and only there"
                assert len(second.paths) == len(first.paths) - 1


# --- without an LLM: what is found, what is made of it; test_evidence_reasoner shows what the next round does


def path(number: int, role: Role = "complement", category: str = "Kitchen") -> Walk:
    spec = ItemSpec(role=role, category=category, price_low=1, price_high=2, text="cup")
    return Walk(
        path=number, operation="insert", intervention=spec, steps=(spec,), kind="rebuy" if number == 0 else None
    )


def candidates(one: Walk, fate: str, reason: str = "") -> list[Candidate]:
    return [
        Candidate.model_validate(
            {
                "path": one.path,
                "step": step,
                "role": spec.role,
                "spec": spec,
                "fate": fate,
                "reason": reason,
                "item": None if fate == "rejected" else f"i{step}",
            }
        )
        for step, spec in enumerate(one.specs())
    ]


def corrected(
    walks: Sequence[Walk],
    found: Sequence[Candidate],
    *,
    change: float = 0.0,
    reading: Reading = READING,
    categories: Sequence[str] = ("Kitchen", "Bags", "Light"),
) -> tuple[Correction, ...]:
    """What feedback finds in a round, and what the evidence reasoner makes of it."""
    items = tuple(
        SlateItem(rank=n, item=f"i{n}", title="", category=category, score=1)
        for n, category in enumerate(categories, 1)
    )
    effects = [
        Effect(
            path=one.path,
            probability_without=0.3,
            probability_with=0.3 + change,
            change=change,
            low=change - 0.01,
            high=change + 0.01,
        )
        for one in walks
    ]
    state: DecisionState = {
        "paths": list(walks),
        "candidates": list(found),
        "effects": effects,
        "slate": Slate(items=items),
        "reading": reading,
    }
    signals = Feedback(LoopSettings(run="t"))(state)["signals"]
    if not signals:
        return ()  # as the node does: nobody is asked to reflect on nothing
    return reflect_on(make_observation().trajectory, walks, found, effects, signals).corrections


def kinds(found: Sequence[Correction]) -> list[tuple[str, int | None]]:
    return [(one.kind, one.path) for one in found]


def test_nothing_amiss_is_nothing_to_correct() -> None:
    walks = [path(0, "replenishment"), path(1)]
    assert corrected(walks, [c for one in walks for c in candidates(one, "accepted")]) == ()


def test_each_kind_of_correction_arises_from_its_finding_alone() -> None:
    two = [path(0, "replenishment"), path(1)]
    good = [c for one in two for c in candidates(one, "accepted")]
    price, moved = "mapped; price 3.00 outside 1.00 to 2.00", "mapped; category Bags instead of Kitchen"
    assert kinds(corrected(two, [*good[:2], *candidates(two[1], "mapped", price)])) == [("wrong_price", 1)]
    assert kinds(corrected(two, [*good[:2], *candidates(two[1], "mapped", moved)])) == [("wrong_category", 1)]
    assert kinds(corrected(two, [*good[:2], *candidates(two[1], "rejected", "nothing near")])) == [("ungrounded", 1)]
    assert kinds(corrected(two, good, change=-0.2)) == [("too_early", 0), ("wrong_role", 1)]
    assert kinds(corrected(two, good, categories=("Kitchen",) * 3)) == [("collapsed", None)]
    assert kinds(
        corrected([path(1), path(2)], [*candidates(path(1), "accepted"), *candidates(path(2), "accepted")])
    ) == [("collapsed", None)]


def test_a_path_of_an_llm_is_not_taken_for_a_rebuy_because_of_its_number() -> None:
    walks = [path(0, "bridge"), path(1, "replenishment")]
    found = corrected(walks, [c for one in walks for c in candidates(one, "accepted")], change=-0.2)
    assert kinds(found) == [("wrong_role", 0), ("too_early", 1)]
