"""What a run has used so far: as budgets count it, and as a report tells it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spending:
    """What budgets count: requests that left the process (retries included), tokens in and out, US dollars."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, more: Spending) -> Spending:
        return Spending(self.calls + more.calls, self.tokens + more.tokens, self.usd + more.usd)


@dataclass(frozen=True, kw_only=True)
class RunUsage:
    """Totals of one client. ``requests`` left the process; a cached answer is none and costs nothing."""

    answered: int = 0
    """requests that brought an answer"""
    failed: int = 0
    """questions that got no answer, retries included"""
    cached: int = 0
    """answers taken from memory"""
    requests: int = 0
    """HTTP requests, retries included"""
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: int = 0
    """answers whose endpoint reported no usage, so that their tokens are estimates"""
    cost_usd: float | None = None
    """None when the model's price is not known"""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens
