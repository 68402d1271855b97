"""What a grader gets and what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rolegen_graphs.words import Decision, Reading, Role, RoleBelief

from ..cases import Case


@dataclass(frozen=True)
class Asked:
    """One question to the model, and what it cost."""

    prompt: str
    version: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """None where the price is not known"""
    latency_s: float
    """0 where the answer came from a cache"""
    request: str = ""
    """digest of what was asked, see ``rolegen_evals.suites.answers``"""
    raw: str = ""
    """what the model said"""
    error: str = ""


@dataclass(frozen=True)
class Graded:
    """A case, the decision that was taken on it, and what it took."""

    case: Case
    decision: Decision
    asked: Sequence[Asked]
    beliefs: Mapping[int, Mapping[Role, RoleBelief]]
    """what the log alone says for the roles of the case's events"""
    again: Mapping[str, Reading] = field(default_factory=dict)
    """readings of the same history told in another way: ``repeat``, ``order``, ``paraphrase``"""
    judged: Mapping[str, bool] = field(default_factory=dict)
    """by criterion of the rubric: whether a judge saw it met; empty where none was asked"""


@dataclass(frozen=True)
class Grader:
    """A named measure. ``grade`` returns None where the case says nothing about it: such cases are left out of a comparison."""

    name: str
    grade: Callable[[Graded], float | None]
    better: int
    """1: more is better, -1: less is better"""
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    """range of the measure"""
