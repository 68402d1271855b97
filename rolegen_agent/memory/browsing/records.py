"""What pages read from the memory, as plain records."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from rolegen_graphs.words import Lesson, Record, Role

OutcomeWord = Literal["ordered", "refunded", "not_ordered", "open", "unknown"]


class Spent(Record):
    """What LLM calls used; ``cached`` ones cost nothing, ``unpriced`` are paid ones whose cost is unknown."""

    calls: int = 0
    cached: int = 0
    failed: int = 0
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    seconds: float = 0.0
    """latency of the calls that left the process, added up"""


class Digest(Spent):
    """One line of a list of decisions."""

    decision: str
    run: str
    user: str
    at: datetime
    recorded_at: datetime
    cohort: str
    reasoner: str
    stage: str
    category: str | None
    roles: tuple[str, ...]
    prompts: tuple[str, ...]
    """``name@version``"""
    top: str
    """title of the first item of the slate"""
    rounds: int
    shown: int
    fresh: int
    """items of the slate that only reasoning brought in"""
    accepted: int
    mapped: int
    rejected: int
    collapsed: bool
    outcome: OutcomeWord
    value: float


class Filters(Record):
    """Which decisions are wanted; None and empty mean any."""

    run: str | None = None
    user: str | None = None
    cohort: str | None = None
    role: Role | None = None
    reasoner: str | None = None
    prompt: str | None = None
    """``name@version``"""
    outcome: OutcomeWord | None = None
    collapsed: bool | None = None
    lesson: str | None = None
    """shown to the decision, in any version"""
    since: datetime | None = None
    """decision times from then on"""
    until: datetime | None = None
    """decision times strictly before"""
    text: str = ""
    """in titles of the slate, the need or the category; or the beginning of a decision's id"""

    def wanted(self) -> dict[str, object]:
        """Those that are set, by name."""
        return {name: value for name, value in self if value not in (None, "")}


class DigestPage(Record):
    """One page of a list. ``next``: where the next one begins; None at the end."""

    lines: tuple[Digest, ...]
    next: str | None
    looked_at: int | None = None
    """the search stopped after so many decisions, and ``next`` goes on from there; None where it did not stop early"""


class Figures(Spent):
    """Sums over decisions of one day and reasoner."""

    day: datetime
    reasoner: str
    decisions: int
    known: int
    """those of which it is known whether the user ordered"""
    awakened: int
    collapsed: int
    value: float


class PromptUse(Spent):
    """Sums over the calls of one prompt as it was used; of recorded decisions."""

    prompt: str
    prompt_version: str
    prompt_hash: str
    decisions: int
    known: int
    awakened: int
    first_day: datetime
    last_day: datetime


class Pair(Record):
    """Two decisions on one user at one time by two runs."""

    first: Digest
    second: Digest


class LessonEvidence(Record):
    """What one decision's outcome said of a lesson, as the version learnt at ``noted_at`` noted it."""

    lesson: Lesson
    decision: str
    noted_at: datetime
    led: bool
    ordered: bool
    supports: bool
