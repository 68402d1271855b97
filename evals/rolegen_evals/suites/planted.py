"""Cases whose roles are known: a planted world becomes a project like any other, and a suite of its dormant users.

The world is planted, ingested and trained once below the suite, in ``world/``; the same command finds it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import cast

import polars as pl

from rolegen_agent import RoleGen
from rolegen_errors import InputError
from rolegen_graphs.words import Role

from ..reasoning.loop import DECISION_DAYS, DORMANT_DAYS, HORIZON_DAYS, KNOBS, PROJECT
from ..reasoning.scripted import renumbered
from ..worlds import WORLDS, plant
from ..worlds.log import START
from .cases import Case, build_cases

WORLD = "world"
"""folder of the project below the suite"""
TRAINING: Mapping[str, object] = {
    "epochs": 2,
    "width": 32,
    "layers": 1,
    "max_returns": 2_000,
    "max_hints": 200,
    "max_read": 500,
    "max_spells": 2_000,
}
"""a training of about a minute: what is on trial is the reasoning"""
Progress = Callable[[str, int, int], None]


def world_cases(
    suite: Path, world: str, *, users: int, count: int, seed: int, returned: float, progress: Progress
) -> list[Case]:
    """Cases of the planted shop ``world`` with ``users`` customers, each with the planted roles of its events.

    Raises:
        InputError: there is no such world, or ``suite`` holds another one.
    """
    if world not in WORLDS:
        raise InputError(f"there is no planted world {world!r}", fix=f"choose from: {', '.join(WORLDS)}")
    folder, at = suite / WORLD, START + timedelta(days=DECISION_DAYS)
    planted = plant(WORLDS[world].open(seed, KNOBS), users, seed=seed)
    _same_world(folder, f"{world}, {users} users, seed {seed}")
    if not (folder / "rolegen.toml").exists():
        planted.events.drop("event").write_parquet(folder / "events.parquet")
        planted.items.write_parquet(folder / "items.parquet")
        backbone = "".join(f"{key} = {value}\n" for key, value in TRAINING.items())
        text = f"{PROJECT.format(dormant=DORMANT_DAYS, horizon=HORIZON_DAYS)}[backbone]\n{backbone}"
        (folder / "rolegen.toml").write_text(text, "utf-8")
    with RoleGen.open(folder) as shop:
        if not shop.project.events.exists():
            shop.ingest(progress=progress)
        shop.train(at, progress=progress)  # a finished training is not repeated
        roles = renumbered(planted, pl.read_parquet(shop.project.events)).roles
        return build_cases(
            shop,
            at,
            count=count,
            seed=seed,
            returned=returned,
            roles=cast(Mapping[int, Role], dict(roles.iter_rows())),
            progress=lambda done, total: progress("cases", done, total),
        )


def _same_world(folder: Path, wanted: str) -> None:
    """Note which world the folder holds; refuse to put another one into it."""
    note = folder / "planted.txt"
    if note.exists() and note.read_text("utf-8") != wanted:
        raise InputError(
            f"the suite holds another planted world: {note.read_text('utf-8')}",
            where=str(folder),
            fix="choose another suite folder, or remove this one",
        )
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(wanted, "utf-8")
