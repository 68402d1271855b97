"""``distil``: a student that answers in a teacher's place, without an LLM."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..facade import RoleGen
from ..report.words import reasoner_words
from .options import AtOption, JsonOption, ProjectOption
from .show import as_json, bars, out


def distil(
    at: AtOption,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            help="Who to learn from, as in traces: evidence or llm:MODEL; else the LLM with most decisions.",
        ),
    ] = None,
    project: ProjectOption = None,
    force: Annotated[bool, typer.Option("--force", help="Distil again although the same student is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Distil a student from a teacher's decisions before a date: a small model on the backbone that labels and proposes like it.

    It then answers with `rolegen awaken --reasoner student`, or in place of an LLM with [reasoner] stand_in = "student".
    """
    with RoleGen.open(project) as shop, bars() as progress:
        report = shop.distil(at, teacher=teacher, progress=progress, force=force)
    if json:
        as_json(
            {
                "folder": str(report.folder),
                "fingerprint": report.fingerprint,
                "repeated": report.repeated,
                **report.manifest,
            }
        )
        return
    told, learnt = report.manifest["report"], report.manifest["learnt_from"]
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_row("teacher", Text(reasoner_words(report.teacher)))
    table.add_row(
        "learnt from",
        f"{told['decisions']:,} decisions, {told['held_out']:,} later ones held out; {told['labels']:,} labels, {told['items']:,} items",
    )
    left = ", ".join(f"{count:,} {what}" for what, count in learnt["left_out"].items() if count)
    table.add_row("left out", left or "nothing")
    table.add_row("reach", f"{told['reach']:.1%} of the teacher's items are among those that the student looks at")
    if told["role_agreement"] is not None:
        table.add_row(
            "roles",
            f"as the teacher's in {told['role_agreement']:.1%} of the held-out labels; always the commonest role: {told['majority_agreement']:.1%}",
        )
    if told["slot_top1"] is not None:
        table.add_row("items", f"the likeliest one is the teacher's in {told['slot_top1']:.1%} of the held-out places")
    table.add_row("forms of paths", Text(", ".join(form["name"] for form in report.manifest["forms"]) or "none"))
    out.print(table)
    if report.repeated:
        out.print("the same student was there already")
    out.print(f"{report.folder}; next: rolegen awaken --reasoner student --at {at}", markup=False, soft_wrap=True)
