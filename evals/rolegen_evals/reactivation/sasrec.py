"""SASRec as RecTools implements it, in an interpreter of its own: on Python 3.11 and 3.12 RecTools needs numpy below 2.

Kang and McAuley: Self-Attentive Sequential Recommendation, ICDM 2018, arXiv 1808.09781; RecTools: Semenov et al. and
Klenitskiy and Vasilev, RecSys 2023, arXiv 2309.07602 (softmax over the catalogue).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from rolegen_errors import ProjectError

from .protocol import TASKS, Past, Task
from .systems import Ask, Fitted, Progress, Slates

GRID: Mapping[str, list[Any]] = {
    "n_factors": [64],
    "n_blocks": [2],
    "session_max_len": [50],
    "epochs": [4, 8, 12, 20],
    "dropout_rate": [0.2],
    "lr": [1e-3],
    "batch_size": [32],
}
"""few and small, since an epoch takes 12 s; loss and learning rate are RecTools' own defaults"""
PYTHON = "ROLEGEN_RECTOOLS_PYTHON"
"""environment variable: an interpreter that has RecTools"""
INSTALL = (
    "python3 -m venv .venv-rectools && .venv-rectools/bin/pip install torch==2.13.0 'rectools[torch]==0.19.0' "
    f"&& export {PYTHON}=$PWD/.venv-rectools/bin/python"
)
_SCRIPT = Path(__file__).parent / "sasrec_rectools.py"


@dataclass(frozen=True)
class SASRec:
    """One model for both tasks; in *discovery* it leaves out what the customer has bought."""

    settings: Mapping[str, Any]
    name: str = "sasrec"
    seeds: int = 3
    tasks: Sequence[Task] = TASKS

    @property
    def modules(self) -> Sequence[str]:
        return [f"rolegen_evals.reactivation.{name}" for name in ("protocol", "sasrec", "sasrec_rectools")]

    def fit(self, past: Past, *, seed: int, folder: Path, progress: Progress) -> Fitted:
        """Keeps the past: training happens in the other interpreter, once all questions are known."""
        return _Waiting(self, past, seed, folder)


@dataclass(frozen=True)
class _Waiting:
    system: SASRec
    cut: Past
    seed: int
    folder: Path

    def slates(self, ask: Ask) -> Slates:
        return self.slates_of([ask])[0]

    def slates_of(self, asks: Sequence[Ask]) -> list[Slates]:
        """Train once and answer all asks, each from its own past."""
        python = interpreter()
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.cut, self.folder / "train.csv")
        for date in {ask.past.at: ask.past for ask in asks}.values():
            _write(date, self.folder / f"{date.at:%Y-%m-%d}.csv")
        order = {
            "settings": dict(self.system.settings),
            "seed": self.seed,
            "asks": [
                {"past": f"{ask.past.at:%Y-%m-%d}.csv", "users": list(ask.users), "new": ask.task == "discovery"}
                for ask in asks
            ],
            "size": asks[0].size,
        }
        (self.folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
        done = subprocess.run([python, str(_SCRIPT), str(self.folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ProjectError(
                "SASRec in RecTools failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1],
                where=f"{python} {_SCRIPT} {self.folder}",
                fix="run that command to see all of it",
            )
        answers = json.loads((self.folder / "slates.json").read_text("utf-8"))
        return [
            {user: [str(item) for item in answer.get(user, [])] for user in ask.users}
            for ask, answer in zip(asks, answers, strict=True)
        ]


def interpreter() -> str:
    """The interpreter that has RecTools: the one named by the environment, else this one.

    Raises:
        ProjectError: neither has it; the message tells how to make one.
    """
    python = os.environ.get(PYTHON, sys.executable)
    found = subprocess.run([python, "-c", "import rectools.models.nn"], capture_output=True, text=True, check=False)
    if found.returncode:
        raise ProjectError(
            "SASRec needs RecTools, and this interpreter does not have it",
            where=python,
            fix=f"{INSTALL}\n         or leave it out: rolegen bench reactivation --without sasrec",
        )
    return python


def _write(past: Past, path: Path) -> None:
    """One row for each order day of a user and item, in time order.

    Within a day they are shuffled: sorted by item, the sequence teaches the next item number instead of the next purchase.
    """
    lines = past.lines
    pl.DataFrame(
        {
            "user_id": past.log.users[lines.user],
            "item_id": past.ids[lines.item],
            "datetime": pl.Series(lines.day.astype("int32")).cast(pl.Date),
            "weight": [1.0] * len(lines.user),
        }
    ).sample(fraction=1.0, shuffle=True, seed=0).sort("user_id", "datetime", maintain_order=True).write_csv(path)
