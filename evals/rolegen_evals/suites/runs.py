"""Runs of a suite on disk: what each was made with, and reading them back for a comparison."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rolegen_errors import InputError

from .decided import read_decided
from .suite import RUNS

RUN = "run.json"


@dataclass(frozen=True)
class Run:
    """A finished run: all that a verdict and a gate need, small enough to be committed, and read without inspect-ai.

    The decisions stand in ``decided.jsonl`` beside it; without that file a comparison shows no traces.
    """

    name: str
    configuration: str
    """name of reasoner, settings and prompts, as runs of ``awaken`` are named"""
    suite: str
    """digest of cases and settings: only runs of one suite can be compared"""
    commit: str
    prompts: dict[str, str]
    """name -> version and hash; empty where no LLM was involved"""
    values: dict[str, dict[str, float]]
    """by case, by grader"""
    failures: dict[str, str]
    """by case: why it could not be decided on or graded"""
    log: str
    """name of inspect's log beside this file"""
    judge: dict[str, Any] = field(default_factory=dict)
    """who judged, by which rubric, and how far that judge agrees with labelled examples; empty without a judge"""

    folder: Path | None = field(default=None, compare=False, repr=False)
    """where it lies; not part of the file"""

    @cached_property
    def decisions(self) -> Mapping[str, dict[str, Any]]:
        """By case: the decision without its observation, which stands in the case; empty where only ``run.json`` was kept."""
        found = read_decided(self.folder, self.values.keys()) if self.folder is not None else {}
        return {case: json.loads(one.decision) for case, one in found.items()}

    def write(self, folder: Path) -> Path:
        """Write ``run.json`` into the run's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / RUN
        kept = {name: value for name, value in asdict(self).items() if name != "folder"}
        text = json.dumps(kept, ensure_ascii=False, sort_keys=True, indent=0)
        new = file.with_suffix(".new")
        new.write_text(f"{text}\n", "utf-8")
        new.replace(file)
        return file

    @staticmethod
    def read(path: Path) -> Run:
        """A run's folder or its ``run.json``.

        Raises:
            InputError: there is none, or it is damaged.
        """
        file = path if path.is_file() else path / RUN
        try:
            return Run(**json.loads(file.read_text("utf-8")), folder=file.parent)
        except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
            raise InputError(
                f"the run cannot be read: {error}", where=str(file), fix="rolegen eval run SUITE"
            ) from error


def find_run(named: str, suite: Path | None) -> Path:
    """A run by its folder or ``run.json``, or by its name within a suite: the latest of that name.

    Raises:
        InputError: there is none.
    """
    if suite is None:
        return Path(named)
    runs = [path.parent for path in (suite / RUNS).glob(f"*/{RUN}")]
    found = [folder for folder in runs if named in (folder.name, folder.name.rpartition("-")[0])]
    if not found:
        known = sorted({folder.name.rpartition("-")[0] for folder in runs})
        raise InputError(
            f"the suite has no run called {named!r}",
            where=str(suite / RUNS),
            fix=f"there are: {', '.join(known)}" if known else f"rolegen eval run {suite}",
        )
    return max(found, key=lambda folder: (folder / RUN).stat().st_mtime)


def digest(*parts: str) -> str:
    """8 hexadecimal digits over texts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def same_suite(first: Run, second: Run) -> None:
    """Raise ``InputError`` unless both were made on the same cases with the same settings."""
    if first.suite != second.suite:
        raise InputError(
            "the runs are of different suites: cases or settings changed in between",
            where=f"{first.name} ({first.suite}), {second.name} ({second.suite})",
            fix="run both again: rolegen eval run SUITE",
        )
