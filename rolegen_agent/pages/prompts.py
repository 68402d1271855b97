"""Prompts: every version that was used, where, at what cost, with what became of it, and what evals said."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from fastapi import FastAPI, Request
from fastapi.responses import Response

from rolegen_errors import InputError

from ..memory.browsing import PromptUse
from ..memory.records import PromptText
from .site import Site


@dataclass(frozen=True)
class Version:
    """One version of a prompt: its text, what changed to the one before, and where it was used."""

    text: PromptText
    diff: tuple[tuple[str, str], ...]
    """(``+``, ``-`` or blank, line)"""
    use: PromptUse | None


@dataclass(frozen=True)
class EvalResult:
    """What one run of a suite measured: the mean of each grader over its cases."""

    suite: str
    run: str
    configuration: str
    prompts: dict[str, str]
    """by name: version and the beginning of the hash"""
    cases: int
    means: dict[str, float]

    def used(self, name: str, version: str, hash: str) -> bool:
        """Whether it was made with that prompt."""
        said = self.prompts.get(name, "").split()
        return len(said) == 2 and said[0] == version and hash.startswith(said[1])


def add(app: FastAPI, site: Site) -> None:
    """Its address: ``/prompts``, with ``?name=NAME`` for the versions of one."""

    @app.get("/prompts")
    def prompts(request: Request, name: str = "", version: str = "", hash: str = "") -> Response:
        results = list(read_results(site.evals))
        uses = site.memory.prompt_uses(name or None)
        if not name:
            return site.page(request, "prompts.html.jinja", title="Prompts", uses=uses, results=results)
        texts = site.memory.prompt_texts(name)
        if not texts:
            raise InputError("no call was made with such a prompt", fix="`rolegen prompts list` shows what there is")
        versions = list(reversed(_versions(texts, uses)))
        shown = [one for one in versions if (version in ("", one.text.version)) and (hash in ("", one.text.hash))]
        return site.page(
            request,
            "prompt.html.jinja",
            title=f"Prompt {name}",
            name=name,
            versions=shown or versions,
            only=bool(version or hash) and bool(shown),
            results=results,
        )


def _versions(texts: Sequence[PromptText], uses: Sequence[PromptUse]) -> list[Version]:
    used = {(one.prompt_version, one.prompt_hash): one for one in uses}
    found, before = [], ""
    for text in texts:
        lines = difflib.ndiff(before.splitlines(), text.text.splitlines()) if before else ()
        diff = tuple((line[0], line[2:]) for line in lines if line[0] in "+-")
        found.append(Version(text, diff, used.get((text.version, text.hash))))
        before = text.text
    return found


def read_results(folders: Sequence[Path]) -> Iterator[EvalResult]:
    """The runs of suites of ``rolegen eval``.

    Raises:
        InputError: a run's file is damaged.
    """
    for folder in folders:
        for file in sorted(folder.glob("runs/*/run.json")):
            try:
                made = json.loads(file.read_text("utf-8"))
                values: dict[str, dict[str, float]] = made["values"]
                graders = sorted({grader for one in values.values() for grader in one})
                yield EvalResult(
                    suite=folder.name,
                    run=str(made["name"]),
                    configuration=str(made["configuration"]),
                    prompts={str(name): str(said) for name, said in made["prompts"].items()},
                    cases=len(values),
                    means={
                        one: fmean([float(case[one]) for case in values.values() if one in case]) for one in graders
                    },
                )
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"the run of a suite cannot be read: {error}", where=str(file), fix="rolegen eval run SUITE"
                ) from error
