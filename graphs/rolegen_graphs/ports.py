"""The ports of the loop: what it needs from the world, as Protocols.

A user puts a recommender, a memory or a reasoner of their own behind the loop by writing a class of this shape.
Nothing here knows torch, SQL or an LLM client.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from .reports import OutcomeReport
from .words import (
    Article,
    CallSite,
    Candidate,
    Correction,
    Decision,
    Effect,
    ItemSpec,
    LlmCall,
    Observation,
    Path,
    Proposal,
    Reading,
    Reflection,
    Role,
    RoleBelief,
    RoleLabel,
    Signal,
    Slate,
)

NO_CHANGES: Mapping[int, tuple[int, str | None]] = MappingProxyType({})


class Observer(Protocol):
    """Reads what is known of a user strictly before a decision time."""

    def observe(self, user: str, at: datetime) -> Observation:
        """Raise ``InputError`` when the user has no event before ``at``."""
        ...


class Reasoner(Protocol):
    """Labels roles, imagines paths, revises rejected specs and reflects. Raises ``ReasonerError`` when it cannot."""

    @property
    def name(self) -> str:
        """``evidence``, ``llm:<model>`` or ``student:<teacher>``; stands in the trace."""
        ...

    def reason(self, seen: Observation, corrections: Sequence[Correction], *, site: CallSite) -> Reading: ...

    def simulate(
        self, seen: Observation, reading: Reading, corrections: Sequence[Correction], *, site: CallSite
    ) -> tuple[Path, ...]: ...

    def revise(
        self, seen: Observation, rejected: Sequence[Candidate], *, site: CallSite
    ) -> tuple[ItemSpec | None, ...]:
        """One better spec for each rejected candidate, in order; None where it gives up."""
        ...

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
    ) -> Reflection: ...


class RoleEvidence(Protocol):
    """What the log alone says for the roles of a user's events: one side of a fused label, and part of the gate."""

    def beliefs(self, seen: Observation) -> Mapping[int, Mapping[Role, RoleBelief]]:
        """By event id, by role. Roles that the log does not speak for are left out, and so are events without any.

        What is left out has no probability of its own: the fusion spreads the rest over the roles that are not named.
        """
        ...


class Catalogue(Protocol):
    """Grounds specs in items that exist and are available at ``at``."""

    def ground(self, specs: Sequence[tuple[int, int, ItemSpec]], seen: Observation) -> tuple[Candidate, ...]:
        """One candidate for each (path number, step, spec), in order; a rejected one carries its reason."""
        ...


@runtime_checkable
class ItemLookup(Protocol):
    """A catalogue that also knows items by their id: what candidate sources need beside them."""

    def look_up(self, items: Sequence[str], at: datetime) -> Mapping[str, Article]:
        """By id, those of ``items`` that exist and are available at ``at``; the others are left out."""
        ...


class CandidateSource(Protocol):
    """Puts forward items of its own beside what reasoning asks for, such as a shop's retrieval model or its campaigns.

    Each proposal becomes a path of one step: its effect is rolled out, it competes with the reasoned paths for effect and
    diversity, and the guard bounds it like them.
    """

    @property
    def name(self) -> str:
        """Stands in the trace with each path: ``source <name>``."""
        ...

    def propose(self, seen: Observation, reading: Reading) -> Sequence[Proposal]:
        """The best first, from what was known before the decision. Asked in every round."""
        ...


class OutcomeSource(Protocol):
    """Where a shop keeps what its customers did, such as a table of orders."""

    def reports(self, since: datetime) -> Iterable[OutcomeReport | Mapping[str, object]]:
        """What users did from ``since`` on, as reports or mappings of their fields; telling it again does no harm."""
        ...


class Recommender(Protocol):
    """The generative backbone, or any recommender that can estimate a path and rank a slate."""

    def rollout(
        self,
        user: str,
        at: datetime,
        paths: Sequence[tuple[int, Sequence[str]]],
        changes: Mapping[int, tuple[int, str | None]] = NO_CHANGES,
    ) -> tuple[Effect, ...]:
        """The effect of each (path number, item ids in order of the steps).

        ``changes``: for the number of a path that replaces or removes an event, the event's id and the item in its place,
        None where the event is taken out.
        """
        ...

    def slate(
        self, user: str, at: datetime, candidates: Sequence[Candidate], size: int, labels: Sequence[RoleLabel] = ()
    ) -> Slate:
        """The best ``size`` available items, with the surviving candidates integrated; no candidates = no reasoning.

        ``labels`` are the roles that the reading gave to events; a recommender may make use of them.
        """
        ...


class Memory(Protocol):
    """Where finished decisions go. Writing the same decision twice changes nothing."""

    def record(self, decision: Decision) -> None: ...


class CallLog(Protocol):
    """Remembers LLM calls, so that an equal request is answered without a second call."""

    def find_call(self, request_hash: str) -> LlmCall | None:
        """The latest call with that hash that has an answer, or None."""
        ...

    def record_call(self, call: LlmCall) -> None:
        """Idempotent on (site, request_hash)."""
        ...
