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
Subject = Literal["role", "path", "category"]
Direction = Literal["lead", "avoid"]
LessonStatus = Literal["proposed", "active", "retired"]

ROLES: tuple[Role, ...] = get_args(Role)
STAGES: tuple[Stage, ...] = get_args(Stage)

Confidence = Annotated[float, Field(ge=0.0, le=1.0)]
FROM_SOURCE = "source "
"""how the ``kind`` of a path begins that a candidate source put forward; the source's name follows"""


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
    value: float | None = None
    """what the user spent before ``at``, net of refunds, over what the shop's median customer spent; None = unknown"""
    days_since_last: float
    dormant_because: str
    cohort: str
    folded: tuple[Fold, ...] = ()
    """what ``events`` leaves out, in time order"""


class Claim(Record):
    """What a lesson says in a form that outcomes can confirm or contradict: lead with something, or avoid it.

    A decision *led with* a role, a kind of path or a category if an item that reasoning put forward with it stands in its
    slate: the role of the path's intervention, the path's ``kind``, the item's category.
    """

    subject: Subject
    value: str
    """a role, a kind of path, or a category of the catalogue"""
    direction: Direction


class LessonEffect(Record):
    """What outcomes say of a claim: order rate of decisions that led with its value, minus that of the others in scope.

    Adjusted for what was known before the decision, and shrunk; an association, see ``rolegen_agent.lessons.statistics``.
    """

    change: float
    """difference of order rates, in [-1, 1]; negative speaks for avoiding"""
    low: float
    high: float
    """90 % interval of ``change``"""
    led: Annotated[int, Field(ge=0)]
    """decisions that led with the value"""
    others: Annotated[int, Field(ge=0)]
    rate_led: Confidence
    """share of ``led`` that was followed by an order, as counted"""
    rate_others: Confidence
    e_value: Annotated[float, Field(ge=0.0)]
    """evidence against "no effect", valid however often one looks; its mean is at most 1 where there is none"""


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
    """decisions known by ``learnt_at`` whose outcome is what the claim says: ordered where it was followed, not where not"""
    evidence_against: int = 0
    claim: Claim | None = None
    """None for a lesson that no statistic can judge"""
    status: LessonStatus = "active"
    """only active lessons reach decisions; proposed ones wait for outcomes"""
    origin: str = ""
    """who phrased it: ``evidence`` or ``llm:<model>``; empty where somebody recorded it by hand"""
    effect: LessonEffect | None = None


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
    lessons_withheld: bool = False
    """there were lessons, and this decision got none, so that outcomes can go on judging them"""
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


class RoleBelief(Record):
    """What the log says for one role of one event: a probability, and how many observations stand behind it."""

    probability: Confidence
    support: Annotated[int, Field(ge=0)]
    """observations of the log behind the statistic, and events of the user's own that speak for the role"""
    statistic: Statistic | None = None


class LabelParts(Record):
    """The two sides that a fused label was made of: what the LLM claimed, and what the log says for the same event."""

    llm_role: Role
    llm_confidence: Confidence
    log_role: Role | None
    """the likeliest role by the log; None where it says nothing about the event"""
    log_probability: Confidence
    """of ``log_role``; 0 without one"""
    log_for_llm_role: Confidence
    """what the log says for the role that the LLM claimed; 0 where it does not mention it"""
    support: Annotated[int, Field(ge=0)]
    """observations behind the log's side"""
    log_weight: Confidence
    """weight of the log in the pool; the LLM has the rest"""


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
    parts: LabelParts | None = None
    """both sides of a fused label; None where one reasoner answered alone"""


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
    kind: str | None = None
    """the mechanism by a fixed name, where the reasoner has such names; never prose of an LLM"""

    def specs(self) -> tuple[ItemSpec, ...]:
        """The intervention and the steps, in order; step 0 is the intervention."""
        return (self.intervention, *self.steps)

    @property
    def source(self) -> str | None:
        """The candidate source that put it forward; None where a reasoner imagined it."""
        return self.kind.removeprefix(FROM_SOURCE) if self.kind and self.kind.startswith(FROM_SOURCE) else None


class Article(Record):
    """An item as the catalogue has it. ``price`` is per unit, in the log's currency; None where it is not known."""

    item: str
    title: str
    category: str
    price: float | None = None


class Proposal(Record):
    """An item that a candidate source puts forward, and as what; it becomes a path of one step."""

    item: str
    role: Role = "target"
    score: Confidence = 0.5
    """how well the item fits by the source's own measure, scaled like a retrieval score"""
    why: str = ""


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


class PathChoice(Record):
    """Whether a path was used, and why: chosen for effect and diversity, or left out for a reason that is said."""

    path: int
    chosen: bool
    place: Annotated[int, Field(ge=1)] | None = None
    """1 for the path that was chosen first; None for one that was not chosen"""
    effect: Confidence | None = None
    """the lower end of the effect's interval, scaled to [0, 1] over the round's eligible paths; None for others"""
    likeness: Confidence | None = None
    """to the most similar path that was chosen before it, or in its stead"""
    reason: str


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
    propensity: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """probability that this place got this item, given those above it; None where nothing was drawn"""
    drawn_from: Annotated[int, Field(ge=1)] | None = None
    """rank in the list that the place was drawn from (:class:`Draw`), which is not ``rank``; None where nothing was drawn"""
    showing: float | None = None
    """change of P(net order) by showing the item to this user, from logged exposures; None where nothing is known of it"""


class Draw(Record):
    """From what a sampled slate was drawn, and how: all that its probabilities depend on; see ``rolegen_graphs.exploration``."""

    temperature: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    items: tuple[str, ...]
    """ids in the order in which they would stand without chance, longer than the slate"""
    late: tuple[str, ...] = ()
    """of these, what only reasoning brought in: for the lower half alone"""


class Slate(Record):
    """The ranked answer with the backbone's entropy (nats) over its next item."""

    items: tuple[SlateItem, ...]
    entropy: float = 0.0
    draw: Draw | None = None
    """None where the slate was not sampled"""


class Signal(Record):
    """One finding of ``feedback``: what is known about this round before any outcome."""

    kind: Literal["ungrounded", "mapped", "negative_effect", "disagreement", "collapse", "cost"]
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
    choices: tuple[PathChoice, ...] = ()
    """one for each path, in the order of ``paths``; empty in decisions from before paths were selected"""
    slate: Slate
    signals: tuple[Signal, ...]
    reflection: Reflection
    answers: tuple[Answer, ...]


class Worth(Record):
    """How much an LLM's thinking may matter for a user, as the uncertainty gate sees it; see ``rolegen_graphs.gate``."""

    uncertainty: Confidence
    """of the recommender: entropy of its slate without reasoning"""
    thinness: Confidence
    """of the evidence: how little the log says about the events of the trajectory"""
    value: Confidence
    """of the user, beside other customers of the shop; 0.5 where it is not known"""
    worth: Confidence
    """the three together"""
    rounds: Annotated[int, Field(ge=0)]
    """rounds in which the LLM may be asked; 0: the fallback answers"""
    why: str


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
    worth: Worth | None = None
    """why an LLM was asked, or was not; None where there is none to ask"""


class CallSite(Record):
    """Where in the loop an LLM call is made; with the request's hash it is the natural key of the call."""

    decision: str
    round: int
    node: Literal["reason", "simulate", "ground", "reflect", "learn"]
    """``learn`` is the outer loop's question, which belongs to no single decision"""


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
    """What the user did within the horizon of a decision, as far as was known at ``known_at``."""

    decision: str
    user: str
    ordered_at: datetime | None
    """time of the first net order within the horizon; None when there was none"""
    items: tuple[str, ...] = ()
    """distinct items of that order that were not refunded"""
    value: float = 0.0
    """what was paid for them, in the log's currency"""
    final: bool = True
    """False while the horizon is still open: "not ordered" is then not yet a fact"""
    known_at: datetime | None = None
    """up to when the reporter knew what happened; what knows less never replaces what knows more. None: not said"""
    refunded_at: datetime | None = None
    """when an order that had counted was given back whole; None where none was"""
    engaged: tuple[str, ...] | None = None
    """distinct items looked at, put into the cart or ordered from the decision to the order; None where nobody watched"""


class Attribution(Record):
    """What one path step had to do with an order: its part of it. The parts of an order add up to one."""

    decision: str
    path: int | None
    """None: not due to a step, the user might have ordered without"""
    step: int | None
    item: str | None
    credit: float
    """part of the order; below 0 for a step that made it less likely"""
    effect: float
    """Shapley value of the step: change of the probability of an order; without a step that probability itself"""
