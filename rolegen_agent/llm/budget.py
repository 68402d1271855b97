"""Hard budgets. A request is reserved before it is sent and settled when its usage is known.

Reserving makes the limits hold for concurrent requests too: what is under way counts with its estimate. Every request
that leaves the process counts as a call, so retries count. A request without an answer gives back its tokens; one whose
process was killed keeps its estimate, since the endpoint may have billed it. Only an answer longer than what was
reserved for it can go past a limit in tokens or dollars, and only by the difference: ``max_output_tokens`` forbids it.
(So can a prompt with more tokens than ``estimate_tokens`` says, which is on the safe side.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from rolegen_errors import BudgetError, RunBudgetError

from .prices import Dollars
from .usage import Spending

Count = Annotated[int, Field(ge=0)]


class Limits(BaseModel):
    """Budgets per decision and per run; None means no limit. Zero allows nothing but cached answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls_per_decision: Count | None = None
    tokens_per_decision: Count | None = None
    usd_per_decision: Dollars | None = None
    calls_per_run: Count | None = None
    tokens_per_run: Count | None = None
    usd_per_run: Dollars | None = None

    @property
    def in_dollars(self) -> bool:
        """Whether a price is needed to keep them."""
        return self.usd_per_decision is not None or self.usd_per_run is not None


Admit = Callable[[Spending, Spending], None]
"""raises where the sums of a decision and of its run are too large"""


class Ledger(Protocol):
    """Sums of what one run and its decisions have used, shared by all who work on the run."""

    def add(
        self,
        decision: str,
        more: Spending,
        admit: Admit | None = None,
    ) -> None:
        """Add to decision and run as one step. ``admit`` gets both sums with ``more`` in them; what it raises undoes it."""
        ...

    def total(self) -> Spending:
        """What the run has used, requests under way included."""
        ...


class ProcessLedger:
    """A ledger that lives and ends with this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._run = Spending()
        self._of: defaultdict[str, Spending] = defaultdict(Spending)

    def add(
        self,
        decision: str,
        more: Spending,
        admit: Admit | None = None,
    ) -> None:
        with self._lock:
            of_decision, of_run = self._of[decision] + more, self._run + more
            if admit is not None:
                admit(of_decision, of_run)
            self._of[decision], self._run = of_decision, of_run

    def total(self) -> Spending:
        with self._lock:
            return self._run


@dataclass(frozen=True)
class Reservation:
    """Room taken for one request: its estimated tokens and dollars."""

    decision: str
    tokens: int
    usd: float


class Budget:
    """Refuses what would take a run, or one of its decisions, past a limit."""

    def __init__(self, limits: Limits, ledger: Ledger | None = None) -> None:
        self.limits = limits
        self._limited = any(limit is not None for limit in limits.model_dump().values())
        self.ledger: Ledger = ledger or ProcessLedger()

    def reserve(self, decision: str, tokens: int, usd: float) -> Reservation:
        """Take room for one request of about ``tokens`` tokens and ``usd`` dollars.

        Raises:
            RunBudgetError: the request would exceed a limit of the run; nothing is taken.
            BudgetError: the same for a limit of the decision.
        """
        more = Spending(1, tokens, usd)

        def admit(of_decision: Spending, of_run: Spending) -> None:
            for unit in ("calls", "tokens", "usd"):
                self._check(f"{unit}_per_run", getattr(of_run, unit), getattr(more, unit), RunBudgetError, decision)
            for unit in ("calls", "tokens", "usd"):
                self._check(
                    f"{unit}_per_decision", getattr(of_decision, unit), getattr(more, unit), BudgetError, decision
                )

        self.ledger.add(decision, more, admit if self._limited else None)
        return Reservation(decision, tokens, usd)

    def settle(self, reservation: Reservation, tokens: int, usd: float) -> None:
        """Replace the estimate by what the request really used; 0 and 0 for one without an answer."""
        self.ledger.add(reservation.decision, Spending(0, tokens - reservation.tokens, usd - reservation.usd))

    def _check(self, name: str, total: float, more: float, error: type[BudgetError], decision: str) -> None:
        limit = getattr(self.limits, name)
        if limit is not None and total > limit:
            raise error(
                f"the LLM budget {name} = {_number(limit)} is spent: {_number(total - more)} used,"
                f" the next call needs about {_number(more)}",
                where=f"decision {decision}",
                fix=f"raise {name}, or let the evidence reasoner answer the rest",
            )


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
