"""The calendar of the rounds, who is asked about in each, and how a static policy lives through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rolegen_agent.dormant import dormant_users
from rolegen_agent.settings import DormancySettings

from .town import SIZE, Town, number_of

Slates = Mapping[str, list[str]]
Decide = Callable[[Town, list[str]], Slates | None]
"""(town, users) to their slates; None leaves them to the logging policy"""
FIRST_DAY, ROUND_DAYS = 180.0, 42.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How large everything is."""

    treated: int
    control: int
    decided_most: int
    """treated users decided on in a round, at most"""
    judged_most: int
    rounds: int
    breadth: int
    """times 72 items"""

    def decided(self, town: Town, dormant: list[str]) -> list[str]:
        """Treated users among the dormant, drawn by lot: the lots of a round are the same for every policy."""
        return self._drawn(town, dormant, self.decided_most, control=False)

    def judged(self, town: Town, dormant: list[str]) -> list[str]:
        """Users of the control group among the dormant."""
        return self._drawn(town, dormant, self.judged_most, control=True)

    def _drawn(self, town: Town, dormant: list[str], most: int, *, control: bool) -> list[str]:
        number = number_of(dormant)
        lot = np.random.default_rng([town.seed, 14, round(town.day)]).random(len(town.step))[number]
        there = np.flatnonzero(town.control[number] == control)
        chosen = there[np.argsort(lot[there], kind="stable")[:most]]
        return [dormant[place] for place in np.sort(chosen)]


def dormant(town: Town, days: int) -> list[str]:
    """Lapsed buyers by the product's own rule."""
    return list(dormant_users(town.events(), town.at, DormancySettings(days=days))["user"].to_list())


def replayed(town: Town, slates: Slates, horizon: float) -> float:
    """Net orders within the horizon for 1,000 users who have these slates."""
    return 1000 * float(town.replay(slates, list(slates), horizon).mean()) if slates else 0.0


def live_by(decide: Decide, town: Town, plan: Plan, *, dormant_days: int, horizon: float) -> tuple[Town, list[float]]:
    """A copy of the town at the last date, and each round's replayed net orders for 1,000 decided users."""
    town, by_round = town.copy(), []
    for _ in range(plan.rounds):
        users = plan.decided(town, dormant(town, dormant_days))
        slates = decide(town, users)
        by_round.append(1000 * float(town.replay(slates, users, horizon).mean()) if users else 0.0)
        town.live(town.day + ROUND_DAYS, slates, horizon=horizon)
    return town, by_round


__all__ = ["FIRST_DAY", "ROUND_DAYS", "SIZE", "Decide", "Plan", "Slates", "dormant", "live_by", "replayed"]
