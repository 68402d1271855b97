"""The Typer application: how commands are grouped, how errors end, and exit codes.

Exit codes: 0 done, 1 an error that says what to do, 2 wrong usage, 3 stopped at a limit of the LLM budget (raise it, and
the same command goes on), 130 stopped by Ctrl-C (the same command goes on).
"""

from __future__ import annotations

import sys

import typer

from rolegen_errors import RoleGenError

from . import data, decide, learn, measure, nearline
from .show import err

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
app.command("awaken")(decide.awaken)
app.command("explain")(decide.explain)
app.command("demo")(measure.demo)
app.command("bench")(measure.bench)
batch = typer.Typer(
    no_args_is_help=True, help="LLM runs through files for OpenAI's Batch API: slower, and often at half the price."
)
batch.command("export")(nearline.export_batch)
batch.command("import")(nearline.import_batch)
app.add_typer(batch, name="batch")
memory = typer.Typer(no_args_is_help=True, help="Look after the loop memory.")
memory.command("upgrade")(decide.upgrade)
memory.command("erase")(decide.erase)
app.add_typer(memory, name="memory")


def main() -> None:
    """Entry point of the command."""
    try:
        app()
    except RoleGenError as error:
        err.print("error: ", style="bold red", end="")
        err.print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)
