"""JSON schemas for structured output, derived from the answer models.

They keep to the subset that strict endpoints accept: every property required, no additional ones, and none of the
keywords for ranges and lengths. What a schema cannot say here, the answer model and the fact checks enforce anyway.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from .answers import Answer, LearnAnswer, ReasonAnswer, ReflectAnswer, ReviseAnswer, SimulateAnswer

TASKS: dict[str, type[Answer]] = {
    "reason": ReasonAnswer,
    "simulate": SimulateAnswer,
    "revise": ReviseAnswer,
    "reflect": ReflectAnswer,
    "learn": LearnAnswer,
}

_DROPPED = frozenset(
    [
        "title",
        "description",
        "default",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "pattern",
        "format",
    ]
)


@cache
def _schema(task: str) -> dict[str, Any]:
    strict = _strict(TASKS[task].model_json_schema())
    assert isinstance(strict, dict)
    return strict


def answer_schema(task: str) -> dict[str, Any]:
    """The strict JSON schema of a task's answer."""
    return dict(_schema(task))


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    kept: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):  # names of ours, not keywords: a property may well be called "title"
            kept[key] = {name: _strict(one) for name, one in value.items()}
        elif key not in _DROPPED:
            kept[key] = _strict(value)
    if kept.get("type") == "object":
        kept["additionalProperties"] = False
        kept["required"] = list(kept.get("properties", {}))
    return kept
