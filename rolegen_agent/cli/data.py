"""``init``, ``ingest`` and ``dormant``: from a folder of files to the users worth awakening."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..facade import RoleGen
from ..project import PresetName, write_project_file
from ..report.text import bounded
from .options import AtOption, JsonOption, ProjectOption, RayOption
from .show import as_json, bars, out


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the project.")] = Path(),
    events: Annotated[
        list[str] | None,
        typer.Option("--events", help="Event log: CSV, .csv.gz or Parquet; path or glob, may be repeated."),
    ] = None,
    catalogue: Annotated[str | None, typer.Option("--catalogue", help="Catalogue file, if there is one.")] = None,
    preset: Annotated[PresetName | None, typer.Option("--preset", help="A known column layout.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="Map a column, OURS=YOURS, such as user=customer_id; may be repeated."),
    ] = None,
    behaviour: Annotated[
        str | None,
        typer.Option("--behaviour", help="What every row is, in a log without such a column: order, view, …"),
    ] = None,
    timezone: Annotated[str | None, typer.Option("--timezone", help="Zone of times that carry none.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing project file.")] = False,
) -> None:
    """Write a commented [bold]rolegen.toml[/].

    Example: rolegen init shop --events 'log/*.csv' --column user=customer --column time=ts --timezone Europe/Berlin
    """
    pairs = dict(_pair(text) for text in column or [])
    file = write_project_file(
        folder,
        preset=preset,
        events=[_seen_from(folder, path) for path in events] if events else None,
        catalogue=_seen_from(folder, catalogue) if catalogue else None,
        columns=pairs,
        behaviour=behaviour,
        timezone=timezone,
        force=force,
    )
    out.print(f"wrote {file}; next: rolegen ingest --project {folder}", markup=False, soft_wrap=True)


def ingest(
    project: ProjectOption = None,
    on_bad_rows: Annotated[
        str | None,
        typer.Option("--on-bad-rows", help="error: stop at a bad row; quarantine: set it aside with its reason."),
    ] = None,
    ray: RayOption = None,
    json: JsonOption = False,
) -> None:
    """Read the log and the catalogue into the store; every row is kept, dropped or quarantined under a reason."""
    overrides = {"data": {"on_bad_rows": on_bad_rows}} if on_bad_rows else {}
    with RoleGen.open(project, overrides=overrides) as shop, bars() as progress:
        if ray is None:
            report = shop.ingest(progress=progress)
        else:
            from ..cluster import ingest_on_ray

            report = ingest_on_ray(shop, address=ray, progress=progress)
    if json:
        as_json(report.model_dump(mode="json"))
        return
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_row("rows read", f"{report.rows:,}")
    table.add_row("kept", f"{report.kept:,}")
    for name, counts in (("dropped", report.dropped), ("quarantined", report.quarantined)):
        for reason, rows in counts.items():
            table.add_row(name, f"{rows:,}", Text(reason))
    for behaviour, rows in report.events.items():
        if rows:
            table.add_row("events", f"{rows:,}", behaviour)
    table.add_row("users", f"{report.users:,}")
    table.add_row("items", f"{report.items:,}")
    table.add_row("time", f"{report.first:%Y-%m-%d} to {report.last:%Y-%m-%d}")
    out.print(table)
    if report.quarantine:
        out.print(f"bad rows: {report.quarantine}", markup=False, soft_wrap=True)
    out.print(
        f"{report.seconds:.1f} s; next: rolegen dormant --at {report.last:%Y-%m-%d}", markup=False, soft_wrap=True
    )


def dormant(
    at: AtOption,
    project: ProjectOption = None,
    limit: Annotated[int, typer.Option("--limit", help="Rows to print; 0 prints all.")] = 20,
    json: JsonOption = False,
) -> None:
    """List the dormant users at a date, each with the reason."""
    with RoleGen.open(project) as shop:
        users = shop.dormant(at)
        rule = shop.project.settings.dormancy.rule
    if json:
        as_json(users.to_dicts())
        return
    table = Table("user", "orders", "reason")
    for row in users.head(limit or len(users)).iter_rows(named=True):
        table.add_row(Text(bounded(row["user"], 80)), str(row["orders"]), Text(row["reason"]))
    out.print(table)
    more = f", the first {limit} shown" if limit and len(users) > limit else ""
    out.print(
        f"{len(users):,} dormant users at {at} by the rule {rule}{more}; next: rolegen train --at {at}", markup=False
    )


def _seen_from(folder: Path, path: str) -> str:
    """A path as typed here, as the project file must name it: relative to the project folder, unless it is absolute."""
    return path if Path(path).is_absolute() else os.path.relpath(path, folder)


def _pair(text: str) -> tuple[str, str]:
    ours, separator, yours = text.partition("=")
    if not separator or not ours or not yours:
        raise typer.BadParameter(f"{text!r} is not OURS=YOURS", param_hint="--column")
    return ours, yours
