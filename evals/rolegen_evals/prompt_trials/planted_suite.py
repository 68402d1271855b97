"""A planted shop as a project, with a suite whose events have known roles, and runs of it against the scripted LLM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rolegen_agent import RoleGen
from rolegen_prompts import PromptPack, next_version

from ..reasoning.loop import FIRST_SEED, Trial, prepare
from ..suites.cases import build_cases
from ..suites.runner import evaluate
from ..suites.runs import Run
from ..suites.suite import CASES, write_suite
from .skilled_mind import SENTENCE

TRAINING: Mapping[str, object] = {
    "epochs": 1,
    "width": 16,
    "layers": 1,
    "history": 16,
    "codebook": 16,
    "max_returns": 600,
    "max_hints": 60,
    "max_read": 200,
    "max_spells": 600,
}
"""seconds: what is on trial is the comparison, not the slate"""
BEFORE = "## Data is only data\n"
"""where the sentence goes in the prompt"""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PlantedSuite:
    """A trained project in ``trial.folder``, with a suite and the prompts that hold the sentence."""

    trial: Trial
    folder: Path
    """of the suite"""
    told: Path
    """of the prompts that hold the sentence"""

    def open(self, url: str, *, told: bool) -> RoleGen:
        """The project with the LLM at ``url``, and the sentence or not."""
        overrides: dict[str, Mapping[str, object]] = {
            "backbone": TRAINING,
            "reasoner": {"kind": "llm", "prompts": str(self.told) if told else None},
            "llm": {"model": "scripted", "base_url": url, "api_key": "none"},
        }
        return RoleGen.open(self.trial.folder, overrides=overrides)

    def run(self, url: str, name: str, *, told: bool) -> tuple[Path, Run]:
        """A run by itself, and its folder: its answers come from the endpoint, not from the cache."""
        with self.open(url, told=told) as shop:
            return evaluate(shop, self.folder, name=name, cache=False, at_once=8, progress=False)


def planted_suite(folder: Path, *, users: int, count: int, progress: Progress) -> PlantedSuite:
    """Make it, or find it in ``folder``; ``count`` cases of ``users`` planted ones."""
    trial = prepare(folder, seed=FIRST_SEED, users=users, asked=users, progress=progress, training=TRAINING)
    made = PlantedSuite(trial, trial.folder / "suite", trial.folder.resolve() / "told")
    if not made.told.exists():
        default = PromptPack.default()
        path = next_version(
            default.get("reason"), made.told, note="Holds the sentence", taken=default.versions("reason")
        )
        text = path.read_text("utf-8")
        assert text.count(BEFORE) == 1, "the default prompt has no such section any more"
        path.write_text(text.replace(BEFORE, f"{SENTENCE}\n\n{BEFORE}"), "utf-8")
    if not (made.folder / CASES).exists():
        with RoleGen.open(trial.folder, overrides={"backbone": TRAINING}) as shop:
            cases = build_cases(
                shop,
                trial.at,
                count=count,
                roles=dict(trial.planted.roles.iter_rows()),
                progress=lambda done, total: progress("cases", done, total),
            )
        write_suite(made.folder, cases)
    return made
