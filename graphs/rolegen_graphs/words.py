"""The words of the loop: what flows between its nodes, as small frozen records of plain values.

Every record is a pydantic model so that it survives a checkpoint, validates what an LLM answered and serialises to
JSON for the trace. None holds a tensor, a connection or an item that was not read from the catalogue.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Behaviour = Literal["expose", "view", "cart", "order", "refund"]
Role = Literal[
    "trigger",  # starts a need where none was active
    "bridge",  # moves intent from one category to another
    "anchor",  # sets the reference price or quality, itself not bought
    "comparison",  # one of the consideration set
    "complement",  # bought in addition to
    "gateway",  # low-risk first order that opens repeat buying
    "replenishment",  # habitual rebuy
    "target",  # satisfies the intent
    "incidental",  # no instrumental effect
    "unresolved",  # the evidence does not decide
]
Stage = Literal["none", "browsing", "comparing", "deciding", "satisfied"]
Fate = Literal["accepted", "mapped", "rejected"]
CorrectionKind = Literal["wrong_role", "wrong_category", "wrong_price", "too_early", "ungrounded", "collapsed"]
Operation = Literal["insert", "replace", "remove"]

ROLES: tuple[Role, ...] = get_args(Role)
STAGES: tuple[Stage, ...] = get_args(Stage)

Confidence = Annotated[float, Field(ge=0.0, le=1.0)]


class Record(BaseModel):
    """Base of all words: frozen, and closed against unknown fields."""

    # Infinite bounds are honest ("nothing is known") and must survive JSON.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Event(Record):
    """One row of the log that the decision may see. ``event`` is the row id in the ingested log."""

    event: int
    at: datetime
    item: str
    title: str
    category: str
    behaviour: Behaviour
    quantity: float
    price: float | None = None
    session: str | None = None
    """the log's own session or invoice; None where it has none, and then a day counts as one visit"""


class Fold(Record):
    """Neighbouring events that a trajectory does not list, counted by behaviour and category."""

    first: datetime
    last: datetime
    visits: int
    """sessions, or days where the log has no sessions"""
    counts: tuple[tuple[Behaviour, str, int], ...]
    """(behaviour, category, events), the most frequent first"""

    @property
    def events(self) -> int:
        """How many events are folded here."""
        return sum(number for _, _, number in self.counts)


class Trajectory(Record):
    """A user's events strictly before ``at``, in time order; of a long history the most telling, and the rest folded."""

    user: str
    at: datetime
    events: tuple[Event, ...]
    total_events: int
    """events in the log before ``at``, including those not listed in ``events``"""
    orders: int
    """distinct order days before ``at``"""
    days_since_last: float
    dormant_because: str
    cohort: str
    folded: tuple[Fold, ...] = ()
    """what ``events`` leaves out, in time order"""


class Lesson(Record):
    """A rule learnt by reflection from earlier outcomes; ``learnt_at`` is before any decision that it serves."""

    lesson: str
    """stable id"""
    scope: Literal["user", "cohort", "all"]
    scope_key: str
    text: str
    learnt_at: datetime
    expires_at: datetime | None = None
    evidence_for: int = 0
    evidence_against: int = 0


class PastDecision(Record):
    """What an earlier decision for the same user showed, and what came of it before the present decision."""

    decision: str
    at: datetime
    items: tuple[str, ...]
    ordered: bool | None
    """None while the horizon of the earlier decision is still open"""


class Observation(Record):
    """All that ``observe`` hands to the reasoners."""

    trajectory: Trajectory
    lessons: tuple[Lesson, ...] = ()
    past: tuple[PastDecision, ...] = ()


class Intent(Record):
    """Which need is active, in which category, and how far it has come."""

    stage: Stage
    category: str | None = None
    need: str = ""


class Statistic(Record):
    """What the log says for a role: ``value`` with a shrunk interval [``low``, ``high``] from ``support`` observations.

    ``neutral`` is the value that means "no effect" (1 for a lift, 0 for a difference). ``kind`` says whether it is a
    doubly robust effect (``dr``) or an ``association``.
    """

    name: str
    value: float
    low: float
    high: float
    support: int
    neutral: float = 0.0
    kind: Literal["association", "dr"] = "association"


class RoleLabel(Record):
    """The functional role that one event played for this user, given the intent at that moment."""

    event: int
    item: str
    role: Role
    confidence: Confidence
    evidence: tuple[int, ...] = ()
    """ids of events that support the label; none lies after ``event``"""
    intent_before: Intent
    intent_after: Intent
    statistic: Statistic | None = None
    """what the log's evidence says for this role and item, if anything"""
    why: str = ""


class Reading(Record):
    """The answer of ``reason``: roles of the events that matter, and the intent now."""

    labels: tuple[RoleLabel, ...]
    intent: Intent


class ItemSpec(Record):
    """A wish for an item: it names no item id. Prices are in the log's currency, per unit."""

    role: Role
    category: str | None = None
    price_low: float | None = None
    price_high: float | None = None
    text: str = ""


class Path(Record):
    """A counterfactual continuation: one intervention now, then at most three steps; the last one is the target."""

    path: int
    operation: Operation
    intervention: ItemSpec
    replaces: int | None = None
    """event id that the intervention replaces or removes; None for an insertion"""
    steps: Annotated[tuple[ItemSpec, ...], Field(max_length=3)] = ()
    why: str = ""

    def specs(self) -> tuple[ItemSpec, ...]:
        """The intervention and the steps, in order; step 0 is the intervention."""
        return (self.intervention, *self.steps)


class Candidate(Record):
    """What became of one spec: ``item`` is a real catalogue item, or None when the spec was rejected."""

    path: int
    step: int
    role: Role
    spec: ItemSpec
    fate: Fate
    reason: str
    item: str | None = None
    title: str = ""
    score: float = 0.0
    """retrieval score in [0, 1]"""
    revised: bool = False
    """the spec was revised once after a rejection"""


class Effect(Record):
    """Estimated change of conversion within the horizon if ``path`` is taken, from the backbone, never from prose."""

    path: int
    probability_without: float
    probability_with: float
    change: float
    low: float
    high: float


class SlateItem(Record):
    """One shown item. ``parts`` holds the additive or mixed parts of ``score`` by name; ``role``/``path`` its reason."""

    rank: int
    item: str
    title: str
    category: str = ""
    score: float
    parts: dict[str, float] = Field(default_factory=dict)
    role: Role | None = None
    path: int | None = None


class Slate(Record):
    """The ranked answer with the backbone's entropy (nats) over its next item."""

    items: tuple[SlateItem, ...]
    entropy: float = 0.0


class Signal(Record):
    """One finding of ``feedback``: what is known about this round before any outcome."""

    kind: Literal["ungrounded", "negative_effect", "disagreement", "collapse", "cost"]
    detail: str
    path: int | None = None
    step: int | None = None
    event: int | None = None
    value: float = 0.0


class Correction(Record):
    """What the next round must do differently, typed."""

    kind: CorrectionKind
    detail: str
    path: int | None = None
    event: int | None = None


class Reflection(Record):
    """The answer of ``reflect``. ``lessons`` are proposals; the outer loop decides with outcomes what becomes of them."""

    corrections: tuple[Correction, ...] = ()
    lessons: tuple[str, ...] = ()


class Answer(Record):
    """Which reasoner answered one node, and why it was this one."""

    node: Literal["reason", "simulate", "ground", "reflect"]
    reasoner: str
    why: str = ""


class Round(Record):
    """One pass of the inner loop, complete enough to be shown without running anything again."""

    number: int
    reading: Reading
    paths: tuple[Path, ...]
    candidates: tuple[Candidate, ...]
    effects: tuple[Effect, ...]
    slate: Slate
    signals: tuple[Signal, ...]
    reflection: Reflection
    answers: tuple[Answer, ...]


class Decision(Record):
    """One user at one decision time: the unit that memory stores and a trace shows.

    ``run`` names the configuration and artefacts; (run, user, at) is the natural key and ``decision`` its digest.
    """

    decision: str
    run: str
    user: str
    at: datetime
    observation: Observation
    rounds: tuple[Round, ...]
    slate: Slate
    slate_without_reasoning: Slate
    reasoner: str
    """who answered: ``evidence``, ``llm:<model>``, or ``mixed`` when a fallback happened"""


class CallSite(Record):
    """Where in the loop an LLM call is made; with the request's hash it is the natural key of the call."""

    decision: str
    round: int
    node: Literal["reason", "simulate", "ground", "reflect"]


class LlmCall(Record):
    """One answered or failed request to a chat model. No secret and no header is ever part of it."""

    site: CallSite
    request_hash: str
    """sha256 over model, parameters and messages: equal requests have equal hashes"""
    prompt: str
    prompt_version: str
    prompt_hash: str
    model: str
    messages: str
    """the rendered messages as JSON"""
    raw: str
    """the raw text of the answer; empty when the request failed"""
    error: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    """None when the model's price is not known"""
    latency_s: float = 0.0
    retries: int = 0
    cached: bool = False
    """answered from memory: no request left the process and nothing was paid"""
    at: datetime


class Outcome(Record):
    """What the user did within the horizon of a decision."""

    decision: str
    user: str
    ordered_at: datetime | None
    """time of the first net order within the horizon; None when there was none"""
    items: tuple[str, ...] = ()
    """distinct items of that order that were not refunded"""
    value: float = 0.0
    final: bool = True
    """False while the horizon is still open: "not ordered" is then not yet a fact"""
