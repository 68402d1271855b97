"""The loop's ports in memory, a few lines each: what somebody who brings parts of their own has to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rolegen_errors import InputError, ReasonerError
from rolegen_graphs import LoopSettings, Parts
from rolegen_graphs.ports import NO_CHANGES
from rolegen_graphs.words import (
    CallSite,
    Candidate,
    Correction,
    Decision,
    Effect,
    Event,
    Intent,
    ItemSpec,
    Observation,
    Path,
    Reading,
    Reflection,
    RoleLabel,
    Signal,
    Slate,
    SlateItem,
    Trajectory,
)

AT = datetime(2011, 9, 1, tzinfo=UTC)
SHELF = {"lamp": "Light", "bulb": "Light", "cup": "Kitchen", "plate": "Kitchen", "seed": "Garden"}
"""item -> category of everything this shop sells"""
BROWSING = Intent(stage="browsing", category="Light", need="a lamp")
Log = list[tuple[str, ...]]


@dataclass
class ListedUsers:
    """An ``Observer`` over a list of names."""

    users: Sequence[str] = ("ann",)

    def observe(self, user: str, at: datetime) -> Observation:
        if user not in self.users:
            raise InputError(f"user {user!r} is not in the log")
        event = Event(
            event=7,
            at=at - timedelta(days=120),
            item="lamp",
            title="Lamp",
            category="Light",
            behaviour="order",
            quantity=1,
        )
        trajectory = Trajectory(
            user=user,
            at=at,
            events=(event,),
            total_events=1,
            orders=1,
            days_since_last=120,
            dormant_because="silent",
            cohort="all",
        )
        return Observation(trajectory=trajectory)


@dataclass
class Thinker:
    """A ``Reasoner`` with fixed answers; ``log`` keeps what it was asked, ``fails`` the questions it cannot answer."""

    name: str = "llm:thinker"
    wishes: Sequence[ItemSpec] = (ItemSpec(role="complement", text="bulb"), ItemSpec(role="trigger", text="cup"))
    reflection: Reflection = field(default_factory=Reflection)
    revised: Callable[[Candidate], ItemSpec | None] = lambda candidate: None
    paths: Sequence[Path] | None = None
    fails: frozenset[str] = frozenset()
    log: Log = field(default_factory=list)

    def _asked(self, what: str, site: CallSite, *more: str) -> None:
        self.log.append((self.name, what, str(site.round), *more))
        assert site.node == ("ground" if what == "revise" else what)
        if what in self.fails:
            raise ReasonerError(f"no idea how to {what}")

    def reason(self, seen: Observation, corrections: Sequence[Correction], *, site: CallSite) -> Reading:
        self._asked("reason", site, *(c.kind for c in corrections))
        event = seen.trajectory.events[0]
        label = RoleLabel(
            event=event.event,
            item=event.item,
            role="gateway",
            confidence=0.5,
            intent_before=Intent(stage="none"),
            intent_after=BROWSING,
        )
        return Reading(labels=(label,), intent=BROWSING)

    def simulate(
        self, seen: Observation, reading: Reading, corrections: Sequence[Correction], *, site: CallSite
    ) -> tuple[Path, ...]:
        self._asked("simulate", site)
        if self.paths is not None:
            return tuple(self.paths)
        return tuple(Path(path=n, operation="insert", intervention=wish) for n, wish in enumerate(self.wishes))

    def revise(
        self, seen: Observation, rejected: Sequence[Candidate], *, site: CallSite
    ) -> tuple[ItemSpec | None, ...]:
        self._asked("revise", site)
        return tuple(self.revised(candidate) for candidate in rejected)

    def reflect(
        self,
        seen: Observation,
        reading: Reading,
        paths: Sequence[Path],
        candidates: Sequence[Candidate],
        effects: Sequence[Effect],
        signals: Sequence[Signal],
        *,
        site: CallSite,
    ) -> Reflection:
        self._asked("reflect", site, *(s.kind for s in signals))
        return self.reflection


@dataclass
class Shelf:
    """A ``Catalogue`` that knows items by their name."""

    log: Log = field(default_factory=list)

    def ground(self, specs: Sequence[tuple[int, int, ItemSpec]], seen: Observation) -> tuple[Candidate, ...]:
        self.log.append(("shelf", "ground", *(spec.text for _, _, spec in specs)))
        return tuple(
            Candidate(
                path=path,
                step=step,
                role=spec.role,
                spec=spec,
                fate="accepted" if spec.text in SHELF else "rejected",
                reason="on the shelf" if spec.text in SHELF else f"no {spec.text} here",
                item=spec.text if spec.text in SHELF else None,
                title=spec.text.title(),
            )
            for path, step, spec in specs
        )


@dataclass
class Ranker:
    """A ``Recommender``: candidates first, then the shelf in its order. Paths in ``harmful`` hurt for certain."""

    entropy: float = 3.0
    harmful: frozenset[int] = frozenset()
    log: Log = field(default_factory=list)

    def rollout(
        self,
        user: str,
        at: datetime,
        paths: Sequence[tuple[int, Sequence[str]]],
        changes: Mapping[int, tuple[int, str | None]] = NO_CHANGES,
    ) -> tuple[Effect, ...]:
        self.log.append(("ranker", "rollout", *(f"{path}:{'+'.join(items)}" for path, items in paths)))
        self.log += [("ranker", "change", f"{path}:{event}:{item}") for path, (event, item) in changes.items()]
        return tuple(
            Effect(
                path=path,
                probability_without=0.3,
                probability_with=0.3 + change,
                change=change,
                low=change - 0.05,
                high=change + 0.05,
            )
            for path, _ in paths
            for change in (-0.2 if path in self.harmful else 0.02,)
        )

    def slate(
        self, user: str, at: datetime, candidates: Sequence[Candidate], size: int, labels: Sequence[RoleLabel] = ()
    ) -> Slate:
        self.log.append(("ranker", "slate", *(str(c.item) for c in candidates)))
        reasons = {c.item: c for c in candidates if c.item is not None}
        ranked = list(dict.fromkeys([*reasons, *SHELF]))[:size]
        return Slate(
            items=tuple(
                SlateItem(
                    rank=rank,
                    item=item,
                    title=item.title(),
                    category=SHELF[item],
                    score=1 / rank,
                    role=reasons[item].role if item in reasons else None,
                    path=reasons[item].path if item in reasons else None,
                )
                for rank, item in enumerate(ranked, 1)
            ),
            entropy=self.entropy,
        )


@dataclass
class Notebook:
    """A ``Memory``: the decisions by id, and how often something was written."""

    decisions: dict[str, Decision] = field(default_factory=dict)
    writes: int = 0

    def record(self, decision: Decision) -> None:
        self.writes += 1
        self.decisions[decision.decision] = decision


def parts(**more: Any) -> Parts:
    """All ports filled in; any of them may be replaced by name."""
    filled: dict[str, Any] = {
        "observer": ListedUsers(),
        "reasoner": Thinker(),
        "catalogue": Shelf(),
        "recommender": Ranker(),
        "memory": Notebook(),
    }
    return Parts(**(filled | more))


def steering(**more: Any) -> LoopSettings:
    """Settings of a small loop."""
    return LoopSettings(**({"run": "test", "slate_size": 5, "min_categories": 1} | more))
