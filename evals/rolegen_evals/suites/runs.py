"""Runs of a suite on disk: what each was made with, and reading them back for a comparison."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rolegen_errors import InputError

RUN = "run.json"


@dataclass(frozen=True)
class Run:
    """A finished run, with everything that a comparison and a gate need; read without inspect-ai."""

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
    decisions: dict[str, dict[str, Any]]
    """by case: the decision without its observation, which stands in the case"""
    log: str
    """name of inspect's log beside this file"""

    def write(self, folder: Path) -> Path:
        """Write ``run.json`` into the run's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / RUN
        file.write_text(json.dumps(asdict(self), ensure_ascii=False) + "\n", "utf-8")
        return file

    @staticmethod
    def read(path: Path) -> Run:
        """A run's folder or its ``run.json``.

        Raises:
            InputError: there is none, or it is damaged.
        """
        file = path if path.is_file() else path / RUN
        try:
            return Run(**json.loads(file.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
            raise InputError(
                f"the run cannot be read: {error}", where=str(file), fix="rolegen eval run SUITE"
            ) from error


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
