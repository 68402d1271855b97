"""``feedback``: outcomes in, dead letters looked after, orders credited, and what was shown out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from ..facade import RoleGen
from ..report.text import bounded
from .options import JsonOption, ProjectOption
from .show import as_json, bars, err, out, stop_on_interrupt

RunOption = Annotated[str | None, typer.Option("--run", help="Only decisions of this run; else of all.")]
SHOWN = 20
"""dead letters that a terminal gets unless all are asked for"""


class FileOrCommand(TyperGroup):
    """``rolegen feedback FILE`` is ``rolegen feedback record FILE``; a file that is called like a command needs ``./``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["record", *args]
        return super().parse_args(ctx, args)


def record(
    file: Annotated[
        Path | None, typer.Argument(help="Outcomes: .csv, .jsonl or .parquet, one report a row.", show_default=False)
    ] = None,
    from_log: Annotated[
        bool, typer.Option("--from-log", help="Take the outcomes from the ingested log instead.")
    ] = False,
    from_source: Annotated[
        bool, typer.Option("--from-source", help="Take them from what [parts] outcomes names.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="With --from-source; else from the first decision on.")
    ] = None,
    run: RunOption = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Remember what users did after their decisions. Reading a file twice changes nothing; so does Ctrl-C and the same command.

    Columns: user, and decision or ordered_at; further items, value, refunded_at, refunded_items, final, known_at, engaged.
    """
    if [file is not None, from_log, from_source].count(True) != 1:
        raise typer.BadParameter("give a FILE, or --from-log, or --from-source")
    if run is not None and not from_log:
        raise typer.BadParameter("--run goes with --from-log", param_hint="--run")
    if since is not None and not from_source:
        raise typer.BadParameter("--since goes with --from-source", param_hint="--since")
    with RoleGen.open(project) as shop, bars() as progress:
        if file is not None:
            report = shop.read_feedback(file, progress=progress)
        elif from_source:
            report = shop.outcomes_from_source(since=since, progress=progress)
        else:
            with stop_on_interrupt() as stop:
                report = shop.outcomes_from_log(run=run, progress=progress, stop=stop)
    _show(asdict(report), json=json)


def retry(project: ProjectOption = None, json: JsonOption = False) -> None:
    """Try dead letters again, for instance after their decisions were recorded."""
    with RoleGen.open(project) as shop, bars() as progress:
        report = shop.retry_dead_letters(progress=progress)
    _show(asdict(report), json=json)


def dead_letters(
    project: ProjectOption = None,
    everything: Annotated[bool, typer.Option("--all", help=f"Not only the first {SHOWN}.")] = False,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", metavar="LETTER", help="Give this one up; may be repeated.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Reports that could not be recorded, each with its reason."""
    with RoleGen.open(project) as shop:
        for unwanted in drop or []:
            shop.memory.drop_dead_letter(unwanted)
        count = shop.memory.count_dead_letters()
        letters = shop.memory.dead_letters(limit=None if everything or json else SHOWN)
    if json:
        as_json([letter.model_dump() for letter in letters])
        return
    table = Table("letter", "source", "row", "user", "reason", "tries", "again?")
    for letter in letters:
        table.add_row(
            letter.letter,
            Text(bounded(letter.source, 60)),
            str(letter.row),
            Text(bounded(letter.user or "", 40)),
            Text(bounded(letter.reason, 200)),
            str(letter.tries),
            "yes" if letter.complete else "no: it was not kept whole",
        )
    if letters:
        out.print(table)
    more = f", the first {SHOWN} shown" if count > len(letters) else ""
    out.print(f"{count:,} dead letters{more}" + ("; next: rolegen feedback retry" if count else ""))


def attribute(
    project: ProjectOption = None,
    run: RunOption = None,
    force: Annotated[bool, typer.Option("--force", help="Compute again what is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Credit orders to decisions and path steps. `rolegen explain USER` shows it."""
    with RoleGen.open(project) as shop, bars() as progress, stop_on_interrupt() as stop:
        report = shop.attribute(run=run, force=force, progress=progress, stop=stop)
    if json:
        as_json(asdict(report))
    else:
        out.print(
            f"{report.orders:,} decisions with an order: {report.attributed:,} credited now ({report.steps:,} path steps), "
            f"{report.earlier:,} earlier, {report.elsewhere:,} where a later decision claims it, {report.untrained:,} for "
            "which nothing is trained"
            + (f", {report.changed:,} whose outcome changed meanwhile" if report.changed else "")
        )
    if stop.is_set():
        err.print("stopped; the same command goes on from here", style="bold")
        raise typer.Exit(130)


def shown(
    file: Annotated[Path, typer.Argument(help="File to write: .csv, .jsonl or .parquet.")],
    project: ProjectOption = None,
    run: RunOption = None,
) -> None:
    """Write what was shown, one exposure a row, with its propensity where slates were drawn."""
    with RoleGen.open(project) as shop:
        rows = shop.write_shown(file, run=run)
    out.print(f"{rows:,} exposures in {file}", markup=False, soft_wrap=True)


def _show(report: dict[str, Any], *, json: bool) -> None:
    if json:
        as_json(report)
    else:
        out.print(
            f"{report['rows']:,} reports: {report['recorded']:,} recorded, {report['unchanged']:,} known already, "
            f"{report['late']:,} superseded, {report['dead']:,} set aside"
        )
        if not report["dead"]:
            out.print("next: rolegen feedback attribute")
    if report["dead"]:
        err.print("error: ", style="bold red", end="")
        told = (
            f"{report['dead']:,} of {report['rows']:,} reports could not be recorded; the first: {report['reasons'][0]}"
        )
        err.print(told, markup=False, soft_wrap=True)
        err.print("they are kept; next: rolegen feedback dead-letters, then rolegen feedback retry")
        raise typer.Exit(1)
