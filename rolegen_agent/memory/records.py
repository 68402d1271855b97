"""What the loop memory returns besides the words of the loop: light summaries for lists, totals and artefacts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rolegen_graphs.words import Record


class DecisionSummary(Record):
    """One line of a list of decisions."""

    decision: str
    run: str
    user: str
    at: datetime
    horizon_end: datetime
    reasoner: str
    recorded_at: datetime


class RunSummary(Record):
    """What memory holds of one run; ``begun`` counts decisions that were started and are not recorded."""

    run: str
    decisions: int
    begun: int
    users: int
    outcomes: int
    ordered: int
    first_at: datetime | None
    last_at: datetime | None


class Usage(Record):
    """Totals over LLM calls. ``cached`` calls left no process and cost nothing; ``cost_usd`` is the sum of the known
    costs, and ``unpriced`` counts the paid calls whose cost is unknown. ``outstanding`` calls stand in a nearline batch and
    are in no other sum."""

    calls: int = 0
    cached: int = 0
    failed: int = 0
    outstanding: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0


class Artefact(Record):
    """A file made from the log before ``as_of``; (kind, as_of, fingerprint) is its natural key."""

    kind: str
    as_of: datetime
    fingerprint: str
    path: str
    manifest: dict[str, Any]
    created: datetime


class PromptText(Record):
    """One prompt as it was used; (name, version, hash) is its natural key."""

    name: str
    version: str
    hash: str
    text: str
