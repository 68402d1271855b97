"""The contract of a system, and how scores become slates.

A system is one small object: ``fit`` learns from the past of the training cut, and what it returns answers an
:class:`Ask`: a date's past, some users, a task. Nothing else reaches it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from rolegen_errors import InputError

from .protocol import TASKS, Floats, Ints, Past, Task

Progress = Callable[[str, int, int], None]
Slates = dict[str, list[str]]
"""user -> item ids, best first"""


@dataclass(frozen=True)
class Ask:
    """One question: the best items for these users at the date of ``past``."""

    past: Past
    users: tuple[str, ...]
    task: Task
    size: int = 10

    @cached_property
    def rows(self) -> Ints:
        """(N,) positions of the users in the past's log."""
        return self.past.rows(self.users)

    @cached_property
    def own(self) -> npt.NDArray[np.bool_]:
        """(N, I) what each user has ever bought."""
        return np.asarray(self.past.counts[self.rows].toarray() > 0)

    def best(self, scores: Floats) -> Slates:
        """Slates from scores (N, I), higher is better; ties go to what sells. In *discovery* own items are barred."""
        if scores.shape != (len(self.users), len(self.past.ids)):
            raise InputError(f"scores have shape {scores.shape}, wanted {(len(self.users), len(self.past.ids))}")
        scale = np.abs(np.where(np.isfinite(scores), scores, 0)).max(axis=1, keepdims=True, initial=0.0)
        scores = scores + (scale + 1e-12) * 1e-7 * self.past.tie
        if self.task == "discovery":
            scores[self.own] = -np.inf
        size = min(self.size, scores.shape[1])
        top = np.argpartition(-scores, size - 1, axis=1)[:, :size]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
        top = np.take_along_axis(top, order, axis=1)
        return {
            user: [str(self.past.ids[item]) for item in row if np.isfinite(scores[place, item])]
            for place, (user, row) in enumerate(zip(self.users, top, strict=True))
        }


class Fitted(Protocol):
    """A system that has learnt."""

    def slates(self, ask: Ask) -> Slates:
        """A slate for every user that is asked about."""
        ...


class System(Protocol):
    """One row of the table. ``settings`` and ``modules`` say what its slates depend on, besides the log."""

    @property
    def name(self) -> str: ...

    @property
    def seeds(self) -> int:
        """How many seeds are worth running: 1 where nothing is random."""
        ...

    @property
    def tasks(self) -> Sequence[Task]:
        """What it is asked; both tasks for a row of the table."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain values, all that was chosen."""
        ...

    @property
    def modules(self) -> Sequence[str]:
        """Python modules whose code shapes the slates; a change of it makes finished slates stale."""
        ...

    def fit(self, past: Past, *, seed: int, folder: Path, progress: Progress) -> Fitted:
        """Learn from all before the training cut; ``folder`` is this system's own, for what it wants to resume."""
        ...


@dataclass(frozen=True)
class Scoring:
    """What most baselines are: for each task, tuned settings and a function from these to scores.

    ``score[task](settings, cut, seed)`` learns from the past of the training cut and returns what answers asks with scores
    (N, I); what it counts as of a date it counts from the ask's own past.
    """

    name: str
    score: Mapping[Task, Callable[[Mapping[str, Any], Past, int], Callable[[Ask], Floats]]]
    tuned: Mapping[Task, Mapping[str, Any]]
    modules: Sequence[str] = ()
    seeds: int = 1
    tasks: Sequence[Task] = TASKS

    @property
    def settings(self) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", self.tuned)

    def fit(self, past: Past, *, seed: int, folder: Path, progress: Progress) -> Fitted:
        return _Scored({task: self.score[task](chosen, past, seed) for task, chosen in self.tuned.items()})


@dataclass(frozen=True)
class _Scored:
    scorers: Mapping[Task, Callable[[Ask], Floats]]

    def slates(self, ask: Ask) -> Slates:
        return ask.best(self.scorers[ask.task](ask))


def code_of(modules: Sequence[str]) -> str:
    """A digest of the source files of modules or, for a package, of all files below it; nothing is imported."""
    found = hashlib.sha256()
    for module in modules:
        spec = find_spec(module)
        if spec is None:
            raise InputError(f"there is no module {module!r}", fix="name modules as they are imported")
        # A package without __init__ is looked for in every folder of the path; the first one is what gets imported.
        folder = next(iter(spec.submodule_search_locations or ()), None)
        files = [Path(str(spec.origin))] if folder is None else list(Path(folder).rglob("*.py"))
        for source in sorted(files):
            found.update(source.read_bytes())
    return found.hexdigest()


def plain(settings: Mapping[str, Any]) -> str:
    """Settings as one line that is the same for equal settings."""
    return json.dumps(settings, sort_keys=True, default=str)
