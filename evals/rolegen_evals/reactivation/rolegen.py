"""Our system and its ablations: a backbone trained before the cut, asked with and without reasoned candidates.

A variant is a name with overrides of ``Sizes`` and ``TrainConfig`` and a choice of candidates. Variants with the same
training share it. No LLM is called: candidates are those of the evidence reasoner, as of each decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rolegen_backbone.artefact import Sizes, TrainedBackbone
from rolegen_backbone.examples import NO_HINT, Hint
from rolegen_backbone.training import TrainConfig
from rolegen_graphs.words import ROLES

from .protocol import DORMANT_DAYS, HORIZON_DAYS, TASKS, Past, Task
from .systems import Ask, Fitted, Progress, Slates, code_of, plain

if TYPE_CHECKING:
    from rolegen_agent.past_reasoning import PastReasoning

Candidates = Literal["reasoned", "none", "unread", "random", "adversarial"]
"""``none``: the roles of events, but no candidates; ``unread``: no word of reasoning at all"""
SIZES: Mapping[str, Any] = {}
"""choices of :class:`Sizes` that every variant shares, chosen on the validation period"""
CONFIG: Mapping[str, Any] = {"horizon_days": HORIZON_DAYS, "dormant_days": DORMANT_DAYS, "usual_basket": 20.0}
"""choices of :class:`TrainConfig`, likewise"""
DIVERSE = 0.63
"""the least weight of ``[slate] diversity``, in hundredths, at which each of three seeds covered more of the catalogue than purchase
frequency, on the validation period"""
QUICK: Mapping[str, Any] = {"epochs": 1, "max_returns": 1_000, "max_hints": 60, "max_read": 60, "max_spells": 600}
HOSTILE = 10
"""candidates of each decision in the guard's runs"""
BATCH, BEAM = 64, 50
CODE = ("rolegen_backbone", "rolegen_agent.reasoning", "rolegen_agent.evidence", "rolegen_agent.past_reasoning")
GUARDS = ("guard_random", "guard_adversarial")
"""figures of the guard, not rows of the table"""


@dataclass(frozen=True)
class Variant:
    """One configuration of our system."""

    name: str
    sizes: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    candidates: Candidates = "reasoned"
    diversity: float = 0.0
    learns_candidates: bool = True
    seeds: int = 3
    tasks: Sequence[Task] = TASKS

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**self._training, "candidates": self.candidates, "beam": BEAM, "diversity": self.diversity}

    @property
    def _training(self) -> Mapping[str, Any]:
        return {
            "sizes": {**SIZES, **self.sizes},
            "config": {**CONFIG, **self.config},
            "learns_candidates": self.learns_candidates,
        }

    @property
    def modules(self) -> Sequence[str]:
        return [*CODE, *(f"rolegen_evals.reactivation.{name}" for name in ("protocol", "systems", "rolegen"))]

    def fit(self, past: Past, *, seed: int, folder: Path, progress: Progress) -> Fitted:
        """Train, or read back or resume what the same choices trained before."""
        chosen = self._training
        told = "\n".join((plain(chosen), str(seed), past.fingerprint, code_of(self.modules)))
        # Beside the variants' folders: those that only ask in another way share one training.
        home = folder.parent / f"backbone-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        if not (home / "backbone.json").exists():
            config = TrainConfig(**{**chosen["config"], "seed": seed})

            until = past.at - timedelta(days=config.validation_days)

            def hints(decisions: Sequence[tuple[int, int]]) -> list[Hint]:
                if not self.learns_candidates:
                    return [NO_HINT] * len(decisions)
                return list(reasoned(past, until, tuple(decisions)))

            def readings(decisions: Sequence[tuple[int, int]]) -> list[Hint]:
                return list(reasoned(past, until, tuple(decisions), roles_only=True))

            TrainedBackbone.fit(
                past.items,
                past.log,
                as_of=past.at,
                sizes=Sizes(**chosen["sizes"]),
                config=config,
                roles=len(ROLES),
                folder=home,
                hints=hints,
                readings=readings if self.learns_candidates else None,
                progress=lambda stage, done, total: progress(f"{self.name} {stage}", done, total),
            )
        return _Trained(home, past, self.candidates, self.diversity, seed)


class _Trained:
    """A backbone that answers asks, extended by the items that were first sold between the cut and the date."""

    def __init__(self, home: Path, cut: Past, candidates: Candidates, diversity: float, seed: int) -> None:
        self._home, self._cut, self._seed = home, cut, seed
        self._candidates, self._diversity = candidates, diversity
        self._now: tuple[datetime, TrainedBackbone] | None = None

    def slates(self, ask: Ask) -> Slates:
        return self._rank(ask, self._hints(ask))

    def _hints(self, ask: Ask) -> Sequence[Hint]:
        if self._candidates == "unread":
            return [NO_HINT] * len(ask.users)
        second, wanted = int(ask.past.at.timestamp()), self._candidates == "reasoned"
        read = reasoned(ask.past, ask.past.at, tuple((int(row), second) for row in ask.rows), roles_only=not wanted)
        if self._candidates == "random":
            random = np.random.default_rng([self._seed, ask.past.day])
            items = [random.choice(len(ask.past.ids), HOSTILE, replace=False) for _ in ask.users]
            return [_hint(hint, some) for hint, some in zip(read, items, strict=True)]
        if self._candidates == "adversarial":
            slates = self._rank(ask, read)
            others = [*ask.users[1:], *ask.users[:1]]
            items = [np.searchsorted(ask.past.ids, slates[other]) for other in others]
            return [_hint(hint, some) for hint, some in zip(read, items, strict=True)]
        return read

    def _rank(self, ask: Ask, hints: Sequence[Hint]) -> Slates:
        """Beam search; *discovery* leaves out what the user owns.

        Users with similar numbers of own items share a batch, so that nobody waits for a wholesaler's long search.
        """
        backbone, ids = self._at(ask.past), ask.past.ids
        own = [ask.past.counts[row].indices if ask.task == "discovery" else np.zeros(0, np.int64) for row in ask.rows]
        available = np.ones(len(ids), bool)
        found: Slates = {}
        order = sorted(range(len(ask.users)), key=lambda place: len(own[place]))
        for low in range(0, len(order), BATCH):
            part = order[low : low + BATCH]
            decisions = [backbone.decision(ask.users[place], ask.past.at, hints[place]) for place in part]
            ranked = backbone.rank(
                decisions,
                available,
                size=min(ask.size, len(ids)),
                beam=BEAM,
                without=[own[place] for place in part],
                diversity=self._diversity,
            )
            for place, row in zip(part, ranked.item_BN.numpy(), strict=True):
                found[ask.users[place]] = [str(item) for item in ids[row[row >= 0]]]
        return found

    def _at(self, past: Past) -> TrainedBackbone:
        """The same weights over the catalogue and the log of ``past``."""
        if self._now is None or self._now[0] != past.at:
            if np.array_equal(past.ids, self._cut.ids):
                backbone = TrainedBackbone.load(self._home, past.log)
            else:
                trained = TrainedBackbone.load(self._home, self._cut.log)
                backbone = trained.extend(past.items, past.log, until=past.at)
            self._now = past.at, backbone
        return self._now[1]


def _hint(read: Hint, items: np.ndarray[Any, np.dtype[np.int64]]) -> Hint:
    """Candidates that look as good as any: full score, the roles in turn."""
    count = len(items)
    return replace(
        read, item=items.astype(np.int64), role=np.arange(count) % len(ROLES), score=np.ones(count, np.float32)
    )


@lru_cache(maxsize=64)
def reasoned(
    past: Past, evidence_until: datetime, decisions: tuple[tuple[int, int], ...], *, roles_only: bool = False
) -> Sequence[Hint]:
    """What the evidence reasoner says of (user position, Unix second) decisions; the same for all variants."""
    reasoning = _reasoning(past, evidence_until)
    return reasoning.roles(decisions) if roles_only else reasoning.candidates(decisions)


@lru_cache(maxsize=8)
def _reasoning(past: Past, until: datetime) -> PastReasoning:
    from rolegen_agent.past_reasoning import PastReasoning, cuts_before
    from rolegen_agent.project import Settings

    # A decision at the past's own date is read with evidence of that date: nothing earlier is asked about there.
    cuts = [until] if until == past.at else cuts_before(until)
    return PastReasoning(
        Settings(), past.events, past.items, past.log, cuts=cuts, progress=lambda stage, done, total: None
    )


def systems(*, quick: bool = False) -> dict[str, Variant]:
    """All variants by name. ``quick`` trains one small epoch and leaves out those that need a training of their own."""
    config = QUICK if quick else {}
    shared = [
        Variant("rolegen", config=config),
        Variant("rolegen_no_candidates", config=config, candidates="none"),
        Variant("guard_random", config=config, candidates="random", tasks=("all",)),
        Variant("guard_adversarial", config=config, candidates="adversarial", tasks=("all",)),
    ]
    own = [
        Variant("rolegen_diverse", diversity=DIVERSE),
        Variant("tiger", {"use_own": False, "use_market": False}, candidates="unread", learns_candidates=False),
        Variant("rolegen_no_semantic_ids", {"use_decoder": False}),
        Variant("rolegen_no_repeat", {"use_own": False}),
        Variant("rolegen_no_prefix", {"use_prefix": False}),
    ]
    return {variant.name: variant for variant in (shared if quick else [*shared, *own])}
