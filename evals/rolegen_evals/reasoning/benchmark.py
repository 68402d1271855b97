"""All of ``rolegen bench reasoning``: effects, roles, seconds, and the loop with scripted LLMs and, where one is configured, a real one.

Finished parts are kept in the work folder under a digest of the code that made them, so that a stopped run goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..reactivation.systems import code_of
from ..results import Result, commit, machine
from ..worlds import Knobs
from .effects import effect_figures
from .loop import loop_figures
from .roles import role_figures
from .speed import speed_figures

SEEDS, USERS, MOMENTS = 5, 20_000, 900
"""as the figures are stated; ``--quick`` takes less of everything, for the shape only"""
SHOPS = 3
"""planted shops that slates are judged in: one is not enough to tell a tenth of recall from chance"""
CODE = ("rolegen_agent.evidence", "rolegen_agent.reasoning", "rolegen_evals.worlds", "rolegen_evals.reasoning")
LOOP_CODE = (*CODE, "rolegen_graphs", "rolegen_backbone", "rolegen_agent.grounding", "rolegen_prompts")
Progress = Callable[[str, int, int], None]
Figure = TypeVar("Figure")
"""a number, or whatever else is plain JSON"""


@dataclass(frozen=True)
class Parts:
    """Figures of finished parts, one JSON file each."""

    folder: Path

    def once(
        self, name: str, code: tuple[str, ...], asked: object, measure: Callable[[], dict[str, Figure]]
    ) -> dict[str, Figure]:
        """What ``measure`` gave, now or before with the same code and the same wishes."""
        file = self.folder / f"{name}.json"
        key = f"{code_of(code)} {asked!r}"
        if file.is_file():
            kept = json.loads(file.read_text("utf-8"))
            if kept["key"] == key:
                return dict(kept["figures"])
        found = measure()
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".tmp")
        draft.write_text(json.dumps({"key": key, "figures": found}, indent=1), "utf-8")
        draft.replace(file)
        return found


def run_reasoning(*, work: Path, progress: Progress, quick: bool, seeds: int | None) -> Result:
    """Measure everything; see the modules of this package for what the figures mean."""
    started = time.perf_counter()
    parts, count = Parts(work), seeds or (1 if quick else SEEDS)
    users, moments = (1_500, 40) if quick else (USERS, MOMENTS)
    figures: dict[str, float] = {}
    for task, world in (("effects", "staged"), ("unseen", "pressed")):
        figures |= parts.once(
            task,
            CODE,
            (count, users, moments),
            partial(
                effect_figures,
                task,
                world,
                seeds=count,
                users=users,
                moments=moments,
                knobs=Knobs(),
                progress=progress,
            ),
        )
    judged = 100 if quick else 600
    figures |= parts.once(
        "roles",
        CODE,
        (users, judged, quick),
        lambda: role_figures(users=users, judged=judged, quick=quick, progress=progress),
    )
    figures |= parts.once("speed", CODE, quick, lambda: speed_figures(work, quick=quick, progress=progress))
    planted, asked, broken = (1_200, 12, 2) if quick else (10_000, 400, 40)
    shops = min(count, SHOPS)
    model = os.environ.get("OPENAI_MODEL")
    figures |= parts.once(
        "loop",
        LOOP_CODE,
        (shops, planted, asked, broken, model),
        # A memory of other code must not answer for this one: its decisions would be taken for finished.
        lambda: loop_figures(
            work / f"shop-{code_of(LOOP_CODE)[:12]}",
            shops=shops,
            users=planted,
            asked=asked,
            broken=broken,
            model=model,
            progress=progress,
        ),
    )
    return Result(
        name="reasoning",
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures=figures,
    )
