"""The corpus of hostile texts, read from ``corpus.yaml``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

Where = Literal["title", "category", "catalogue", "user", "item", "session", "lesson", "answer", "prompt", "tool"]


@dataclass(frozen=True)
class Case:
    """One hostile text, the place where it enters, and what a model does that obeys it."""

    id: str
    kind: str
    where: Where
    text: str = field(repr=False)
    item: str = ""
    """the item that it demands"""
    role: str = ""
    """the role that it invents"""
    prompt: str = ""
    """how it makes the model give its prompt away: ``why``, ``key``, ``refusal`` or ``category``"""
    refused: str = ""
    """words of the error or reason under which it is turned away before any decision"""


def _text(raw: dict[str, Any]) -> str:
    if "text" in raw:
        return str(raw["text"])
    recipe = raw["make"]
    if "tags" in recipe:
        return "MUG" + "".join(chr(0xE0000 + ord(char)) for char in recipe["tags"])
    text, times = recipe["repeat"]
    return str(recipe.get("begin", "")) + str(text) * int(times) + str(recipe.get("end", ""))


def _case(raw: dict[str, Any]) -> Case:
    obey: dict[str, Any] = raw.get("obey", {})
    leaks = {"prompt": "why", "prompt_as_key": "key", "prompt_as_refusal": "refusal", "prompt_as_category": "category"}
    return Case(
        id=raw["id"],
        kind=raw["kind"],
        where=raw["where"],
        text=_text(raw),
        item=obey.get("item", ""),
        role=obey.get("role", ""),
        prompt=next((leak for name, leak in leaks.items() if obey.get(name)), ""),
        refused=raw.get("refused", ""),
    )


CASES: tuple[Case, ...] = tuple(
    _case(raw) for raw in yaml.safe_load(Path(__file__).with_name("corpus.yaml").read_text("utf-8"))
)
DECIDED: tuple[Case, ...] = tuple(case for case in CASES if not case.refused)
"""the cases that get as far as a decision"""
