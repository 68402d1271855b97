"""``improve``: what happened makes later decisions better, or is rolled back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..facade import RoleGen
from ..project import moment
from .options import JsonOption, ProjectOption
from .show import as_json, bars, out

if TYPE_CHECKING:
    from ..memory.records import Promotion


def improve(
    at: Annotated[
        str | None, typer.Option("--at", help="Learn from what was known before this date; default: today (UTC).")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Show all updates and what became of them.")] = False,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Learn from new events and outcomes; promote the result only if it is not worse on what was held back.

    Safe to run from cron: twice is once, a killed run goes on, and two at once do not meet.
    """
    if history:
        with RoleGen.open(project) as shop:
            _show_history(shop.memory.promotions(), json)
        return
    with RoleGen.open(project) as shop, bars() as progress:
        # Midnight, so that the same command is the same update all day, and decisions of today have its artefacts.
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        report = shop.improve(moment(at) if at else today, progress=progress)
    if json:
        as_json(
            {
                "at": report.at.isoformat(),
                "verdict": report.verdict,
                "reason": report.reason,
                "folder": str(report.folder),
                "promotion": report.promotion.model_dump(mode="json") if report.promotion else None,
            }
        )
        return
    out.print(f"{report.verdict.replace('_', ' ')}: {report.reason}", markup=False, soft_wrap=True)
    if report.promotion is not None and report.verdict != "nothing_new":
        out.print(_figures(report.promotion))
    out.print(f"decisions use {report.folder}", markup=False, soft_wrap=True)


def _show_history(promotions: tuple[Promotion, ...], json: bool) -> None:
    if json:
        as_json([one.model_dump(mode="json") for one in promotions])
        return
    if not promotions:
        out.print("no update yet; next: rolegen improve")
        return
    table = Table("at", "verdict", "from", "to", "held back from", "reason")
    for one in promotions:
        told = (one.verdict.replace("_", " "), one.from_fingerprint, one.to_fingerprint, f"{one.held_from:%Y-%m-%d}")
        table.add_row(f"{one.at:%Y-%m-%d %H:%M}", *told, Text(one.reason))
    out.print(table)


def _figures(promotion: Promotion) -> Table:
    """Old against new on the held-back time."""
    table = Table("held back", "old", "new", "difference", "at least", "at most")
    for name, told in (("value", "orders per showing"), ("ndcg10", "NDCG@10"), ("hit1", "hit@1")):
        if (found := promotion.figures.get(name)) is not None:
            table.add_row(
                told,
                *(f"{found[k]:.4f}" for k in ("old", "new")),
                *(f"{found[k]:+.4f}" for k in ("difference", "low", "high")),
            )
    return table
