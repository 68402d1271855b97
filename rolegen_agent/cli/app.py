"""The Typer application: how commands are grouped, how errors end, and exit codes.

Exit codes: 0 done, 1 an error that says what to do, 2 wrong usage, 3 stopped at a limit of the LLM budget (raise it, and
the same command goes on), 4 `memory verify` found differences, 130 stopped by Ctrl-C (the same command goes on).
"""

from __future__ import annotations

import sys

import typer

from rolegen_errors import RoleGenError

from ..turns import take_short_turns
from . import (
    data,
    decide,
    distil,
    evaluate,
    feedback,
    improve,
    inspect,
    learn,
    lessons,
    mcp,
    measure,
    nearline,
    optimise,
    preferences,
    prompts,
    serve,
)
from . import memory as care
from .show import err
from .value import value

app = typer.Typer(
    name="rolegen",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Awaken dormant users of a shop: reason about the role that each item played, imagine paths back to a "
        "purchase, and rank a slate of real items.\n\n"
        "A first tour on real data: [bold]rolegen demo[/]. On your own log: "
        "[bold]rolegen init[/] → [bold]ingest[/] → [bold]dormant --at DATE[/] → [bold]train --at DATE[/] → "
        "[bold]awaken --at DATE[/] → [bold]explain USER[/]."
    ),
)
app.command("init")(data.init)
app.command("ingest")(data.ingest)
app.command("dormant")(data.dormant)
app.command("train")(learn.train)
app.command("evidence")(learn.evidence)
app.command("improve")(improve.improve)
app.command("distil")(distil.distil)
app.command("awaken")(decide.awaken)
app.command("explain")(decide.explain)
app.command("inspect")(inspect.inspect)
app.command("value")(value)
app.command("serve")(serve.serve)
app.command("mcp")(mcp.mcp)
app.command("demo")(measure.demo)
app.command("bench")(measure.bench)
batch = typer.Typer(
    no_args_is_help=True, help="LLM runs through files for OpenAI's Batch API: slower, and often at half the price."
)
batch.command("export")(nearline.export_batch)
batch.command("import")(nearline.import_batch)
app.add_typer(batch, name="batch")
outcomes = typer.Typer(
    cls=feedback.FileOrCommand,
    no_args_is_help=True,
    help="What users did afterwards: [bold]rolegen feedback FILE[/], or [bold]--from-log[/].",
)
outcomes.command("record")(feedback.record)
outcomes.command("retry")(feedback.retry)
outcomes.command("dead-letters")(feedback.dead_letters)
outcomes.command("attribute")(feedback.attribute)
outcomes.command("shown")(feedback.shown)
app.add_typer(outcomes, name="feedback")
taught = typer.Typer(no_args_is_help=True, help="What outcomes taught, and what later decisions are told of it.")
taught.command("learn")(lessons.learn)
taught.command("list")(lessons.list_lessons)
taught.command("show")(lessons.show)
app.add_typer(taught, name="lessons")
app.command("export-preferences")(preferences.export_preferences)
versions = typer.Typer(no_args_is_help=True, help="Versions of the prompts: list, read, compare, make, check.")
versions.command("list")(prompts.list_prompts)
versions.command("show")(prompts.show)
versions.command("diff")(prompts.diff)
versions.command("new")(prompts.new)
versions.command("lint")(prompts.lint_prompts)
versions.command("optimize")(optimise.optimise)
app.add_typer(versions, name="prompts")
evals = typer.Typer(
    no_args_is_help=True, help="Is a changed prompt, model or setting better? Cases, runs, comparisons, a gate."
)
evals.command("cases")(evaluate.cases)
evals.command("run")(evaluate.run)
evals.command("compare")(evaluate.compare)
evals.command("gate")(evaluate.gate)
evals.command("judge")(evaluate.judge)
app.add_typer(evals, name="eval")
memory = typer.Typer(no_args_is_help=True, help="Look after the loop memory.")
memory.command("upgrade")(care.upgrade)
memory.command("verify")(care.verify)
memory.command("prune")(care.prune)
memory.command("export")(care.export)
memory.command("erase")(care.erase)
app.add_typer(memory, name="memory")


def main() -> None:
    """Entry point of the command."""
    take_short_turns()
    try:
        app()
    except RoleGenError as error:
        err.print("error: ", style="bold red", end="")
        err.print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)
