"""The reasoner without an LLM: roles and paths from log statistics alone, deterministic, and labelled as that."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from rolegen_errors import FutureError, InputError
from rolegen_graphs.words import (
    CallSite,
    Candidate,
    Correction,
    Effect,
    ItemSpec,
    Observation,
    Path,
    Reading,
    Reflection,
    Role,
    RoleBelief,
    Signal,
)

from ..evidence.market import Market
from ..evidence.signals import Reference
from ..evidence.store import Evidence
from .beliefs import Beliefs
from .labels import believe_trajectory, read_trajectory
from .paths import Advice, Limits, build_paths
from .proposals import propose
from .reflection import reflect_on, relaxed


class _Believed(threading.local):
    """What was said last in this thread, and about which observation."""

    def __init__(self) -> None:
        self.seen: Observation | None = None
        self.found: dict[int, dict[Role, RoleBelief]] = {}


class EvidenceReasoner:
    """Implements ``rolegen_graphs.ports.Reasoner`` under the name ``evidence``, and ``RoleEvidence`` for an LLM's labels.

    Args:
        evidence: role statistics; a decision before their as-of time is refused.
        market: sales of the log, read as of each decision time.
        paths: how many paths ``simulate`` gives at most.
        labels: how many events ``reason`` labels at most.
    """

    def __init__(self, evidence: Evidence, market: Market, *, paths: int = 4, labels: int = 12) -> None:
        if paths < 1 or labels < 1:
            raise InputError("paths and labels must be at least 1", where=f"paths={paths}, labels={labels}")
        self._evidence, self._market, self._paths, self._labels = evidence, market, paths, labels
        self._beliefs = Beliefs(evidence)
        self._believed = _Believed()
        self._reference = Reference.of(evidence.tables, market)

    @property
    def name(self) -> str:
        return "evidence"

    def reason(self, seen: Observation, corrections: Sequence[Correction], *, site: CallSite) -> Reading:
        """Roles of the most telling events and the present intent; doubted events come out as unresolved."""
        self._refuse_the_past(seen)
        doubted = frozenset(c.event for c in corrections if c.kind == "wrong_role" and c.event is not None)
        return read_trajectory(seen.trajectory, self._evidence, self._beliefs, limit=self._labels, doubted=doubted)

    def beliefs(self, seen: Observation) -> dict[int, dict[Role, RoleBelief]]:
        """What trajectory and log say for each role of each event, see ``believe_trajectory``."""
        if self._believed.seen is not seen:  # several nodes of a decision ask about the same history
            self._refuse_the_past(seen)
            self._believed.found = believe_trajectory(seen.trajectory, self._evidence, self._beliefs)
            self._believed.seen = seen
        return self._believed.found

    def simulate(
        self, seen: Observation, reading: Reading, corrections: Sequence[Correction], *, site: CallSite
    ) -> tuple[Path, ...]:
        """Diverse paths, each of another kind, ordered by lessons first. A path's number names its kind, the same in every
        round."""
        self._refuse_the_past(seen)
        proposals = propose(seen.trajectory, self._evidence, self._beliefs, self._market, self._reference)
        return build_paths(
            seen.trajectory, proposals, self._evidence, Limits.of(corrections), self._paths, Advice.of(seen.lessons)
        )

    def revise(
        self, seen: Observation, rejected: Sequence[Candidate], *, site: CallSite
    ) -> tuple[ItemSpec | None, ...]:
        """Each rejected spec without its price band, or else without its category."""
        return tuple(relaxed(candidate.spec) for candidate in rejected)

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
        """Typed corrections by fixed rules, and at most one proposed lesson."""
        return reflect_on(seen.trajectory, paths, candidates, effects, signals)

    def _refuse_the_past(self, seen: Observation) -> None:
        if seen.trajectory.at < self._evidence.at:
            raise FutureError(
                f"the role evidence knows events up to {self._evidence.at.isoformat()}",
                where=f"decision for {seen.trajectory.user} at {seen.trajectory.at.isoformat()}",
                fix="compute the evidence as of the decision time or earlier",
            )
