"""What a server is asked and what it answers: the schema of ``rolegen serve``, and of :class:`~.engine.Online`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from rolegen_graphs.words import Behaviour, Role

Source = Literal["remembered", "reranked", "backbone", "popular"]
"""where a slate comes from: the memory as it stands; its candidates ranked again for what happened since; the backbone
without any reasoning, for who has no decision; what sells, for who is unknown"""
Id = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""of a user, an item, a session or an event, as the shop's log has it"""
MOST_EVENTS = 1_000
"""of one request that tells events"""
MOST_BESIDE = 100
"""events and excluded items of one request for a slate"""
MOST_SHOWN = 100


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EventSeen(_Closed):
    """Something that a user did just now."""

    item: Id
    behaviour: Behaviour
    time: AwareDatetime | None = Field(None, description="with its zone; left out: just before the request")
    quantity: float = Field(1.0, gt=0, le=1e9, allow_inf_nan=False)
    price: float | None = Field(None, ge=0, le=1e12, allow_inf_nan=False, description="per unit")
    session: Id | None = None


class EventTold(EventSeen):
    """Something that a user did, to be kept."""

    user: Id
    time: AwareDatetime = Field(description="with its zone, such as 2026-05-04T10:00:00+02:00")
    id: Id | None = Field(None, description="the shop's own id of the event; one that is told twice counts once")


class EventsTold(_Closed):
    """Events to be kept. Each row is looked at by itself: a bad one keeps no other from being recorded."""

    events: Annotated[
        list[Any],
        Field(max_length=MOST_EVENTS),
        WithJsonSchema({"type": "array", "maxItems": MOST_EVENTS, "items": {"$ref": "#/components/schemas/EventTold"}}),
    ]


class Refused(BaseModel):
    """A row that was not recorded."""

    row: int = Field(description="from 0")
    why: str


class EventsReport(BaseModel):
    """What became of told events; ``rows = recorded + known + refused``."""

    rows: int
    recorded: int
    known: int = Field(description="told before: nothing changed")
    refused: int
    late: int = Field(description="of those recorded or known: the log reaches beyond them, so they serve no slate")
    ahead: int = Field(description="of those recorded or known: later than the server's clock; they serve from then on")
    unknown_items: list[str] = Field(
        description="that the catalogue does not know (yet), at most 20; kept, but not understood"
    )
    refusals: list[Refused] = Field(description="at most 20")


class SlateWanted(_Closed):
    """A request for one user's slate."""

    user: Id
    events: list[EventSeen] = Field(
        default_factory=list, max_length=MOST_BESIDE, description="seen for this answer only; POST /events keeps them"
    )
    exclude: list[Id] = Field(default_factory=list, max_length=MOST_BESIDE, description="items not to be shown")
    size: int | None = Field(None, ge=1, le=MOST_SHOWN, description="default: [slate] size")
    at: AwareDatetime | None = Field(None, description="time of the request; default: now")
    shown: bool = Field(
        False, description="the answer will be shown: keep it beside its decision as the slate of policy `served`"
    )


class Shown(BaseModel):
    """One item of a slate."""

    rank: int
    item: str
    title: str
    category: str
    probability: float | None = Field(description="that it is ordered next, by the model; null for popular items")
    role: Role | None = Field(description="that it is to play, if reasoning brought it in")
    path: int | None = Field(description="number of the imagined path that it comes from")
    why: str = Field("", description="of that path, as its reasoner put it: text from outside")
    propensity: float | None = Field(None, description="of its place, where slates are drawn ([slate] explore)")


class Answer(BaseModel):
    """A user's slate, and where it comes from."""

    user: str
    at: datetime = Field(description="time of the request: nothing from then on was seen")
    source: Source
    decision: str | None = Field(description="id of the remembered decision, for `rolegen explain` and feedback")
    decided_at: datetime | None
    reasoner: str | None = Field(description="who reasoned then; nobody reasons in a request")
    events_seen: int = Field(description="told events that the ranking has seen; what the log holds is not counted")
    events_unseen: int = Field(
        description="told events that it cannot see: of items that the catalogue or behaviours that the model does not know"
    )
    model: str = Field(description="fingerprint of the artefacts")
    model_as_of: datetime = Field(description="what they have learnt from lies before")
    late: bool = Field(
        False,
        description="it was to be ranked, and was not within [serve] patience_ms: what is remembered, or sells, stands instead",
    )
    memory_away: bool = Field(False, description="the memory did not answer: decision and told events may be missing")
    items: list[Shown]


class Health(BaseModel):
    """Whether a server can answer, and what it serves."""

    status: Literal["ok", "degraded"]
    day: datetime = Field(description="up to which the log was read")
    clock: datetime
    model: str
    model_as_of: datetime
    users: int = Field(description="held in RAM")
    waiting: int = Field(description="requests under way")
    p50_ms: float | None = Field(description="of the latest requests")
    p99_ms: float | None
    unknown_items: dict[str, int] = Field(description="told most often, and not in the catalogue: time to ingest?")
    faults: list[str] = Field(description="what does not work now")
