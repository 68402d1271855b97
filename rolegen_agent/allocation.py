"""Spend a fixed LLM budget where it matters most: who of the wanted users gets LLM calls, and in how many rounds.

All wanted users are ranked by their worth (see ``rolegen_graphs.gate``), ties by id; the best get their rounds until the
forecast cost of the next one no longer fits. Nobody behind that one is asked, even if a cheaper user would still fit: the
order is what a person can check. The ranking looks at events, evidence and backbone alone, never at what was decided or
paid already, so that a stopped command finds the same allocation again; budget and users are part of the run's name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolegen_errors import InputError, ProjectError

if TYPE_CHECKING:
    from rolegen_graphs.words import Worth

    from .llm import Price
    from .settings import BudgetSettings

# Stated, not learnt from the memory as `rolegen awaken --forecast` does: a resumed run must share out as it began.
CALLS_PER_ROUND = 4
"""reason, simulate, and often revise and reflect; a repair takes the place of one that was not needed"""
TOKENS_PER_CALL = (4500, 900)
"""input and output of one call: a prompt with a trajectory of 3,000 tokens, and an answer of eight paths"""


@dataclass(frozen=True)
class LlmBudget:
    """A number of calls, or of US dollars; the other one is None."""

    calls: int | None = None
    usd: float | None = None

    @classmethod
    def parse(cls, text: str | int) -> LlmBudget:
        """``200`` and ``"200"`` are calls, ``"2.50usd"`` are dollars; ``InputError`` for anything else."""
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(usd)?\s*", str(text), re.IGNORECASE)
        if found and found[2]:
            return cls(usd=float(found[1]))
        if found and "." not in found[1]:
            return cls(calls=int(found[1]))
        raise InputError(
            f"{text!r} is no LLM budget", fix="write a number of calls such as 200, or dollars such as 2.50usd"
        )

    def __str__(self) -> str:
        return f"{self.usd:g} USD" if self.usd is not None else f"{self.calls:,} calls"

    def within(self, limits: BudgetSettings) -> BudgetSettings:
        """Limits that also hold this budget hard, whatever the forecast said; at its end the evidence reasoner goes on."""
        key, own = ("usd_per_run", self.usd) if self.usd is not None else ("calls_per_run", self.calls)
        least = min(one for one in (own, getattr(limits, key)) if one is not None)
        return limits.model_copy(update={key: least, "on_budget": "evidence"})

    def forecast(self, price: Price | None) -> Callable[[int], float]:
        """What so many rounds of one user usually cost, in calls or dollars.

        Raises:
            ProjectError: dollars, but the model's price is not known.
        """
        if self.usd is None:
            return lambda rounds: float(CALLS_PER_ROUND * rounds)
        if price is None:
            raise ProjectError(
                "a budget in dollars needs the model's price",
                where="[llm] input_usd_per_million, output_usd_per_million",
                fix="give the price per million tokens (0 for a local model), or a budget in calls",
            )
        call = price.cost(*TOKENS_PER_CALL)
        return lambda rounds: CALLS_PER_ROUND * rounds * call


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A budget as it was shared out, in plain values: other processes can be given it, and go on with the same run."""

    budget: LlmBudget
    allotment: str
    """what :func:`fingerprint` says of the budget and its users"""
    rounds: Mapping[str, int]
    """LLM rounds by user, for those who get any"""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """How a budget was shared out. ``asked`` of ``considered`` users get LLM calls."""

    budget: str
    considered: int
    asked: int
    rounds: int
    """LLM rounds of all of them together, at most"""
    least_worth: float | None
    """of the last user who gets calls; None where nobody does"""
    next_worth: float | None
    """of the first user who would have got calls, had the budget reached; None where it reached for all"""
    forecast: float
    """what the granted rounds are expected to cost, in the unit of the budget"""


def allocate(
    worths: Mapping[str, Worth], budget: LlmBudget, cost: Callable[[int], float]
) -> tuple[dict[str, int], Allocation]:
    """LLM rounds by user, for those who get any, and what to say of it."""
    limit = budget.usd if budget.usd is not None else float(budget.calls or 0)
    granted: dict[str, int] = {}
    spent, beyond = 0.0, None
    ranked = sorted((user for user in worths if worths[user].rounds), key=lambda user: (-worths[user].worth, user))
    for user in ranked:
        more = cost(worths[user].rounds)
        if spent + more > limit + 1e-9:
            beyond = user
            break
        spent += more
        granted[user] = worths[user].rounds
    last = next(reversed(granted), None)
    return granted, Allocation(
        budget=str(budget),
        considered=len(worths),
        asked=len(granted),
        rounds=sum(granted.values()),
        least_worth=worths[last].worth if last is not None else None,
        next_worth=worths[beyond].worth if beyond is not None else None,
        forecast=round(spent, 6),
    )


def fingerprint(budget: LlmBudget, users: Sequence[str]) -> str:
    """What tells one budgeted run from another: the budget, and among whom it is shared out."""
    return hashlib.sha256("\n".join([str(budget), *sorted(set(users))]).encode()).hexdigest()
