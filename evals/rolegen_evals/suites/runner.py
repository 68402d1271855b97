"""From a project and a suite's folder to a finished run, and from two runs to their comparison."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rolegen_agent import RoleGen
from rolegen_errors import InputError, ProjectError
from rolegen_prompts import PromptPack

from ..results import commit
from .answers import ANSWERS, Recorded, read_answers, write_answers
from .cases import Case, read_cases
from .comparison import Comparison, compare
from .graders import GRADERS
from .runs import RUN, Run, digest, same_suite
from .suite import CASES, RUNS, SETTINGS, Suite, open_suite

if TYPE_CHECKING:
    from .judging import Agreement, Judge

JUDGE = "judge"


def evaluate(
    shop: RoleGen,
    folder: Path,
    *,
    name: str,
    cache: bool,
    at_once: int,
    progress: bool,
    replay: Path | None = None,
    judge: str | None = None,
) -> tuple[Path, Run]:
    """Run a suite with a project as it is set; returns the run's folder and what was measured.

    A finished run is read back. Otherwise the cases that it has decided are kept, and failed ones are tried again.

    Args:
        cache: take answers from inspect's cache, and decisions from other runs of the same configuration.
        replay: recorded answers of an earlier run; no endpoint is then asked.
        judge: the model that answers for the grader ``judge``, at the project's endpoint; None: the project's own.

    Raises:
        InputError: the suite is malformed, or its cases are of another training.
        ProjectError: the run did not end; the same command goes on.
    """
    suite, cases = open_suite(folder)
    assembly = shop.assembly(cases[0].at)
    configuration = assembly.settings.run
    made_of, code = _suite_digest(folder), commit()
    label = re.sub(r"[^\w.-]+", "-", name or assembly.parts.reasoner.name).strip("-") or "run"
    judges = (judge or shop.project.settings.llm.model or "") if JUDGE in suite.graders else ""
    where = folder / RUNS / f"{label}-{digest(configuration, made_of, *([judges] if judges else []))}"
    if (where / RUN).is_file() and replay is None:
        earlier = Run.read(where)
        own = set(suite.graders) - set(GRADERS)  # whose code may have changed: they grade again
        if not own and earlier.commit == code and earlier.values.keys() == {case.case for case in cases}:
            return where, earlier

    from rolegen_agent.llm import check_endpoint

    from .decided import DECIDED, Head, Journal, seen_digest
    from .engine import Setup, run_suite  # needs the extra

    recorded = read_answers(replay) if replay is not None else None
    others = list((folder / RUNS).glob(f"*/{DECIDED}")) if cache else []
    # A replay decides again: it is there to show that nothing but the recorded answers is needed.
    file = where / (DECIDED if replay is None else f"replayed-{DECIDED}")
    if replay is not None:
        file.unlink(missing_ok=True)
    journal = Journal(file, Head(configuration=configuration, code=code), others if replay is None else [])
    asked = open_judge(shop, judge, cache=cache, replay=recorded) if JUDGE in suite.graders else None
    setup = Setup(shop, suite, cache=cache, at_once=at_once, replay=recorded, journal=journal, judge=asked)
    if (
        setup.llm
        and replay is None
        and not all(journal.find(case, seen_digest(case), suite.retellings) for case in cases)
    ):
        llm = shop.project.settings.llm  # one error for an endpoint that is down, and not one for each case
        check_endpoint(llm.base_url, llm.api_key.get_secret_value() if llm.api_key else None, setup.named_model())
    agreed, agreeing = measure_judge(asked, where / "log", recorded) if asked is not None else (None, [])
    ran = run_suite(setup, cases, where / "log", progress=progress)
    if replay is not None:
        file.replace(where / DECIDED)
    pack = assembly.prompts
    run = Run(
        name=label,
        configuration=configuration,
        suite=made_of,
        commit=code,
        prompts={one: f"{pack.get(one).version} {pack.get(one).sha256[:8]}" for one in pack.names()} if pack else {},
        values={case.case: ran.values[case.case] for case in cases if case.case in ran.values},
        failures=ran.failures,
        log=ran.log.name,
        judge=agreed.as_dict() if agreed is not None else {},
        folder=where,
    )
    write_answers([*ran.answers(), *agreeing], where / ANSWERS)
    run.write(where)
    return where, run


def open_judge(shop: RoleGen, model: str | None, *, cache: bool, replay: Mapping[str, Recorded] | None = None) -> Judge:
    """The judge at the project's endpoint, with the rubric of its prompts.

    Raises:
        ProjectError: no model is named.
    """
    from inspect_ai.model import get_model

    from .asking import model_of
    from .judging import Judge

    settings = shop.project.settings
    llm = settings.llm.model_copy(update={"model": model or settings.llm.model})
    if llm.model is None:
        raise ProjectError("the judge has no model", fix="set OPENAI_MODEL, or pass --judge-model NAME")
    own = settings.reasoner.prompts
    pack = PromptPack.load(shop.project.root / own) if own else PromptPack.default()
    model_asked = get_model("mockllm/model") if replay is not None else model_of(llm)
    return Judge(model_asked, llm, pack.get(JUDGE), cache=cache)


def measure_judge(
    judge: Judge, log_folder: Path, replay: Mapping[str, Recorded] | None = None
) -> tuple[Agreement, list[Recorded]]:
    """Hold a judge against the labelled examples; also what it answered."""
    from .engine import run_labelled
    from .judging import agreement, read_labelled

    examples = read_labelled()
    verdicts, answers = run_labelled(judge, examples, log_folder, replay)
    return agreement(examples, verdicts, model=judge.llm.model or "", prompt=judge.rubric), answers


def compare_runs(first: Path, second: Path) -> tuple[Run, Run, list[Case], Comparison]:
    """Read two runs and the suite of the second one, and compare them.

    Raises:
        InputError: they are not of the same suite, or the suite has changed since.
    """
    before, after = Run.read(first), Run.read(second)
    same_suite(before, after)
    for run, where in ((before, first), (after, second)):
        if not run.values:
            why = next(iter(run.failures.values()), "there is none")
            raise InputError(f"no case of run '{run.name}' was finished: {why}", where=str(where))
    folder = (second if second.is_dir() else second.parent).resolve().parents[1]
    if _suite_digest(folder) != after.suite:
        raise InputError("the suite has changed since the runs", where=str(folder), fix="rolegen eval run SUITE")
    cases = read_cases(folder / CASES)
    names = (before.name, after.name) if before.name != after.name else (f"{before.name} (1)", f"{after.name} (2)")
    return before, after, cases, compare(Suite.read(folder), cases, names, before.values, after.values)


def _suite_digest(folder: Path) -> str:
    return digest(*((folder / name).read_text("utf-8") for name in (CASES, SETTINGS)))
