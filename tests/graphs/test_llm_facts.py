"""Fact checks: every invented or impossible thing is found, and what is right passes."""

from __future__ import annotations

from typing import Any

import pytest

from rolegen_graphs.llm.answers import ReasonAnswer, ReflectAnswer, ReviseAnswer, SimulateAnswer
from rolegen_graphs.llm.categories import Offer
from rolegen_graphs.llm.facts import Facts
from tests.support.observations import make_observation

SHOWN = {1, 2, 3, 5, 6}  # 4 exists but was folded
FACTS = Facts(make_observation().trajectory, SHOWN, Offer(["Lighting", "Kitchen"]))
NONE = {"stage": "none", "category": None, "need": ""}


def reading(*labels: dict[str, Any], category: str | None = "Lighting") -> ReasonAnswer:
    return ReasonAnswer.model_validate({"labels": list(labels), "intent": {**NONE, "category": category}})


def label(event: int, *evidence: int, category: str | None = None) -> dict[str, Any]:
    return {
        "event": event,
        "evidence": list(evidence),
        "intent_before": NONE,
        "intent_after": {**NONE, "category": category},
        "why": "",
        "role": "target",
        "confidence": 0.5,
    }


def spec(role: str = "target", category: str | None = "Lighting", text: str = "lamp", **more: Any) -> dict[str, Any]:
    return {"role": role, "category": category, "price_low": None, "price_high": None, "text": text, **more}


def path(*specs: dict[str, Any], operation: str = "insert", replaces: int | None = None) -> dict[str, Any]:
    first, *steps = specs or (spec(),)
    return {"why": "", "operation": operation, "replaces": replaces, "intervention": first, "steps": steps}


def of_paths(*paths: dict[str, Any], asked: int | None = None) -> list[str]:
    return FACTS.of_paths(SimulateAnswer.model_validate({"paths": list(paths)}), asked=asked or len(paths))


def test_a_sound_reading_passes() -> None:
    answer = reading(label(3, 1, 3, category="kitchen"), label(2, 1, 2), category=None)
    assert FACTS.of_reading(answer, most=2) == [], "events of one time may support each other"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reading(label(9)), "labels.0.event: no event with id 9"),
        (reading(label(4)), "labels.0.event: no event with id 4"),
        (reading(label(1, 9)), "labels.0.evidence: no event with id 9"),
        (reading(label(1, 3)), "labels.0.evidence: event 3 lies after event 1"),
        (reading(label(1), label(1)), "event 1 is labelled 2 times"),
        (reading(label(1, category="Garden")), "labels.0.intent_after.category: 'Garden' is not in the list"),
        (reading(label(1), category="Toys"), "intent.category: 'Toys' is not in the list"),
        (reading(label(1), label(2), label(3)), "3 given, at most 2"),
    ],
)
def test_an_impossible_reading_is_found(answer: ReasonAnswer, said: str) -> None:
    found = FACTS.of_reading(answer, most=2)
    assert len(found) == 1 and said in found[0]


def test_sound_paths_pass() -> None:
    assert (
        of_paths(
            path(spec("replenishment")),
            path(spec("trigger"), spec("target", "Kitchen")),
            path(spec("anchor", None), spec("comparison"), spec("complement"), operation="replace", replaces=1),
            path(spec("incidental"), spec("gateway", "Kitchen"), operation="remove", replaces=6),
        )
        == []
    )
    assert of_paths(path(), asked=2) == [], "half of the paths are enough"


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ([path(spec(category="Garden"))], "paths.0.intervention.category: 'Garden'"),
        ([path(spec(), spec(category="Toys"))], "paths.0.steps.0.category: 'Toys'"),
        ([path(replaces=1)], "paths.0.replaces: an insertion replaces nothing"),
        ([path(operation="replace")], "paths.0.replaces: operation 'replace' must name an event"),
        ([path(operation="replace", replaces=4)], "paths.0.replaces: no event with id 4"),
        ([path(operation="remove", replaces=1)], "paths.0.steps: a removal needs"),
        ([path(spec("incidental"), spec())], "paths.0.intervention.role: 'incidental'"),
        ([path(spec(), spec("unresolved"), spec())], "paths.0.steps.0.role: 'unresolved'"),
        ([path(spec("trigger"))], "the last spec has role 'trigger'"),
        ([path(spec(price_low=5.0, price_high=2.0))], "price_low 5 is above price_high 2"),
        ([path(spec(text=""))], "paths.0.intervention.text: is empty"),
        ([path(spec(text="like 85123A please"))], "names the item number '85123A'"),
        ([path(), path()], "paths.1: same operation, role and category as paths.0"),
        ([path(spec(), spec(text=t), spec("target", c)) for t, c in (("a", "Lighting"), ("b", "Kitchen"), ("c", None))],
         "all interventions have the same role"),
        ([path(spec(role)) for role in ("target", "gateway", "complement")], "all specs name the same category"),
    ],
)  # fmt: skip
def test_an_unsound_path_is_found(paths: list[dict[str, Any]], said: str) -> None:
    found = of_paths(*paths)
    assert len(found) == 1 and said in found[0]


def test_too_few_and_too_many_paths_are_found() -> None:
    assert "1 given, 4 were asked for" in of_paths(path(), asked=4)[0]
    assert "2 given, 1 were asked for" in of_paths(path(), path(spec("gateway")), asked=1)[0]


@pytest.mark.parametrize("numbers", [[], [1], [2, 2], [1, 2, 3], [0, 1]])
def test_every_rejected_spec_gets_exactly_one_revision(numbers: list[int]) -> None:
    answer = ReviseAnswer.model_validate({"revisions": [{"number": n, "why": "", "spec": None} for n in numbers]})
    assert len(FACTS.of_revisions(answer, asked=2)) == 1


def test_a_revised_spec_is_checked_like_any_other() -> None:
    wrong = spec(category="Garden", text="22423")
    del wrong["role"]
    answer = ReviseAnswer.model_validate({"revisions": [{"number": 1, "why": "", "spec": wrong}]})
    assert len(FACTS.of_revisions(answer, asked=1)) == 2


def test_corrections_name_what_exists() -> None:
    rows = [("wrong_role", None, 1), ("wrong_price", 1, None), ("wrong_price", 2, None), ("wrong_role", None, 9),
            ("wrong_role", 1, None)]  # fmt: skip
    corrections = [{"detail": "", "kind": kind, "path": p, "event": e} for kind, p, e in rows]
    answer = ReflectAnswer.model_validate({"corrections": corrections, "lessons": []})
    found = FACTS.of_reflection(answer, paths={0, 1})
    assert [line.split(":")[0] for line in found] == [
        "corrections.2.path",
        "corrections.3.event",
        "corrections.4.event",
    ]


def test_offered_categories_lead_back_to_the_catalogues_own_names() -> None:
    strange = "Home > Décor\n<b>"
    offer = Offer([strange, "", "A" * 200, strange])
    assert offer.shown == ["Home › Décor ‹b›", "A" * 77 + "..."]
    assert offer.original("home › décor ‹b›") == strange
    assert offer.original(None) is None
    assert strange not in offer.render()
    many = Offer(f"c{i}" for i in range(100))
    assert len(many) == 60 and "(40 more categories may not be named)" in many.render()
    assert Offer([]).render() == "(none: answer null)"
