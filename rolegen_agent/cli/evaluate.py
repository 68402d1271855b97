"""``eval``: cases, runs, comparisons and the gate for whoever changes a prompt, a model or a setting."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rolegen_errors import MissingExtraError

from ..facade import RoleGen
from .options import JsonOption, ProjectOption, PromptsOption
from .show import as_json, bars, err, out

if TYPE_CHECKING:
    from rolegen_evals.suites.runs import Run

SuiteArgument = Annotated[Path, typer.Argument(help="Folder of the suite.")]
DEFAULT_PROMPTS = "default"
FAILED_SHOWN = 3
"""failed cases that the terminal names; all stand in the run"""


def cases(
    suite: SuiteArgument,
    at: Annotated[
        str | None, typer.Option("--at", help="Decision time, YYYY-MM-DD: nothing from then on is seen.")
    ] = None,
    world: Annotated[
        str | None,
        typer.Option("--world", help="Plant a shop whose roles are known, in SUITE/world: 'staged' or 'pressed'."),
    ] = None,
    users: Annotated[int, typer.Option("--users", min=50, help="Customers of the planted shop.")] = 2000,
    count: Annotated[int, typer.Option("--count", min=1, help="Cases, spread over kinds of users.")] = 300,
    seed: Annotated[int, typer.Option("--seed", help="Which users are drawn, and which shop is planted.")] = 0,
    returned: Annotated[
        float, typer.Option("--returned", min=0, max=1, help="Share of users who came back, if that is known.")
    ] = 0.5,
    project: ProjectOption = None,
) -> None:
    """Make a suite of pinned decisions on dormant users: of a log at a date (it must be trained for that), or of a planted shop."""
    from rolegen_evals.suites.cases import build_cases
    from rolegen_evals.suites.suite import write_suite

    if (at is None) == (world is None):
        raise typer.BadParameter("pass either --at DATE, for cases of your log, or --world NAME")
    with bars() as progress:
        if world is not None:
            from rolegen_evals.suites.planted import world_cases

            made = world_cases(suite, world, users=users, count=count, seed=seed, returned=returned, progress=progress)
        else:
            assert at is not None
            with RoleGen.open(project) as shop:
                made = build_cases(
                    shop,
                    at,
                    count=count,
                    seed=seed,
                    returned=returned,
                    progress=lambda done, total: progress("cases", done, total),
                )
    write_suite(suite, made)
    back = sum(bool(case.bought) for case in made)
    kinds = len({tuple(case.strata.values()) for case in made})
    out.print(
        f"{len(made):,} cases of {kinds} kinds, {back:,} of users who came back, in {suite}",
        markup=False,
        soft_wrap=True,
    )
    if len(made) < count:
        err.print(f"{count:,} were asked for: no more users are dormant", style="bold")
    out.print(f"next: rolegen eval run {suite}", markup=False, soft_wrap=True)


def run(
    suite: SuiteArgument,
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompts", help="Folder of prompts, or 'default'; each one given is a run of its own."),
    ] = None,
    reasoner: Annotated[str | None, typer.Option("--reasoner", help="evidence or llm; else as in the project.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model name for --reasoner llm.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run; else it is made of prompts, model and project file.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge-model", help="Model for the grader 'judge'; else that of the project.")
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Take answers and decisions from earlier runs.")
    ] = True,
    replay: Annotated[
        Path | None, typer.Option("--replay", help="Answers of an earlier run (answers.jsonl): no endpoint, no key.")
    ] = None,
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="Cases under way at the same time.")] = 8,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Decide on every case and grade it. The same command goes on with a stopped or killed run, and tries failed cases again.

    A whole configuration is compared by another project file beside the first: --project shop/other.toml.
    """
    _require()
    chosen: list[str | None] = [*prompts] if prompts else [None]
    if name and len(chosen) > 1:
        raise typer.BadParameter("--name goes with one --prompts")
    where_from = project if project is not None else planted_project(suite)
    file = where_from.stem if where_from is not None and where_from.suffix == ".toml" else ""
    wanted = []
    for folder in chosen:
        reasoning: dict[str, object] = {"kind": reasoner} if reasoner else {}
        if folder is not None:
            reasoning["prompts"] = None if folder == DEFAULT_PROMPTS else str(Path(folder).resolve())
        parts = (Path(folder).name if folder else "", model, file if file != "rolegen" else "")
        wanted.append(
            _Wanted(
                suite=suite,
                project=where_from,
                overrides={"reasoner": reasoning, "llm": {"model": model} if model else {}},
                name=name or "-".join(part for part in parts if part),
                cache=cache,
                replay=replay,
                judge=judge,
            )
        )
    done = _side_by_side(wanted, at_once) if len(wanted) > 1 else [_evaluate(wanted[0], at_once, err.is_terminal)]
    if json:
        as_json([_as_dict(where, one) for where, one in done])
    else:
        for where, one in done:
            _show(where, one)
        if len(done) == 2:
            names = f"{done[0][1].name} {done[1][1].name} --suite {suite}"
            out.print(f"next: rolegen eval compare {names} --report page.html", markup=False, soft_wrap=True)


def compare(
    first: Annotated[str, typer.Argument(help="What it was: a run's folder, or with --suite its name.")],
    second: Annotated[str, typer.Argument(help="What it would be: likewise.")],
    suite: Annotated[Path | None, typer.Option("--suite", help="Folder of the suite that the names belong to.")] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with charts and traces to this file.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the table to this file.")] = None,
    json: JsonOption = False,
) -> None:
    """What changed between two runs of a suite, how sure that is, and for whom."""
    from rolegen_evals.suites import page
    from rolegen_evals.suites.runner import compare_runs
    from rolegen_evals.suites.runs import find_run

    folders = find_run(first, suite), find_run(second, suite)
    before, after, made, found = compare_runs(*folders)
    text = page.markdown(found, (before, after))
    if markdown is not None:
        markdown.write_text(text, "utf-8")
    if report is not None:
        page.write_comparison(report, found, made, (before, after), folders)
    if json:
        failed = dict(zip(found.names, (before.failures, after.failures), strict=True))
        as_json({**found.as_dict(), "failures": failed})
        return
    out.print(text, markup=False, soft_wrap=True)
    for file in (markdown, report):
        if file is not None:
            out.print(f"wrote {file}", markup=False, soft_wrap=True)


def gate(
    run_folder: Annotated[
        str, typer.Argument(metavar="RUN", help="The run that is to be let in: its folder, or with --suite its name.")
    ],
    baseline: Annotated[
        str, typer.Option("--baseline", help="The run that it must not fall behind: run.json, folder, or name.")
    ],
    suite: Annotated[Path | None, typer.Option("--suite", help="Folder of the suite that the name belongs to.")] = None,
    json: JsonOption = False,
) -> None:
    """Exit with code 1 when a primary measure may be worse than the baseline by more than its margin, or a case failed."""
    from rolegen_evals.suites.comparison import worse_than_allowed
    from rolegen_evals.suites.runner import compare_runs
    from rolegen_evals.suites.runs import find_run
    from rolegen_evals.suites.suite import open_suite

    folder = find_run(run_folder, suite)
    before = Path(baseline)
    _, after, _, found = compare_runs(before if before.exists() else find_run(baseline, suite), folder)
    settings, _ = open_suite(folder.resolve().parents[1])
    lost = worse_than_allowed(found, settings.primary)
    failed = [f"case {case} failed: {why}" for case, why in after.failures.items()]
    if json:
        as_json({"passed": not lost and not failed, "worse": lost, "failed": failed, "silent": list(found.silent)})
    elif lost or failed:
        for said in lost:
            err.print(f"worse: {said}", style="bold red", markup=False, soft_wrap=True)
        for said in failed[:FAILED_SHOWN]:
            err.print(said, markup=False, soft_wrap=True)
    else:
        told = [name for name in settings.primary if name not in found.silent]
        out.print(f"not worse on {found.cases:,} cases: {', '.join(told)}", markup=False, soft_wrap=True)
        if found.silent:
            out.print(f"neither run says anything of: {', '.join(found.silent)}", markup=False, soft_wrap=True)
    if lost or failed:
        raise typer.Exit(1)


def judge(
    model: Annotated[str | None, typer.Option("--model", help="The judge; else the model of the project.")] = None,
    prompts: PromptsOption = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a judge: let it look at labelled examples, and say how far its verdicts agree with the labels."""
    _require()
    from rolegen_evals.suites.judging import CRITERIA
    from rolegen_evals.suites.runner import measure_judge, open_judge

    overrides = {"reasoner": {"prompts": str(prompts.resolve())}} if prompts else {}
    with RoleGen.open(project, overrides=overrides) as shop:
        asked = open_judge(shop, model, cache=True)
        found, _ = measure_judge(asked, shop.project.store / "judge")
    if json:
        as_json(found.as_dict())
        return
    table = Table("criterion", "equal verdicts", "kappa")
    for name in (*CRITERIA, "all"):
        kappa = found.kappa[name]
        table.add_row(name, f"{found.exact[name]:.0%}", "not defined" if kappa is None else f"{kappa:.2f}")
    out.print(table)
    out.print(
        f"{found.model} with rubric {found.prompt} on {found.examples} labelled examples, {found.invalid} without a valid answer",
        markup=False,
        soft_wrap=True,
    )
    out.print("kappa: 1 for full agreement, 0 for that of chance; the examples hold plain faults only", style="dim")


def planted_project(suite: Path) -> Path | None:
    """The project of a suite's planted shop, if it has one."""
    folder = suite / "world"
    return folder if (folder / "rolegen.toml").is_file() else None


@dataclass(frozen=True)
class _Wanted:
    """One run, as another process can be told of it."""

    suite: Path
    project: Path | None
    overrides: Mapping[str, Mapping[str, object]]
    name: str
    cache: bool
    replay: Path | None
    judge: str | None


def _evaluate(wanted: _Wanted, at_once: int, progress: bool) -> tuple[Path, Run]:
    from rolegen_evals.suites.runner import evaluate

    with RoleGen.open(wanted.project, overrides=wanted.overrides) as shop:
        return evaluate(
            shop,
            wanted.suite,
            name=wanted.name,
            cache=wanted.cache,
            at_once=at_once,
            progress=progress,
            replay=wanted.replay,
            judge=wanted.judge,
        )


def _side_by_side(wanted: Sequence[_Wanted], at_once: int) -> list[tuple[Path, Run]]:
    """Runs of several prompts in a process each, as many as there are cores: one interpreter does nearly all of a run's work.

    The first error is raised after the other runs have ended, whose results are kept.
    """
    workers = min(len(wanted), os.cpu_count() or 1)
    share = max(1, at_once // workers)
    with bars() as progress, ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        progress("runs", 0, len(wanted))
        waiting = [pool.submit(_evaluate, one, share, False) for one in wanted]
        for count, _ in enumerate(as_completed(waiting), start=1):
            progress("runs", count, len(wanted))
        return [one.result() for one in waiting]


def _as_dict(where: Path, one: Run) -> dict[str, object]:
    return {
        "folder": str(where),
        "name": one.name,
        "cases": len(one.values),
        "failed": len(one.failures),
        "failures": one.failures,
        "judge": one.judge,
    }


def _show(where: Path, one: Run) -> None:
    failed = f", {len(one.failures):,} failed" if one.failures else ""
    out.print(f"{one.name}: {len(one.values):,} cases{failed}; {where}", markup=False, soft_wrap=True)
    for case, why in list(one.failures.items())[:FAILED_SHOWN]:
        err.print(f"  case {case}: {why}", markup=False, soft_wrap=True)
    if one.failures:
        err.print("the same command tries failed cases again", style="bold")
    if one.judge:
        from rolegen_evals.suites.page import judge_words

        out.print(f"judge: {judge_words(one.judge)}", markup=False, soft_wrap=True)


def _require() -> None:
    try:
        import inspect_ai  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("inspect-ai", "eval") from error
