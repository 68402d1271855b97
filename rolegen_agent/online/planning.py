"""Who answers a request, and with what: pure functions of the day, of what is known of the user, and of the request."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from rolegen_errors import InputError
from rolegen_graphs.exploration import LONGER, drawn
from rolegen_graphs.guard import guarded
from rolegen_graphs.words import Slate, SlateItem

from ..backbone_tool import Asked
from ..memory import Standing
from ..report.text import bounded
from ..settings import ServeSettings, SlateSettings
from .day import Day, Seen
from .telling import seen_now
from .users import Known
from .words import Answer, Shown, SlateWanted, Source

LONGEST_WHY = 300


@dataclass(frozen=True)
class Batch:
    """Slates that are computed together with others of the same day, variant and size."""

    day: Day
    variant: str
    size: int
    asked: tuple[Asked, ...]

    @property
    def key(self) -> Hashable:
        """What others must share to be computed with these."""
        return self.day, self.variant, self.size


@dataclass(frozen=True)
class Plan:
    """How a request is answered: with ``slate``, or by what its ``batches`` find."""

    wanted: SlateWanted
    at: datetime
    day: Day
    known: Known
    standing: Standing | None
    """the decision that stands at ``at``"""
    seen: Seen
    size: int
    memory_away: bool
    barred: frozenset[str] = frozenset()
    """items that may not be shown: the request says so, or they were just bought"""
    source: Source = "popular"
    late: bool = False
    """the slate stands in for one that was not ranked in time"""
    slate: Slate | None = None
    key: Hashable = None
    """under which the slate is kept with what is known of the user; None where it is not"""
    batches: tuple[Batch, ...] = ()


def make_plan(
    wanted: SlateWanted,
    at: datetime,
    day: Day,
    known: Known,
    slates: SlateSettings,
    serving: ServeSettings,
    *,
    memory_away: bool,
) -> Plan:
    """The plan for a request at ``at``.

    A remembered slate stands as long as nothing new is known of the user and all of it can be shown. Else its candidates are
    ranked again. Who has no decision gets what the backbone says alone; of whom nothing at all is known, what sells.

    Raises:
        InputError: the request lies before what is served, or an event of it is not before it.
    """
    if at < day.at:
        raise InputError(
            f"the request is at {at.isoformat()}, and the log is served up to {day.at.isoformat()}",
            fix="ask for a time of today, or leave it out",
        )
    user, size = wanted.user, wanted.size or slates.size
    beside = seen_now(user, wanted.events, at)
    events = sorted([*(one for one in known.told or () if one.at < at), *beside], key=lambda one: one.at)
    rest = timedelta(days=serving.rest_days)
    bought = (one.item for one in events if one.behaviour == "order" and at - one.at < rest)
    barred = frozenset((*wanted.exclude, *bought))
    seen = day.seen(user, events)
    standing = known.standing
    if standing is not None and not standing.at <= at < standing.horizon_end:
        standing = None
    plan = Plan(wanted, at, day, known, standing, seen, size, memory_away, barred)
    moved = len(seen.told) > 0
    if standing is not None and not moved and not day.moved_since(user, standing.at):
        slate = _first(standing.slate, size)
        if len(slate.items) == size and all(day.can_show(one.item) and one.item not in barred for one in slate.items):
            return replace(plan, source="remembered", slate=slate)
    if not moved and not day.knows(user):
        return replace(plan, source="popular", slate=day.popular(size, barred))
    source: Source = "backbone" if standing is None else "reranked"
    decided = None if standing is None else standing.decision
    key = None if beside else (day.serial, size, barred, decided, len(seen.told))
    if key is not None and (kept := known.slates.get(key)) is not None:
        return replace(plan, source=source, slate=kept)
    return replace(plan, source=source, key=key, batches=_batches(plan, barred, explores=slates.explore > 0))


def instead(plan: Plan) -> Plan:
    """The plan for a request whose slate is not ranked in time: the remembered slate without what may not be shown, filled up
    with what sells."""
    day, size = plan.day, plan.size
    kept: list[SlateItem] = []
    if plan.standing is not None:
        kept = [one for one in plan.standing.slate.items if day.can_show(one.item) and one.item not in plan.barred][
            :size
        ]
    taken = plan.barred | {one.item for one in kept}
    items = [*kept, *day.popular(size - len(kept), taken).items]
    # A place that was left empty and closed up is not the one that was drawn: its probability is not known.
    whole = plan.standing is not None and kept == list(plan.standing.slate.items[:size])
    ranked = (
        one
        if whole and rank <= len(kept)
        else one.model_copy(update={"rank": rank, "propensity": None, "drawn_from": None})
        for rank, one in enumerate(items, start=1)
    )
    return replace(
        plan,
        source="remembered" if kept else "popular",
        late=True,
        slate=Slate(items=tuple(ranked)),
        key=None,
        batches=(),
    )


def settled(plan: Plan, found: Sequence[Sequence[Slate]], settings: SlateSettings) -> Slate:
    """The slate as the loop would settle it: guarded, and drawn by chance where the project explores.

    Args:
        found: the slates of each of the plan's batches.
    """
    if plan.slate is not None:
        return plan.slate
    if len(found[0]) == 1:
        slate = found[0][0]
    else:
        reasoned, alone = found[0]
        slate = guarded(reasoned, alone, settings.newcomers)
        if len(found) > 1 and plan.standing is not None:
            key = f"{plan.standing.decision} {plan.at.isoformat()}"
            slate = drawn(slate, alone, found[1][0], temperature=settings.explore, key=key)
    if plan.key is not None:
        plan.known.keep(plan.key, slate)
    return slate


def answer(plan: Plan, slate: Slate) -> Answer:
    """What the one who asked is told."""
    standing = plan.standing
    reasons = {one.path: one.why for one in standing.candidates} if standing is not None else {}
    return Answer(
        user=plan.wanted.user,
        at=plan.at,
        source=plan.source,
        decision=None if standing is None else standing.decision,
        decided_at=None if standing is None else standing.at,
        reasoner=None if standing is None else standing.reasoner,
        events_seen=0 if plan.late else len(plan.seen.told),
        events_unseen=plan.seen.unseen,
        model=plan.day.fingerprint,
        model_as_of=plan.day.as_of,
        late=plan.late,
        memory_away=plan.memory_away,
        items=[
            Shown(
                rank=one.rank,
                item=one.item,
                title=one.title,
                category=one.category,
                probability=None if plan.source == "popular" or one.score == 0 else round(one.score, 8),
                role=one.role,
                path=one.path,
                why="" if one.path is None else bounded(reasons.get(one.path, ""), LONGEST_WHY),
                propensity=one.propensity,
            )
            for one in slate.items
        ],
    )


def _batches(plan: Plan, barred: frozenset[str], *, explores: bool) -> tuple[Batch, ...]:
    """What is to be computed: slates with the candidates and without, and the longer one that places are drawn from."""
    day, standing = plan.day, plan.standing
    without = day.rows_of(barred)
    alone = Asked(told=plan.seen.told, without=without)
    if standing is None or not standing.candidates:
        return (Batch(day, "", plan.size, (alone,)),)
    reasoned = Asked(told=plan.seen.told, candidates=standing.candidates, labels=standing.labels, without=without)
    variant = day.variant(standing.reasoner)
    both = Batch(day, variant, plan.size, (reasoned, alone))
    return (both, Batch(day, variant, LONGER * plan.size, (alone,))) if explores else (both,)


def _first(slate: Slate, size: int) -> Slate:
    return slate if len(slate.items) <= size else slate.model_copy(update={"items": slate.items[:size]})
