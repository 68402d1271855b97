"""A teacher that knows what the planter knows: a perfect LLM's answers without an LLM between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from rolegen_agent.reasoning.reflection import reflect_on
from rolegen_graphs.words import (
    CallSite,
    Candidate,
    Correction,
    Effect,
    Intent,
    ItemSpec,
    Observation,
    Path,
    Reading,
    Reflection,
    Role,
    RoleLabel,
    Signal,
)

from ..worlds import Planted

NAME = "planted"
_LABELS, _SURE = 12, 0.95
_BEST = 8
"""items of a need that are proposed at most"""
_OPENERS: tuple[Role, ...] = ("trigger", "bridge", "comparison", "anchor", "complement", "gateway")
_STAGES = ("none", "browsing", "comparing", "deciding")
_NOTHING = Intent(stage="none")


class PlantedReasoner:
    """Knows the role of every event and the hidden need and habit before the decision, not what will happen.

    As ``rolegen_evals.reasoning.scripted.PerfectMind``, which reads prompts, but for one thing: where it has nothing better to
    offer it goes on with other categories, so that no path is ever wanting.
    """

    def __init__(self, planted: Planted, *, paths: int = 8) -> None:
        self._goods, self._paths = planted.shop.goods, paths
        self._role: dict[int, Role] = dict(planted.roles.iter_rows())
        order = planted.needs.sort("user", "time")
        self._needs = order.select("need", "stage", "habit").to_numpy()
        self._times = order["time"].to_numpy()
        spans = order.with_row_index("row").group_by("user", maintain_order=True).agg(pl.col("row").min(), pl.len())
        self._span: dict[str, tuple[int, int]] = {user: (row, row + n) for user, row, n in spans.iter_rows()}
        goods = self._goods
        strength = goods.strength * (goods.is_a("target") | goods.is_a("replenishment"))
        self._targets = [
            [int(i) for i in (-strength * (goods.category == c)).argsort(kind="stable")[:_BEST]]
            for c in range(len(goods.categories))
        ]

    @property
    def name(self) -> str:
        return NAME

    def reason(self, seen: Observation, corrections: Sequence[Correction], *, site: CallSite) -> Reading:
        known = [event for event in seen.trajectory.events if event.event in self._role]
        rare = sorted(
            range(len(known)), key=lambda k: (self._role[known[k].event] in ("incidental", "comparison"), -k)
        )[:_LABELS]
        labels = tuple(
            RoleLabel(
                event=known[k].event,
                item=known[k].item,
                role=self._role[known[k].event],
                confidence=_SURE,
                intent_before=_NOTHING,
                intent_after=_NOTHING,
            )
            for k in sorted(rare)
        )
        need, stage, _ = self._hidden(seen.trajectory.user, seen.trajectory.at)
        if need < 0:
            return Reading(labels=labels, intent=_NOTHING)
        told: Any = _STAGES[min(stage, len(_STAGES) - 1)]
        return Reading(labels=labels, intent=Intent(stage=told, category=self._goods.categories[need]))

    def simulate(
        self, seen: Observation, reading: Reading, corrections: Sequence[Correction], *, site: CallSite
    ) -> tuple[Path, ...]:
        need, _, habit = self._hidden(seen.trajectory.user, seen.trajectory.at)
        wanted = [habit] if habit >= 0 else []
        wanted += self._targets[need] if need >= 0 else []
        for place in range(_BEST):
            wanted += [targets[place] for targets in self._targets]
        codes = list(dict.fromkeys(wanted))[: 2 * self._paths]
        return tuple(
            Path(
                path=number,
                operation="insert",
                intervention=self._spec(first, _OPENERS[number % len(_OPENERS)]),
                steps=(self._spec(last, "target"),),
            )
            for number, (first, last) in enumerate(zip(codes[::2], codes[1::2], strict=False))
        )

    def revise(
        self, seen: Observation, rejected: Sequence[Candidate], *, site: CallSite
    ) -> tuple[ItemSpec | None, ...]:
        return (None,) * len(rejected)

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
        """No correction: it is right."""
        return Reflection(lessons=reflect_on(seen.trajectory, paths, candidates, effects, ()).lessons)

    def _spec(self, item: int, role: Role) -> ItemSpec:
        category = self._goods.categories[int(self._goods.category[item])]
        return ItemSpec(role=role, category=category, text=self._goods.titles[item])

    def _hidden(self, user: str, at: datetime) -> tuple[int, int, int]:
        """Need, stage and habit after the user's last visit before ``at``."""
        first, end = self._span[user]
        times = self._times[first:end]
        row = first + int(np.searchsorted(times, np.datetime64(at.replace(tzinfo=None), "us"))) - 1
        if row < first:
            return -1, 0, -1
        need, stage, habit = (int(one) for one in self._needs[row])
        return need, stage, habit
