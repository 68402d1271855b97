"""``train`` and ``evidence``: what is learnt from the log, and what it says about an item."""

from __future__ import annotations

import json as json_module
import os
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from rolegen_errors import InputError

from ..facade import RoleGen
from ..project import moment
from .options import AtOption, JsonOption, ProjectOption, RayOption, RayWorkersOption
from .show import as_json, bars, out


def train(
    at: AtOption,
    project: ProjectOption = None,
    force: Annotated[bool, typer.Option("--force", help="Train again although a training ended.")] = False,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = None,
    json: JsonOption = False,
) -> None:
    """Learn semantic ids, backbone and role evidence from the events before a date. Ctrl-C and the same command resume.

    With several processes: torchrun --nproc-per-node 2 --no-python rolegen train --at DATE
    """
    with RoleGen.open(project) as shop, bars() as progress:
        if ray is None:
            folder = shop.train(at, progress=progress, force=force)
        else:
            from ..cluster import train_on_ray

            folder = train_on_ray(shop, at, address=ray, workers=ray_workers, progress=progress, force=force)
    if os.environ.get("RANK", "0") != "0":
        return  # one of the processes of torchrun speaks for all
    manifest = json_module.loads((folder / "backbone" / "backbone.json").read_text("utf-8"))
    if json:
        as_json(manifest)
        return
    report = manifest["report"]
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_row("parameters", f"{manifest['parameters']:,}")
    table.add_row("returns learnt from", f"{report['returns']:,} and {report['validation_returns']:,} to validate")
    table.add_row("best epoch", f"{report['best_epoch']} of {report['epochs']}")
    with_, without = report["validation_loss"], report["validation_loss_without_candidates"]
    if with_ is not None and without is not None:
        table.add_row("validation loss", f"{with_:.4f} nats an item with reasoned candidates, {without:.4f} without")
    if report["outcome_auc"] is not None:
        auc, error = report["outcome_auc"], report["outcome_ece"]
        table.add_row("outcome head", f"AUC {auc:.3f}, calibration error {error:.3f}, on later decisions")
    if report["fall_random"] is not None:
        random, hostile = report["fall_random"], report["fall_adversarial"]
        table.add_row(
            "guard", f"recall@10 falls by {random:.1%} with random candidates, {hostile:.1%} with adversarial ones"
        )
    manifest = json_module.loads((folder / "evidence" / "manifest.json").read_text("utf-8"))
    table.add_row("evidence", manifest.get("told", "of an earlier version"))
    out.print(table)
    out.print(f"{folder}; next: rolegen awaken --at {at}", markup=False, soft_wrap=True)


def evidence(
    item: Annotated[str | None, typer.Argument(help="Item id.")] = None,
    at: Annotated[str, typer.Option("--at", help="Use the latest training not after this date.")] = "9999-01-01",
    category: Annotated[str | None, typer.Option("--category", help="Show a category instead of an item.")] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """What the log says about the roles of an item or a category: value, 90 % interval, support."""
    from ..artefacts import latest
    from ..evidence import Evidence

    if (item is None) == (category is None):
        raise typer.BadParameter("give an item, or --category NAME")
    with RoleGen.open(project) as shop:
        folder, cut = latest(shop.project, moment(at))
    found = Evidence.load(folder / "evidence")
    table = found.item_table(item) if item is not None else found.category_table(category or "")
    if table.is_empty():
        raise InputError(
            f"the evidence up to {cut.date()} says nothing about {item or category!r}",
            fix="look at ids and categories with `rolegen explain USER`",
        )
    if json:
        as_json(table.to_dicts())
        return
    shown = Table(*table.columns)
    for row in table.head(60).iter_rows():
        shown.add_row(*(Text(f"{cell:.3f}" if isinstance(cell, float) else str(cell)) for cell in row))
    out.print(shown)
    if table.height > 60:
        out.print(f"{table.height - 60} more rows; --json prints all")
