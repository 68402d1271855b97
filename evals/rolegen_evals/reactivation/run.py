"""Run the systems, keep what is finished, and put the figures together.

Each system and seed leaves one JSON file of slates in the work folder, named by a digest of the data, the period, its settings
and its code. Whatever is there is not computed again, so a stopped run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl

from rolegen_agent.facade import RoleGen
from rolegen_agent.project import write_project_file

from .protocol import Shop, Task
from .systems import Ask, Progress, Slates, System, code_of, plain

TaskSlates = dict[Task, dict[str, list[str]]]


@dataclass(frozen=True)
class Finished:
    """The slates of one system, one entry for each seed, and what they took."""

    system: System
    slates: Sequence[TaskSlates]
    seconds: float


def bundled(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and items of the bundled log, ingested in ``folder`` as any user would."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "rolegen.toml").exists():
        write_project_file(folder, preset="online_retail_ii", currency="GBP")
    with RoleGen.open(folder) as shop:
        shop.ingest()
        return pl.read_parquet(shop.project.events), pl.read_parquet(shop.project.items)


def slates_of(system: System, shop: Shop, *, seed: int, folder: Path, progress: Progress) -> TaskSlates:
    """Fit at the cut and ask at every date; the fitted system sees one date's past at a time."""
    fitted = system.fit(shop.past(shop.period.cut), seed=seed, folder=folder, progress=progress)
    asks = [Ask(shop.past(at), shop.cases.users(at), task) for at in shop.period.dates for task in system.tasks]
    asks = [ask for ask in asks if ask.users]
    together = getattr(fitted, "slates_of", None)  # some prefer to hear all questions before they train
    answers: Sequence[Slates]
    if together is not None:
        answers = together(asks)
    else:
        answers = []
        for done, ask in enumerate(asks):
            progress(system.name, done, len(asks))
            answers.append(fitted.slates(ask))
    found: TaskSlates = {task: {} for task in system.tasks}
    for ask, answer in zip(asks, answers, strict=True):
        for user, slate in answer.items():
            found[ask.task][f"{user}@{ask.past.at:%Y-%m-%d}"] = slate
    progress(system.name, len(asks), len(asks))
    return found


def run_system(system: System, shop: Shop, *, data: str, seeds: int, work: Path, progress: Progress) -> Finished:
    """All seeds of one system; finished ones are read back. ``data`` is a digest of the log."""
    runs, seconds = [], 0.0
    for seed in range(min(seeds, system.seeds)):
        digest = digest_of(system, shop, data, seed)
        file = work / "slates" / f"{system.name}-{seed}-{digest}.json"
        if not file.exists():
            started = time.perf_counter()
            own = work / "systems" / f"{system.name}-{seed}-{digest}"
            slates = slates_of(system, shop, seed=seed, folder=own, progress=progress)
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part")
            part.write_text(json.dumps({"seconds": time.perf_counter() - started, "slates": slates}), encoding="utf-8")
            part.replace(file)
        kept: Mapping[str, Any] = json.loads(file.read_text("utf-8"))
        runs.append(cast("TaskSlates", kept["slates"]))
        seconds += float(kept["seconds"])
    return Finished(system, runs, seconds)


def digest_of(system: System, shop: Shop, data: str, seed: int) -> str:
    """12 hexadecimal digits over everything that shapes the slates of one system and seed."""
    told = "\n".join(
        (data, plain({"period": repr(shop.period)}), plain(system.settings), str(seed), code_of(system.modules))
    )
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def data_digest(*frames: pl.DataFrame) -> str:
    """A digest of the rows of data frames."""
    found = hashlib.sha256()
    for frame in frames:
        found.update(frame.hash_rows(seed=0).to_numpy().tobytes())
    return found.hexdigest()
