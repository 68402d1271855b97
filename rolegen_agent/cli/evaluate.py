"""``eval``: cases, runs, comparisons and the gate for whoever changes a prompt, a model or a setting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rolegen_errors import MissingExtraError

from ..facade import RoleGen
from .options import AtOption, JsonOption, ProjectOption
from .show import as_json, bars, err, out

if TYPE_CHECKING:
    from rolegen_evals.suites.runs import Run

SuiteArgument = Annotated[Path, typer.Argument(help="Folder of the suite.")]
DEFAULT_PROMPTS = "default"


def cases(
    suite: SuiteArgument,
    at: AtOption,
    count: Annotated[int, typer.Option("--count", min=1, help="Cases, spread over kinds of users.")] = 300,
    seed: Annotated[int, typer.Option("--seed", help="Which users are drawn.")] = 0,
    returned: Annotated[
        float, typer.Option("--returned", min=0, max=1, help="Share of users who came back, if that is known.")
    ] = 0.5,
    project: ProjectOption = None,
) -> None:
    """Make a suite out of the log: pinned decisions on dormant users at a date. Needs a training up to that date."""
    from rolegen_evals.suites.cases import build_cases
    from rolegen_evals.suites.suite import write_suite

    with RoleGen.open(project) as shop, bars() as progress:
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
    out.print(f"{len(made):,} cases, {back:,} of users who came back, in {suite}", markup=False, soft_wrap=True)
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
        str | None, typer.Option("--name", help="Name of the run; else it is made of prompts and model.")
    ] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Answer equal requests from the cache.")] = True,
    replay: Annotated[
        Path | None, typer.Option("--replay", help="Answers of an earlier run (answers.jsonl): no endpoint, no key.")
    ] = None,
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="Cases under way at the same time.")] = 8,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Decide on every case and grade it. A stopped or killed run goes on with the same command."""
    _require()
    from rolegen_evals.suites.runner import evaluate

    chosen: list[str | None] = [*prompts] if prompts else [None]
    if name and len(chosen) > 1:
        raise typer.BadParameter("--name goes with one --prompts")
    done: list[tuple[Path, Run]] = []
    for folder in chosen:
        reasoning: dict[str, object] = {}
        if reasoner:
            reasoning["kind"] = reasoner
        if folder is not None:
            reasoning["prompts"] = None if folder == DEFAULT_PROMPTS else str(Path(folder).resolve())
        overrides: dict[str, dict[str, object]] = {"reasoner": reasoning, "llm": {"model": model} if model else {}}
        label = name or "-".join(part for part in (Path(folder).name if folder else None, model) if part)
        with RoleGen.open(project, overrides=overrides) as shop:
            done.append(
                evaluate(shop, suite, name=label, cache=cache, at_once=at_once, progress=err.is_terminal, replay=replay)
            )
    if json:
        as_json(
            [
                {"folder": str(where), "name": one.name, "cases": len(one.values), "failed": len(one.failures)}
                for where, one in done
            ]
        )
    for where, one in done:
        if not json:
            failed = f", {len(one.failures):,} failed" if one.failures else ""
            out.print(f"{one.name}: {len(one.values):,} cases{failed}; {where}", markup=False, soft_wrap=True)
            for case, why in list(one.failures.items())[:3]:
                err.print(f"  case {case}: {why}", markup=False, soft_wrap=True)
    if not json and len(done) == 2:
        out.print(f"next: rolegen eval compare {done[0][0]} {done[1][0]}", markup=False, soft_wrap=True)


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a run: what it was.")],
    second: Annotated[Path, typer.Argument(help="Folder of a run: what it would be.")],
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with charts and traces to this file.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the table to this file.")] = None,
    json: JsonOption = False,
) -> None:
    """What changed between two runs of a suite, how sure that is, and for whom."""
    from rolegen_evals.suites import page
    from rolegen_evals.suites.runner import compare_runs

    before, after, made, found = compare_runs(first, second)
    text = page.markdown(found)
    if markdown is not None:
        markdown.write_text(text, "utf-8")
    if report is not None:
        page.write_comparison(report, found, made, (before, after))
    if json:
        as_json(found.as_dict())
        return
    out.print(text, markup=False, soft_wrap=True)
    for file in (markdown, report):
        if file is not None:
            out.print(f"wrote {file}", markup=False, soft_wrap=True)


def gate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run that is to be let in.")],
    baseline: Annotated[
        Path, typer.Option("--baseline", help="run.json, or folder, of the run that it must not fall behind.")
    ],
    json: JsonOption = False,
) -> None:
    """Exit with code 1 when a primary measure may be worse than the baseline by more than its margin."""
    from rolegen_evals.suites.comparison import worse_than_allowed
    from rolegen_evals.suites.runner import compare_runs
    from rolegen_evals.suites.suite import open_suite

    _, _, _, found = compare_runs(baseline, run_folder)
    settings, _ = open_suite(run_folder.resolve().parents[1])
    lost = worse_than_allowed(found, settings.primary)
    if json:
        as_json({"passed": not lost, "worse": lost})
    elif lost:
        for said in lost:
            err.print(f"worse: {said}", style="bold red", markup=False, soft_wrap=True)
    else:
        out.print(f"not worse on {found.cases:,} cases: {', '.join(settings.primary)}")
    if lost:
        raise typer.Exit(1)


def _require() -> None:
    try:
        import inspect_ai  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("inspect-ai", "eval") from error
