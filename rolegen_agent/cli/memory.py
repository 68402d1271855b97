"""``memory``: upgrade, verify, prune, export, and erase one person."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.prompt import Confirm

from ..facade import RoleGen
from ..report.text import bounded
from .options import JsonOption, ProjectOption
from .show import DIFFERENCES, as_json, bars, err, out

_SHOWN = 100
_AGE = re.compile(r"([1-9]\d{0,4})d")


class ExportFormat(StrEnum):
    """The formats of an export."""

    PARQUET = "parquet"
    JSONL = "jsonl"


def upgrade(project: ProjectOption = None) -> None:
    """Bring the memory's tables to this version (SQLite does so by itself)."""
    from ..memory import open_memory

    with RoleGen.open(project) as shop:
        shop.project.store.mkdir(parents=True, exist_ok=True)
        memory = open_memory(shop.project.memory_url, upgrade=True)
        out.print(f"{memory.url} is up to date", markup=False, soft_wrap=True)
        memory.close()


def verify(
    project: ProjectOption = None,
    limit: Annotated[int, typer.Option("--limit", help="Stop after so many differences; 0 finds all.")] = _SHOWN,
    json: JsonOption = False,
) -> None:
    """Derive again what can be derived, and report whatever differs; exit code 4 if anything does. Changes nothing."""
    from ..memory.verification import Verification

    tally = Verification()
    with RoleGen.open(project) as shop, bars() as progress:
        found = shop.verify(progress=progress, tally=tally)
        if json:
            differences = list(islice(found, limit or None))
        else:
            differences = []
            for one in islice(found, limit or None):
                differences.append(one)
                text = f"{one.table} {bounded(one.key, 200)}: {bounded(one.what, 300)} ({one.check})"
                out.print(text, markup=False, soft_wrap=True)
    stopped = bool(limit) and len(differences) == limit
    if json:
        as_json(
            {
                "decisions": tally.decisions,
                "complete": not stopped,
                "differences": [one._asdict() for one in differences],
            }
        )
    else:
        more = "; stopped there, --limit 0 finds all" if stopped else ""
        out.print(f"{tally.decisions:,} decisions looked at, {len(differences):,} differences{more}")
    if differences:
        raise typer.Exit(DIFFERENCES)


def prune(
    older_than: Annotated[str, typer.Option("--older-than", metavar="DAYSd", help="Such as 400d.")],
    project: ProjectOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete decisions that were recorded longer ago, with their calls (the cached answers), outcomes and all below; dead letters and told events too.

    What counts is when they were recorded, not the date that was decided for. Lessons stay.
    """
    age = _AGE.fullmatch(older_than)
    if age is None:
        raise typer.BadParameter(f"{older_than!r} is no age; write days, such as 400d", param_hint="--older-than")
    before = datetime.now(UTC) - timedelta(days=int(age[1]))
    question = f"delete all decisions that were recorded before {before:%Y-%m-%d %H:%M} UTC?"
    if not (yes or dry_run) and not Confirm.ask(question, console=err):
        raise typer.Exit(1)
    with RoleGen.open(project) as shop, bars() as progress:
        counts = shop.prune(before, dry_run=dry_run, progress=progress)
    if json:
        as_json({"before": before.isoformat(), "dry_run": dry_run, "rows": counts})
        return
    out.print(f"{'would be deleted' if dry_run else 'deleted'}, recorded before {before:%Y-%m-%d %H:%M} UTC:")
    _show(counts, "nothing is that old")


def export(
    folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")],
    project: ProjectOption = None,
    format: Annotated[ExportFormat, typer.Option("--format", help="Of the files.")] = ExportFormat.PARQUET,
    json: JsonOption = False,
) -> None:
    """Write the whole memory as Parquet or JSON lines, a folder for each table; schema.json there explains them."""
    with RoleGen.open(project) as shop, bars() as progress:
        counts = shop.memory.export(folder, format.value, progress=progress)
    if json:
        as_json({"folder": str(folder), "format": format.value, "rows": counts})
        return
    _show(counts, "the memory is empty")
    out.print(f"wrote {folder}; it holds people's histories: deleting it is yours", markup=False, soft_wrap=True)


def erase(
    user: Annotated[str, typer.Argument(help="User id.")],
    project: ProjectOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove everything that the memory, the checkpoints and what evidence keeps of users hold about one person.

    The log, its store, reports and exports are files of yours: take the person out of the log there, ingest again.
    """
    if not yes and not Confirm.ask(f"erase all decisions and calls of {bounded(user, 80)}?", console=err):
        raise typer.Exit(1)
    with RoleGen.open(project) as shop:
        counts = shop.erase(user)
        nobody = shop.memory.unattributed_calls()
    _show(counts, "nothing was stored")
    if nobody:
        err.print(
            f"{nobody:,} LLM calls belong to no decision, so nobody knows of whom they are; "
            "`rolegen memory verify` lists them, `rolegen memory prune` deletes old ones",
            soft_wrap=True,
        )


def _show(counts: dict[str, int], nothing: str) -> None:
    told = ", ".join(f"{rows:,} from {table}" for table, rows in counts.items() if rows)
    out.print(told or nothing, markup=False, soft_wrap=True)
