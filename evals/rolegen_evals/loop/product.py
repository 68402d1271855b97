"""Our own arms: the real product, opened as a user would, living through the rounds of a town.

At each date the log so far is ingested, what came of the decisions that are final is recorded, then lessons are learnt and artefacts improved, as
far as the arm does so, and the dormant users are decided on. Slates of finished rounds are kept in the arm's folder: a stopped run plays them again
through the town, which takes a second, and goes on with the product where it was (its memory, artefacts and decisions are on disk).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rolegen_agent import RoleGen
from rolegen_agent.outcomes import outcomes_of

from .rounds import ROUND_DAYS, Plan, Slates, replayed
from .town import Town, moment_of

Progress = Callable[[str, int, int], None]
DORMANT_DAYS, HORIZON_DAYS = 30, 40
"""the horizon ends before the next round begins, so that outcomes are final when they are learnt from"""
PROJECT = f"""\
[data]
events = "events.parquet"
catalogue = "items.parquet"
[dormancy]
days = {DORMANT_DAYS}
[slate]
horizon_days = {HORIZON_DAYS}
"""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What of the outer loop is on."""

    name: str
    reflects: bool = True
    improves: bool = True
    overrides: Mapping[str, Mapping[str, object]] | None = None


ARMS = (
    Arm(name="rolegen"),
    Arm(name="no_reflection", reflects=False),
    Arm(name="no_improve", improves=False),
    Arm(name="neither", reflects=False, improves=False),
)


@dataclass(frozen=True)
class Lived:
    """What an arm came to."""

    town: Town
    """at the last date"""
    slates: Slates
    """of the judged users at that date"""
    without_reasoning: Slates
    """the backbone's own slates for them"""
    by_round: list[float]
    """net orders within the horizon for 1,000 decided users, mean of replayed futures; every arm decides on whom it left dormant"""


def prepare(folder: Path, town: Town, training: Mapping[str, object], progress: Progress) -> None:
    """A project that has learnt from the log before the first round; done once, and copied for each arm."""
    with _opened(folder, training, {}) as product:
        _ingest(product, town)
        product.train(town.at, progress=progress)


def live(
    arm: Arm, base: Path, folder: Path, town: Town, plan: Plan, training: Mapping[str, object], progress: Progress
) -> Lived:
    """Live through all rounds. ``base`` holds the prepared project, ``town`` is the town at the first round."""
    copied(base, folder)
    town, by_round = town.copy(), []
    with _opened(folder, training, arm.overrides or {}) as product:
        decided: list[tuple[float, dict[str, str]]] = []
        for number in range(plan.rounds + 1):
            progress(arm.name, number, plan.rounds + 1)
            last = number == plan.rounds
            found = kept_once(
                folder / f"round-{number}.json",
                partial(_round, arm, product, town, plan, decided, judging=last, progress=progress),
            )
            decided.append((town.day, found["decisions"]))
            if not last:
                by_round.append(replayed(town, found["slates"], HORIZON_DAYS))
                town.live(town.day + ROUND_DAYS, found["slates"], horizon=HORIZON_DAYS)
    progress(arm.name, plan.rounds + 1, plan.rounds + 1)
    return Lived(town, found["slates"], found["without_reasoning"], by_round)


def _round(
    arm: Arm,
    product: RoleGen,
    town: Town,
    plan: Plan,
    decided: list[tuple[float, dict[str, str]]],
    *,
    judging: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Everything that happens at one date; every step of it may be repeated."""
    _ingest(product, town)
    if decided:
        _record_outcomes(product, town, *decided[-1])
        if arm.reflects:
            product.reflect(town.at)
        if arm.improves:
            product.improve(town.at, progress=progress)
    dormant = product.dormant(town.at)["user"].to_list()
    users = plan.judged(town, dormant) if judging else plan.decided(town, dormant)
    run = product.awaken(users, town.at).run
    made = {user: product.trace(user, run=run) for user in users}
    return {
        "decisions": {user: one.decision for user, one in made.items()},
        "slates": {user: [item.item for item in one.slate.items] for user, one in made.items()},
        "without_reasoning": {
            user: [item.item for item in one.slate_without_reasoning.items] for user, one in made.items()
        },
    }


def _opened(folder: Path, training: Mapping[str, object], more: Mapping[str, Mapping[str, object]]) -> RoleGen:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "rolegen.toml").exists():
        (folder / "rolegen.toml").write_text(PROJECT, "utf-8")
    return RoleGen.open(folder, overrides={"backbone": training, **more})


def _ingest(product: RoleGen, town: Town) -> None:
    town.events().drop("event").write_parquet(product.project.root / "events.parquet")
    town.shop.goods.frame().write_parquet(product.project.root / "items.parquet")
    product.ingest()


def _record_outcomes(product: RoleGen, town: Town, day: float, decisions: Mapping[str, str]) -> None:
    found = outcomes_of(town.events(), decisions, moment_of(day), HORIZON_DAYS, town.at)
    product.memory.record_outcomes(found)


def copied(base: Path, folder: Path) -> None:
    """``base`` as an arm's own project, unless it is there already: all of it or nothing."""
    if not (folder / "rolegen.toml").exists():
        draft = folder.with_name(folder.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(base, draft)
        draft.replace(folder)


def kept_once(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``make`` gave now or in an earlier, stopped run."""
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_text(json.dumps(make()), "utf-8")
        part.replace(file)
    return dict(json.loads(file.read_text("utf-8")))
