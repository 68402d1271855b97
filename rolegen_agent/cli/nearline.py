"""``batch export`` and ``batch import``: LLM runs through files for OpenAI's Batch API."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..facade import RoleGen
from .options import AtOption, JsonOption, ProjectOption, PromptsOption
from .show import BUDGET_MET, as_json, bars, err, out, stop_on_interrupt

if TYPE_CHECKING:
    from ..nearline import ExportReport  # which loads the model's client: not for every command


def export_batch(
    file: Annotated[Path, typer.Argument(help="JSON lines file to write; an earlier one is replaced.")],
    at: AtOption,
    project: ProjectOption = None,
    user: Annotated[list[str] | None, typer.Option("--user", "-u", help="Only these users; may be repeated.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many users; 0 means all.")] = 0,
    model: Annotated[str | None, typer.Option("--model", help="Model name.")] = None,
    prompts: PromptsOption = None,
    json: JsonOption = False,
) -> None:
    """Decide as far as remembered answers go, and write what is to be asked next. Nothing is sent.

    Give FILE to the Batch API, then its results to `rolegen batch import`, and export again, until FILE is empty.
    """
    overrides: dict[str, dict[str, object]] = {"reasoner": {"kind": "llm"}}
    if prompts:
        overrides["reasoner"]["prompts"] = str(prompts.resolve())
    if model:
        overrides["llm"] = {"model": model}
    with RoleGen.open(project, overrides=overrides) as shop:
        chosen = user or shop.dormant(at)["user"].to_list()
        with bars() as progress, stop_on_interrupt() as stop:
            report = shop.export_batch(chosen[: limit or len(chosen)], at, file, progress=progress, stop=stop)
    if json:
        as_json(asdict(report))
    else:
        _show(report)
    if report.budget_met and not report.requests:
        raise typer.Exit(BUDGET_MET)


def _show(report: ExportReport) -> None:
    out.print(Text(f"run {report.run}"))
    out.print(f"decisions: {report.decided:,} now, {report.earlier:,} earlier, {report.left:,} left")
    if report.fallbacks:
        out.print(f"stand-ins: {report.fallbacks:,} decisions in which the evidence reasoner answered too")
    out.print(Text(f"requests: {report.requests:,} in {report.file}"), soft_wrap=True)
    if report.budget_met:
        err.print(f"no more requests: {report.budget_met}", style="bold", markup=False, soft_wrap=True)
    if report.requests:
        out.print("next: run that batch, then `rolegen batch import RESULTS`, then this command again", markup=False)


def import_batch(
    file: Annotated[Path, typer.Argument(help="Output or error file of the Batch API.")],
    project: ProjectOption = None,
    skip_bad_lines: Annotated[
        bool, typer.Option("--skip-bad-lines", help="Count lines that are not understood, and read the others.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Read the answers of a batch into the memory. Reading a file twice changes nothing."""
    with RoleGen.open(project) as shop, bars() as progress:
        report = shop.import_batch(file, skip_bad_lines=skip_bad_lines, progress=progress)
    if json:
        as_json(asdict(report))
        return
    cost = "unknown (set the model's price in [llm])" if report.cost_usd is None else f"{report.cost_usd:.4f} USD"
    out.print(
        f"lines: {report.lines:,}, of them {report.answered:,} answers, {report.failed:,} errors, {report.known:,} known"
        f" before, {report.bad:,} bad"
    )
    out.print(f"tokens: {report.input_tokens:,} in, {report.output_tokens:,} out")
    out.print(Text(f"cost: {cost}"))
    out.print("next: `rolegen batch export` again, until it writes no request", markup=False)
