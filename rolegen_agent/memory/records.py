"""What the loop memory returns besides the words of the loop: light summaries for lists, totals and artefacts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple

from rolegen_graphs.words import Behaviour, Candidate, Outcome, Path, Record, Role, RoleLabel, Slate

OUTSTANDING = "outstanding: written to a nearline batch, no answer read yet"
"""``error`` of a call that was exported and is not answered; its tokens and cost are estimates"""


class DecisionSummary(Record):
    """One line of a list of decisions."""

    decision: str
    run: str
    user: str
    at: datetime
    horizon_end: datetime
    reasoner: str
    recorded_at: datetime
    trace_id: str | None = None
    """of the OpenTelemetry trace that it was made in, 32 hexadecimal digits; None where nothing was traced"""


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


class Span(Record):
    """A decision's key, time and horizon [``at``, ``horizon_end``)."""

    decision: str
    run: str
    user: str
    at: datetime
    horizon_end: datetime


class DeadLetter(Record):
    """A report that could not be recorded: where it came from, why not, and what it said, as far as it may be kept."""

    letter: str
    source: str
    row: int
    """number in its source, from 1"""
    reason: str
    payload: str
    """JSON of its known fields; empty where it could not be read"""
    complete: bool
    """nothing was cut or left out, so that it can be tried again"""
    user: str | None
    decision: str | None
    """as reported"""
    tries: int = 1


class Promotion(Record):
    """What became of one update of the artefacts; (at, from_fingerprint, wanted) is its natural key."""

    at: datetime
    from_fingerprint: str
    wanted: str
    """digest of the log, outcomes and settings that the update was made from"""
    to_fingerprint: str
    """of the artefacts that serve after it: those it began from where it was rolled back"""
    verdict: Literal["promoted", "rolled_back"]
    reason: str
    held_from: datetime
    """what happened from then on was held back, and tested on"""
    figures: dict[str, Any]


class Experience(Record):
    """One decision of which it is known what came: its candidates and labels of the last round, and the outcome."""

    decision: str
    run: str
    user: str
    at: datetime
    reasoner: str
    candidates: tuple[Candidate, ...]
    """grounded ones of the paths that were used, in their order"""
    labels: tuple[RoleLabel, ...]
    outcome: Outcome


class ToldEvent(Record):
    """One event that a shop told a running server, ahead of the log."""

    told: str
    """natural key, see :func:`rolegen_agent.memory.told.told_key`"""
    user: str
    at: datetime
    item: str
    behaviour: Behaviour
    quantity: float = 1.0
    price: float | None = None
    session: str | None = None
    event_id: str | None = None
    """the shop's own id of the event"""


class StandingCandidate(NamedTuple):
    """A candidate of a standing decision: what a recommender needs of it, and why it is there."""

    item: str
    role: Role
    path: int
    score: float
    why: str
    """of its path"""


class StandingLabel(NamedTuple):
    """The role that a standing decision gave to an event."""

    event: int
    role: Role
    confidence: float


class Standing(NamedTuple):
    """What remains of a decision while it stands: enough to show its slate, and to rank it again."""

    decision: str
    run: str
    user: str
    at: datetime
    horizon_end: datetime
    reasoner: str
    slate: Slate
    candidates: tuple[StandingCandidate, ...]
    """grounded ones of the paths that were used in the last round, in their order"""
    labels: tuple[StandingLabel, ...]
    """of the last round"""


class Reasoned(Record):
    """What one reasoner said in the last round of one decision, for a student to learn."""

    decision: str
    run: str
    user: str
    at: datetime
    labels: tuple[RoleLabel, ...] | None
    """None where somebody else labelled"""
    paths: tuple[Path, ...] | None
    """None where somebody else proposed"""
    candidates: tuple[Candidate, ...]
    """what became of the specs of all paths"""
    chosen: tuple[int, ...]
    """numbers of the paths that were used"""
