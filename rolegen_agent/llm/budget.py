"""Hard budgets. A request is reserved before it is sent and settled when its usage is known.

Reserving makes the limits hold for concurrent requests too: what is under way counts with its estimate. Every request
that leaves the process counts as a call, so retries count. A request without an answer gives back its tokens.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from threading import Lock
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from rolegen_errors import BudgetError

from .prices import Dollars

Count = Annotated[int, Field(ge=0)]


class Limits(BaseModel):
    """Budgets per decision and per run; None means no limit. Zero allows nothing but cached answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls_per_decision: Count | None = None
    tokens_per_decision: Count | None = None
    calls_per_run: Count | None = None
    tokens_per_run: Count | None = None
    usd_per_run: Dollars | None = None


@dataclass(frozen=True)
class Reservation:
    """Room taken for one request: its estimated tokens and dollars."""

    decision: str
    tokens: int
    usd: float


class Budget:
    """Counts what a run and each of its decisions have used, and refuses what would exceed a limit."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = Lock()
        self._calls = self._tokens = 0
        self._usd = 0.0
        self._calls_of: defaultdict[str, int] = defaultdict(int)
        self._tokens_of: defaultdict[str, int] = defaultdict(int)

    def reserve(self, decision: str, tokens: int, usd: float) -> Reservation:
        """Take room for one request of about ``tokens`` tokens and ``usd`` dollars.

        Raises:
            BudgetError: the request would exceed a limit; nothing is taken.
        """
        limits = self.limits
        with self._lock:
            for name, used, more, limit in (
                ("calls_per_decision", self._calls_of[decision], 1, limits.calls_per_decision),
                ("tokens_per_decision", self._tokens_of[decision], tokens, limits.tokens_per_decision),
                ("calls_per_run", self._calls, 1, limits.calls_per_run),
                ("tokens_per_run", self._tokens, tokens, limits.tokens_per_run),
                ("usd_per_run", self._usd, usd, limits.usd_per_run),
            ):
                if limit is not None and used + more > limit:
                    raise BudgetError(
                        f"the LLM budget {name} = {limit:g} is spent: {used:g} used, the next call needs about {more:g}",
                        where=f"decision {decision}",
                        fix=f"raise {name}, or let the evidence reasoner answer the rest",
                    )
            self._calls += 1
            self._calls_of[decision] += 1
            self._add(decision, tokens, usd)
        return Reservation(decision, tokens, usd)

    def settle(self, reservation: Reservation, tokens: int, usd: float) -> None:
        """Replace the estimate by what the request really used; 0 and 0 for one without an answer."""
        with self._lock:
            self._add(reservation.decision, tokens - reservation.tokens, usd - reservation.usd)

    def _add(self, decision: str, tokens: int, usd: float) -> None:
        self._tokens += tokens
        self._tokens_of[decision] += tokens
        self._usd += usd
