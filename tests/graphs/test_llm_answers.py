"""Parsing: strict JSON only, and schemas that strict endpoints accept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rolegen_errors import ReasonerError
from rolegen_graphs.llm.answers import ReasonAnswer, ReflectAnswer, SimulateAnswer, parse_answer
from rolegen_graphs.llm.schemas import TASKS, answer_schema

NOTHING: dict[str, list[Any]] = {"corrections": [], "lessons": []}
INTENT = {"stage": "none", "category": None, "need": ""}


def label(**change: Any) -> dict[str, Any]:
    whole = {
        "event": 1,
        "evidence": [1],
        "intent_before": INTENT,
        "intent_after": INTENT,
        "why": "because",
        "role": "target",
        "confidence": 0.5,
    }
    return {**whole, **change}


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(NOTHING),
        f"  \n{json.dumps(NOTHING, indent=2)}\n",
        f"```json\n{json.dumps(NOTHING)}\n```",
        f"```\n{json.dumps(NOTHING)}\n```\n",
    ],
)
def test_json_is_read_with_or_without_one_code_block(raw: str) -> None:
    assert parse_answer(raw, ReflectAnswer) == ReflectAnswer(corrections=[], lessons=[])


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("", "empty"),
        ("```json\n```", "empty"),
        ("Sure! " + json.dumps(NOTHING), "not valid JSON"),
        (json.dumps(NOTHING) + " Done.", "not valid JSON: Extra data"),
        (json.dumps(NOTHING) * 2, "Extra data"),
        (json.dumps(NOTHING)[:-3], "not valid JSON"),
        ("[" * 100_000, "not usable JSON"),
        ('{"corrections": [], "lessons": ' + "9" * 5000 + "}", "not usable JSON"),
        ("null", "Input should be"),
        ("[]", "Input should be"),
        ('{"corrections": []}', "lessons: Field required"),
        ('{"corrections": [], "lessons": [], "item": "85123A"}', "item: Extra inputs"),
        ('{"corrections": [], "lessons": ["a", "b", "c"]}', "at most 2"),
        (
            json.dumps({"corrections": [{"kind": "bad", "detail": "", "path": None, "event": None}], "lessons": []}),
            "kind",
        ),
    ],
)
def test_anything_else_is_refused_with_the_place(raw: str, said: str) -> None:
    with pytest.raises(ReasonerError, match=said):
        parse_answer(raw, ReflectAnswer)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"confidence": 1.2}, "labels.0.confidence"),
        ({"confidence": -0.1}, "labels.0.confidence"),
        ({"confidence": "0.5"}, "labels.0.confidence"),
        ({"role": "buyer"}, "labels.0.role"),
        ({"event": "1"}, "labels.0.event"),
        ({"event": True}, "labels.0.event"),
        ({"event": 1.5}, "labels.0.event"),
        ({"evidence": 1}, "labels.0.evidence"),
        ({"intent_after": {**INTENT, "stage": "bought"}}, "labels.0.intent_after.stage"),
        ({"score": 0.9}, "labels.0.score"),
    ],
)
def test_role_confidence_and_types_are_checked(change: dict[str, Any], place: str) -> None:
    with pytest.raises(ReasonerError, match=place):
        parse_answer(json.dumps({"labels": [label(**change)], "intent": INTENT}), ReasonAnswer)


def test_not_a_number_is_no_price_or_confidence() -> None:
    raw = json.dumps({"labels": [label(confidence=float("nan"))], "intent": INTENT})
    assert "NaN" in raw
    with pytest.raises(ReasonerError, match="NaN is not a JSON number"):
        parse_answer(raw, ReasonAnswer)


def test_many_problems_are_listed_and_counted() -> None:
    raw = json.dumps({"labels": [label(role="x") for _ in range(30)], "intent": INTENT})
    with pytest.raises(ReasonerError) as caught:
        parse_answer(raw, ReasonAnswer)
    assert caught.value.what.count("\n") == 12 and "and 18 more problems" in caught.value.what


def test_texts_of_the_model_are_cleaned_and_bounded() -> None:
    hostile = "<|im_end|>\u202e\x00" + "w" * 100_000 + "\ud800"
    answer = parse_answer(json.dumps({"labels": [label(why=hostile)], "intent": INTENT}), ReasonAnswer)
    assert len(answer.labels[0].why) == 400
    assert not set(answer.labels[0].why) & set("<>\u202e\x00\ud800")


def test_at_most_three_steps() -> None:
    spec = {"role": "target", "category": None, "price_low": None, "price_high": None, "text": "mug"}
    path = {"why": "", "operation": "insert", "replaces": None, "intervention": spec, "steps": [spec] * 4}
    with pytest.raises(ReasonerError, match=r"paths\.0\.steps"):
        parse_answer(json.dumps({"paths": [path]}), SimulateAnswer)


def objects(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, list):
        return [found for one in node for found in objects(one)]
    if not isinstance(node, dict):
        return []
    here = [node] if node.get("type") == "object" else []
    return here + [found for one in node.values() for found in objects(one)]


@pytest.mark.parametrize("task", sorted(TASKS))
def test_schemas_are_strict(task: str) -> None:
    schema = answer_schema(task)
    assert schema["type"] == "object"
    for one in objects(schema):
        assert one["additionalProperties"] is False
        assert one["required"] == list(one["properties"]) != []
    text = json.dumps(schema)
    assert not [word for word in ("minimum", "maxItems", "minItems", "maxLength", '"title"', "default") if word in text]
    assert set(schema["properties"]) == set(TASKS[task].model_fields)
