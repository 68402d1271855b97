"""``export-preferences``: training data for a reasoner, from what came of its answers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..facade import RoleGen
from ..project import moment
from .options import JsonOption, ProjectOption
from .show import as_json, bars, out


def export_preferences(
    project: ProjectOption = None,
    dpo: Annotated[Path | None, typer.Option("--dpo", help="File of pairs: prompt, chosen, rejected.")] = None,
    sft: Annotated[Path | None, typer.Option("--sft", help="File of answers worth imitating.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="Only what was known at this date.")] = None,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Also the evidence reasoner's answers, labelled as such, into --sft.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write chosen and rejected reasonings as JSON lines that TRL's DPOTrainer and SFTTrainer read.

    The files hold what prompts hold: histories of customers. Deleting them is yours.
    """
    from ..preferences import export_preferences as export

    with RoleGen.open(project) as shop, bars() as progress:
        report = export(
            shop.memory,
            dpo=dpo,
            sft=sft,
            at=moment(at) if at else None,
            evidence=evidence,
            progress=lambda done, total: progress("export", done, total),
        )
    if json:
        as_json(asdict(report))
        return
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_row("decisions", f"{report.decisions:,}")
    for name, file, counts in (("pairs", dpo, report.pairs), ("examples", sft, report.examples)):
        if file is not None:
            told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
            table.add_row(name, f"{counts.total():,}" + (f": {told}" if told else ""))
    for reason, count in sorted(report.left_out.items()):
        table.add_row("left out", f"{count:,}, {reason}")
    out.print(table)
    for file in (dpo, sft):
        if file is not None:
            out.print(f"wrote {file}", markup=False, soft_wrap=True)
