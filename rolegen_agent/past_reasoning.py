"""What the evidence reasoner would have said of past decisions: what the backbone learns to read reasoning from.

Each decision gets the statistics of the latest cut that is not after it, so no decision is told by evidence what came of
it. Decisions before the first cut stay unread: a reasoner that has seen little has little to say.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from rolegen_graphs.words import CallSite, Observation, Reading

from .evidence import Market, compute_evidence
from .grounding import open_catalogue
from .observer import LogObserver
from .project import Settings
from .reasoning import EvidenceReasoner

if TYPE_CHECKING:
    from rolegen_backbone.events import EventLog
    from rolegen_backbone.examples import Hint

CUT_DAYS, CUTS = 91, 3
"""evidence for training decisions is counted anew every so many days, so many times"""
SITE = CallSite(decision="training", round=1, node="reason")
Progress = Callable[[str, int, int], None]


def cuts_before(at: datetime) -> list[datetime]:
    """``at`` and the cuts before it, oldest first."""
    return [at - timedelta(days=CUT_DAYS * number) for number in range(CUTS, -1, -1)]


class PastReasoning:
    """Hints for (user index, Unix second) decisions over one log.

    Args:
        cuts: when evidence is counted, oldest first.
        store: where the catalogue's index is kept, see :func:`rolegen_agent.grounding.open_catalogue`.
    """

    def __init__(
        self,
        settings: Settings,
        events: pl.DataFrame,
        items: pl.DataFrame,
        log: EventLog,
        *,
        cuts: Sequence[datetime],
        progress: Progress,
        store: Path | None = None,
    ) -> None:
        self._store = store
        self._settings, self._events, self._items, self._log = settings, events, items, log
        self._cuts, self._progress = cuts, progress
        self._market = Market(events, items)
        self._observer = LogObserver(events, items, max_events=settings.reasoner.max_events)
        self._reasoners: dict[datetime, EvidenceReasoner] = {}
        self._index = {item: row for row, item in enumerate(items["item"].to_list())}

    def candidates(self, decisions: Sequence[tuple[int, int]]) -> list[Hint]:
        """Reasoned candidates, and the roles of the events that matter."""
        catalogue = open_catalogue(
            self._items, self._market, self._settings, store=self._store, progress=self._progress
        )

        def tell(reasoner: EvidenceReasoner, seen: Observation, reading: Reading) -> Hint:
            from .backbone_tool import make_hint

            paths = reasoner.simulate(seen, reading, (), site=SITE)
            specs = [(path.path, step, spec) for path in paths for step, spec in enumerate(path.specs())]
            return make_hint(catalogue.ground(specs, seen), self._index, reading.labels)

        return self._each(decisions, "reasoning", tell)

    def roles(self, decisions: Sequence[tuple[int, int]]) -> list[Hint]:
        """The roles alone, at a fraction of the cost."""

        def tell(reasoner: EvidenceReasoner, seen: Observation, reading: Reading) -> Hint:
            from .backbone_tool import make_hint

            return make_hint((), self._index, reading.labels)

        return self._each(decisions, "roles", tell)

    def _each(
        self,
        decisions: Sequence[tuple[int, int]],
        stage: str,
        tell: Callable[[EvidenceReasoner, Observation, Reading], Hint],
    ) -> list[Hint]:
        from rolegen_backbone.events import moment
        from rolegen_backbone.examples import NO_HINT

        hints = []
        for done, (user, second) in enumerate(decisions):
            reasoner = self._reasoner(moment(second))
            if reasoner is None:
                hints.append(NO_HINT)
            else:
                seen = self._observer.observe(str(self._log.users[user]), moment(second))
                hints.append(tell(reasoner, seen, reasoner.reason(seen, (), site=SITE)))
            if done % 50 == 0:
                self._progress(stage, done, len(decisions))
        self._progress(stage, len(decisions), len(decisions))
        return hints

    def _reasoner(self, at: datetime) -> EvidenceReasoner | None:
        """That of the latest cut not after ``at``, None before the first."""
        place = bisect_right(self._cuts, at)
        if not place:
            return None
        cut = self._cuts[place - 1]
        if cut not in self._reasoners:
            evidence = compute_evidence(self._events, self._items, at=cut)
            self._reasoners[cut] = EvidenceReasoner(evidence, self._market, paths=self._settings.reasoner.paths)
        return self._reasoners[cut]
