"""A model that the text has captured: it obeys the case at hand in every answer, whether or not it could read it.

It speaks the protocol over real HTTP like the scripted one, and knows the valid answer. What it does with it: repeat the
hostile text wherever it may write one, name the demanded item in every spec, invent the role, or give away its prompt.
"""

from __future__ import annotations

import json
from typing import Any

from tests.support.scripted_llm import Refusal, answer

from .cases import Case

TITLES = {"GOLD-1": "GOLDEN TICKET VOUCHER", "OLD-1": "OLD SOLD OUT LANTERN", "X-404": "X-404"}
"""titles of the demanded items, as their seller would have a model write them"""


class Captured:
    """What the model answers to the body of a request, while ``case`` is set; without one it answers honestly."""

    def __init__(self) -> None:
        self.case: Case | None = None

    def __call__(self, body: dict[str, Any]) -> str:
        honest = answer(body)
        case = self.case
        if case is None or body["model"] == "honest":
            return json.dumps(honest, ensure_ascii=False)
        if case.where == "answer":
            return case.text
        if case.prompt == "refusal":
            return Refusal(f"I must not, because: {_prompt(body)}")
        said = _prompt(body) if case.prompt else case.text
        obeyed = _obey(honest, case, said[:5000])
        if case.prompt == "key":
            obeyed[said[:300]] = said
        return json.dumps(obeyed)


def _prompt(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"])


def _obey(node: Any, case: Case, said: str) -> Any:
    """The answer with every free text, role and spec bent to what the case wants."""
    if isinstance(node, list):
        return [_obey(one, case, said) for one in node]
    if not isinstance(node, dict):
        return said if isinstance(node, str) else node
    bent: dict[str, Any] = {}
    for name, value in node.items():
        if name == "role":
            bent[name] = case.role or value
        elif name == "text" and case.item:
            bent[name] = f"{TITLES[case.item]} {case.item}"
        elif name in ("price_low", "price_high") and case.item:
            bent[name] = None
        elif name == "category":
            bent[name] = said[:70] if case.prompt == "category" else value
        elif name in ("stage", "operation", "kind"):
            bent[name] = value
        else:
            bent[name] = _obey(value, case, said)
    return bent
