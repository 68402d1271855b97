"""From a project and a suite's folder to a finished run, and from two runs to their comparison."""

from __future__ import annotations

import re
from pathlib import Path

from rolegen_agent import RoleGen
from rolegen_errors import InputError

from ..results import commit
from .answers import ANSWERS, Recorded, read_answers, write_answers
from .cases import Case, read_cases
from .comparison import Comparison, compare
from .runs import Run, digest, same_suite
from .suite import CASES, RUNS, SETTINGS, Suite, open_suite


def evaluate(
    shop: RoleGen, folder: Path, *, name: str, cache: bool, at_once: int, progress: bool, replay: Path | None = None
) -> tuple[Path, Run]:
    """Run a suite with a project as it is set; returns the run's folder and what was measured.

    Args:
        replay: recorded answers of an earlier run; no endpoint is then asked.

    Raises:
        InputError: the suite is malformed, or its cases are of another training.
        ProjectError: the run did not end; the same command goes on.
    """
    from .engine import Setup, failures, run_suite, values  # needs the extra

    suite, cases = open_suite(folder)
    assembly = shop.assembly(cases[0].at)
    configuration = assembly.settings.run
    made_of = _suite_digest(folder)
    label = re.sub(r"[^\w.-]+", "-", name or assembly.parts.reasoner.name).strip("-") or "run"
    where = folder / RUNS / f"{label}-{digest(configuration, made_of)}"
    recorded = read_answers(replay) if replay is not None else None
    setup = Setup(shop, suite, cache=cache, at_once=at_once, replay=recorded)
    log = run_suite(setup, cases, where / "log", progress=progress)
    pack = assembly.prompts
    run = Run(
        name=label,
        configuration=configuration,
        suite=made_of,
        commit=commit(),
        prompts={one: f"{pack.get(one).version} {pack.get(one).sha256[:8]}" for one in pack.names()} if pack else {},
        values=values(log),
        failures=failures(log),
        decisions={
            str(sample.id): sample.metadata["decision"]
            for sample in log.samples or []
            if sample.error is None and "decision" in sample.metadata
        },
        log=Path(log.location).name,
    )
    answers = [one for sample in log.samples or [] for one in sample.metadata.get("answers", ())]
    write_answers(map(Recorded.model_validate, answers), where / ANSWERS)
    run.write(where)
    return where, run


def compare_runs(first: Path, second: Path) -> tuple[Run, Run, list[Case], Comparison]:
    """Read two runs and the suite of the second one, and compare them.

    Raises:
        InputError: they are not of the same suite, or the suite has changed since.
    """
    before, after = Run.read(first), Run.read(second)
    same_suite(before, after)
    folder = (second if second.is_dir() else second.parent).resolve().parents[1]
    if _suite_digest(folder) != after.suite:
        raise InputError("the suite has changed since the runs", where=str(folder), fix="rolegen eval run SUITE")
    cases = read_cases(folder / CASES)
    names = (before.name, after.name) if before.name != after.name else (f"{before.name} (1)", f"{after.name} (2)")
    return before, after, cases, compare(Suite.read(folder), cases, names, before.values, after.values)


def _suite_digest(folder: Path) -> str:
    return digest(*((folder / name).read_text("utf-8") for name in (CASES, SETTINGS)))
