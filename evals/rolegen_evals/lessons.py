"""How often lessons are false where nothing has an effect, and how often they are found where something has.

A shop without items: users who differ in how readily they buy and in what they are led with, decided on every month.
Each month everything that is known by then is looked at, as ``rolegen lessons learn`` does. In the A/A world no value has an
effect, but who is led with it differs between users; in the others one of them changes the chance of an order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from rolegen_agent.lessons.statistics import discoveries, judge
from rolegen_agent.memory.lessons import KnownOutcome
from rolegen_graphs.words import Subject

from .results import Result, commit, machine

START, MONTH = datetime(2011, 1, 1, tzinfo=UTC), timedelta(days=30)
LOOKS, USERS, VALUES, COHORTS = 12, 400, 12, 5
BASE = 0.12
"""chance of an order within the horizon, for the median user"""
EFFECTS = (0.0, 0.03, 0.06, 0.09)
"""change of that chance by being led with the first value"""
SUPPORT, FALSE_RATE = 20, 0.1
"""as by default in ``[lessons]``"""


def planted_decisions(seed: int, effect: float) -> list[KnownOutcome]:
    """A year of monthly decisions; the forecast knows half of what makes users differ."""
    rng = np.random.default_rng(seed)
    luck, taste = rng.normal(0, 1, USERS), rng.normal(-1, 1, (USERS, VALUES))
    cohort = rng.integers(0, COHORTS, USERS)
    usual = np.log(BASE / (1 - BASE))
    found = []
    for month in range(LOOKS):
        at = START + MONTH * month
        led = rng.random((USERS, VALUES)) < 1 / (1 + np.exp(-taste))
        chance = 1 / (1 + np.exp(-(usual + luck + 0.3 * np.sin(month)))) + effect * led[:, 0]
        forecast = 1 / (1 + np.exp(-(usual + 0.5 * luck + rng.normal(0, 0.5, USERS))))
        ordered = rng.random(USERS) < chance
        for user in np.flatnonzero(rng.random(USERS) < 0.6):
            values: frozenset[tuple[Subject, str]] = frozenset(("path", f"v{v}") for v in np.flatnonzero(led[user]))
            found.append(
                KnownOutcome(
                    decision=f"{month}/{user}",
                    user=str(user),
                    at=at,
                    known_at=at + MONTH,
                    cohort=f"c{cohort[user]}",
                    forecast=float(forecast[user]),
                    ordered=bool(ordered[user]),
                    led=values,
                )
            )
    return found


def bench_lessons(
    *, quick: bool = False, seeds: int | None = None, progress: Callable[[str, int, int], None] = lambda *_: None
) -> Result:
    """Shares of worlds in which any false lesson was ever born, and in which the real one was; over twelve looks."""
    started = time.perf_counter()
    worlds = seeds or (2 if quick else 60)
    figures: dict[str, float] = {}
    for place, effect in enumerate(EFFECTS):
        false, found, tests = 0, 0, 0
        for seed in range(worlds):
            progress("worlds", place * worlds + seed, len(EFFECTS) * worlds)
            decisions = planted_decisions(seed, effect)
            ever = set()
            for look in range(1, LOOKS + 1):
                known = [one for one in decisions if one.known_at <= START + MONTH * look]
                tested = judge(known, support=SUPPORT)
                tests = max(tests, len(tested))
                ever |= {(one.value, one.effect.change > 0) for one in discoveries(tested, FALSE_RATE)}
            real = {("v0", True)} if effect else set()
            false += bool(ever - real)
            found += bool(ever & real)
        name = f"effect {effect * 100:.0f} points"
        figures[f"lessons.false_ever.{name}"] = false / worlds
        if effect:
            figures[f"lessons.found_ever.{name}"] = found / worlds
        figures[f"lessons.tests.{name}"] = tests
    progress("worlds", len(EFFECTS) * worlds, len(EFFECTS) * worlds)
    return Result(
        name="lessons", commit=commit(), machine=machine(), seconds=time.perf_counter() - started, figures=figures
    )
