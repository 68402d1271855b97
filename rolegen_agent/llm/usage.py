"""What a run has used so far."""

from __future__ import annotations

from dataclasses import dataclass


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
