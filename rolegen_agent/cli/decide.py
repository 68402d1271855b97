"""``awaken`` and ``explain``: decisions and their traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from shlex import quote
from typing import Annotated

import typer
from rich.prompt import Confirm
from rich.table import Table
from rich.text import Text

from rolegen_errors import ProjectError

from ..allocation import Allocation, LlmBudget
from ..facade import RoleGen
from ..processes import awaken_in_processes
from ..report.text import bounded
from ..report.words import reasoner_words
from .forecast import show_forecast
from .options import AtOption, JsonOption, ProjectOption, PromptsOption, RayOption, RayWorkersOption
from .show import BUDGET_MET, as_json, bars, err, out, stop_on_interrupt


def awaken(
    at: AtOption,
    project: ProjectOption = None,
    user: Annotated[list[str] | None, typer.Option("--user", "-u", help="Only these users; may be repeated.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many users; 0 means all.")] = 0,
    reasoner: Annotated[
        str | None,
        typer.Option("--reasoner", help="evidence (log statistics), llm or student; else as in the project."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model name for --reasoner llm.")] = None,
    prompts: PromptsOption = None,
    llm_budget: Annotated[
        str | None,
        typer.Option(
            "--llm-budget",
            metavar="N|N.NNusd",
            help="Spend so many LLM calls, or dollars, on the users for whom thinking matters most.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before an LLM run.")] = False,
    forecast: Annotated[
        bool, typer.Option("--forecast", help="Only say what the LLM run will about cost; nothing is sent.")
    ] = False,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Decide on every dormant user and remember it. Ctrl-C stops cleanly; the same command goes on where it stopped."""
    from ..telemetry.export import exported_spans

    overrides: dict[str, dict[str, object]] = {}
    if reasoner:
        overrides["reasoner"] = {"kind": reasoner}
    if prompts:
        overrides.setdefault("reasoner", {})["prompts"] = str(prompts.resolve())
    if model:
        overrides["llm"] = {"model": model}
    with RoleGen.open(project, overrides=overrides) as shop:
        chosen = user or shop.dormant(at)["user"].to_list()
        chosen = chosen[: limit or len(chosen)]
        if forecast:
            with bars() as progress:
                found = shop.forecast(chosen, at, progress=progress)
            as_json(found.as_dict()) if json else show_forecast(found, out)
            return
        if shop.project.settings.reasoner.kind == "llm":
            ask = not yes and not json and err.is_terminal
            _before_llm(shop, chosen, at, ask=ask, budget=llm_budget)
        with exported_spans(shop.project, tell=_tell), bars() as progress, stop_on_interrupt() as stop:
            if ray is None:
                report = awaken_in_processes(
                    shop, chosen, at, progress=progress, stop=stop, llm_budget=llm_budget, spans=True
                )
            else:
                from ..cluster import awaken_on_ray

                report = awaken_on_ray(
                    shop,
                    chosen,
                    at,
                    address=ray,
                    workers=ray_workers,
                    llm_budget=llm_budget,
                    progress=progress,
                    stop=stop,
                )
    if json:
        as_json(asdict(report))
    else:
        table = Table(show_header=False, box=None, padding=(0, 1))
        table.add_row("run", Text(report.run))  # names and hints hold brackets, which are no markup
        table.add_row("decisions", f"{report.decided:,} now, {report.earlier:,} earlier, {report.left:,} left")
        if shop.project.settings.reasoner.kind == "llm":
            cost = (
                "unknown (set the model's price in [llm])" if report.cost_usd is None else f"{report.cost_usd:.4f} USD"
            )
            table.add_row(
                "LLM calls", f"{report.calls:,} ({report.failed_calls:,} failed), {report.cached:,} from cache"
            )
            table.add_row("tokens", f"{report.tokens:,}")
            table.add_row("cost", Text(cost))
            table.add_row("stand-ins", f"{report.fallbacks:,} decisions in which the evidence reasoner answered too")
            table.add_row("not asked", f"{report.sure:,} decisions: the gate or the budget granted these users no LLM")
            if report.allocation is not None:
                table.add_row("LLM budget", budget_words(report.allocation))
        else:
            table.add_row("answered by", Text(reasoner_words(reasoner_of(report.run))))
        table.add_row("time", f"{report.seconds:.1f} s")
        out.print(table)
        if chosen:
            out.print(f"next: rolegen explain {quote(bounded(chosen[0], 80))}", markup=False, soft_wrap=True)
    if report.budget_met:
        err.print(f"stopped: {report.budget_met}", style="bold", markup=False, soft_wrap=True)
        err.print(
            f"{report.left:,} users are left; {report.waiting:,} of them wait half way, with what was answered kept"
        )
        err.print("raise that limit in [budget], and the same command goes on from here", markup=False)
        raise typer.Exit(BUDGET_MET)
    if report.stopped:
        err.print("stopped; the same command goes on from here", style="bold")
        raise typer.Exit(130)


def reasoner_of(run: str) -> str:
    """Who reasons in a run, from its name."""
    return run.partition("/")[2].rpartition("/")[0]


def _tell(line: str) -> None:
    err.print(line, markup=False, soft_wrap=True)


def budget_words(found: Allocation) -> str:
    """How an LLM budget was shared out, in one line."""
    told = f"{found.budget}: {found.asked:,} of {found.considered:,} users asked, forecast {found.forecast:g}"
    if found.least_worth is not None:
        told += f"; the last one is worth {found.least_worth:.3f}"
    return told if found.next_worth is None else f"{told}, the first one left out {found.next_worth:.3f}"


def explain(
    user: Annotated[str, typer.Argument(help="User id, as in the log.")],
    project: ProjectOption = None,
    run: Annotated[str | None, typer.Option("--run", help="A run's name; else the latest decision.")] = None,
    json: JsonOption = False,
) -> None:
    """Why a user got their slate: roles, intent, paths with effects, candidates and their fate."""
    import polars as pl

    from rolegen_graphs.reports import supersedes

    from ..outcomes import outcomes_of
    from ..story import story
    from ..telemetry import trace_page

    with RoleGen.open(project) as shop:
        decision = shop.trace(user, run=run)
        trace = shop.memory.trace_of(decision.decision)
        if json:
            as_json({**decision.model_dump(mode="json"), "trace_id": trace})
            return
        later = pl.scan_parquet(shop.project.events).filter((pl.col("user") == user) & (pl.col("time") >= decision.at))
        end = pl.scan_parquet(shop.project.events).select(pl.col("time").max()).collect().item()
        outcome = outcomes_of(
            later.collect(), {user: decision.decision}, decision.at, shop.project.settings.slate.horizon_days, end
        )[0]
        items = pl.read_parquet(shop.project.items, columns=["item", "title"])
        credit = shop.memory.attributions(decision=decision.decision)
        reported = shop.memory.find_outcome(decision.decision)
        if reported is not None and supersedes(reported, outcome):
            outcome = reported  # somebody reported what the log does not hold
        out.print(story(decision, outcome, dict(items.iter_rows()), credit))
        if trace is not None:
            where = trace_page(shop.project.settings.telemetry.trace_url, trace) or trace
            out.print(f"traced: {where}", style="dim", markup=False, soft_wrap=True)


def _before_llm(shop: RoleGen, users: Sequence[str], at: str, *, ask: bool, budget: str | None) -> None:
    """Say what the run may cost, and make sure that the endpoint answers, before anything is spent."""
    from ..llm import check_endpoint

    llm = shop.project.settings.llm
    if llm.model is None:
        raise ProjectError(
            "the LLM reasoner has no model",
            where=f"{shop.project.file}, [llm] model",
            fix="set OPENAI_MODEL, pass --model NAME, or use --reasoner evidence",
        )
    key = llm.api_key.get_secret_value() if llm.api_key else None
    check_endpoint(llm.base_url, key, llm.model)
    if budget is not None:  # a forecast for everybody would be beside the point
        told = f"{len(users):,} users with {llm.model}: at most {LlmBudget.parse(budget)} are spent on some of them"
        err.print(told, markup=False, soft_wrap=True)
    else:
        with bars() as progress:
            found = shop.forecast(users, at, progress=progress)
        show_forecast(found, err)
    if ask and not Confirm.ask("go on?", console=err):
        raise typer.Exit(1)
