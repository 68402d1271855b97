"""One update: artefacts as of a cut from older ones and what happened since."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ..artefacts import Progress, known_items, learn_evidence, open_backbone, train_config
from ..dormant import dormant_users
from ..outlook import Outlook
from ..showing import write_weight
from .experience import learnable
from .weighing import choose_weight

if TYPE_CHECKING:
    from ..memory.records import Experience
    from ..project import Project, Settings

TOLD = "update.json"


def update(
    project: Project,
    old: Path,
    since: datetime,
    cut: datetime,
    folder: Path,
    found: Sequence[Experience],
    *,
    weight: float | None,
    progress: Progress,
) -> dict[str, Any]:
    """Build artefacts as of ``cut`` in ``folder`` from those in ``old``, whose cut is ``since``; a finished folder is left as it is.

    Args:
        found: decisions whose outcome was known before ``cut``.
        weight: of the effects of showing; None has it chosen.

    Returns:
        What was learnt, plain values, also kept in the folder.
    """
    from rolegen_backbone.fine_tuning import TuneConfig, fine_tune

    told_file = folder / TOLD
    if told_file.exists():
        told: dict[str, Any] = json.loads(told_file.read_text("utf-8"))
        return told
    settings = project.settings
    folder.mkdir(parents=True, exist_ok=True)
    events, backbone = open_backbone(project, old, cut)
    experience = learnable(found, backbone.log)
    wanted = settings.improve
    tuned = fine_tune(
        backbone,
        train_config(settings),
        TuneConfig(
            epochs=wanted.epochs,
            rate=wanted.rate,
            step=wanted.step,
            returns=wanted.returns,
            trust=wanted.trust,
            outcome=wanted.outcome,
        ),
        since=since,
        as_of=cut,
        reasoned=experience.by_reasoner,
        folder=folder / "tuning",
        progress=progress,
    )
    progress("evidence", 0, 1)
    evidence = learn_evidence(project, events, known_items(project, cut), cut, folder / "evidence")
    progress("evidence", 1, 1)
    outlook = Outlook.of(events, backbone.items, cut, evidence.options, settings.slate.horizon_days)
    told = {
        "as_of": cut.isoformat(),
        "outcomes": len(found),
        "learnt_from": {reasoner: len(some) for reasoner, some in experience.by_reasoner.items()},
        "left_out": experience.left_out,
        "tuned": tuned.manifest["tuned"],
    }
    if weight is None:
        progress("showing", 0, 1)
        chosen = choose_weight(tuned, evidence, events, sample(events, cut, settings), cut, settings, outlook)
        weight, told["showing"] = chosen.weight, asdict(chosen)
        progress("showing", 1, 1)
    tuned.save(folder / "backbone")
    outlook.save(folder)
    write_weight(folder, weight)
    part = told_file.with_suffix(".part")
    part.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    part.replace(told_file)  # last: its presence says that the update is whole
    return told


def sample(events: pl.DataFrame, at: datetime, settings: Settings) -> list[str]:
    """At most ``tested_on`` users who are dormant at ``at``; the same ones each time."""
    users = dormant_users(events.lazy(), at, settings.dormancy)["user"].sort()
    chosen: list[str] = users.sample(min(len(users), settings.improve.tested_on), seed=0).sort().to_list()
    return chosen
