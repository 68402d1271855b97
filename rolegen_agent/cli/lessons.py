"""``lessons``: learn from outcomes, and look at what was learnt."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from rolegen_errors import InputError
from rolegen_graphs.words import Lesson

from ..facade import RoleGen
from ..report.text import bounded
from .options import AtOption, JsonOption, ProjectOption, PromptsOption
from .show import as_json, bars, out


def learn(
    at: AtOption,
    project: ProjectOption = None,
    reasoner: Annotated[
        str | None, typer.Option("--reasoner", help="evidence, or llm: the LLM proposes, too; else as in the project.")
    ] = None,
    prompts: PromptsOption = None,
    json: JsonOption = False,
) -> None:
    """Learn from the decisions whose outcomes were known at a date; what is learnt serves decisions after it.

    Ctrl-C and the same command again do no harm: nothing is written until all is learnt.
    """
    overrides: dict[str, dict[str, object]] = {"reasoner": {"kind": reasoner}} if reasoner else {}
    if prompts:
        overrides.setdefault("reasoner", {})["prompts"] = str(prompts.resolve())
    with RoleGen.open(project, overrides=overrides) as shop, bars() as progress:
        report = shop.reflect(at, progress=progress)
    if json:
        as_json(asdict(report))
        return
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_row("decisions learnt from", f"{report.decisions:,}")
    for reason, count in sorted(report.left_out.items()):
        table.add_row("left out", f"{count:,}, {reason}")
    table.add_row("values with enough support", f"{report.tested:,}")
    for name in ("born", "proposed", "confirmed", "retired", "expired"):
        table.add_row(f"lessons {name}", f"{len(getattr(report, name)):,}")
    table.add_row("without new evidence", f"{report.unchanged:,}")
    table.add_row("rows of evidence", f"{report.evidence:,}")
    if report.silent:
        table.add_row("no proposals", Text(bounded(report.silent, 300)))
    out.print(table)
    out.print("next: rolegen lessons list", markup=False)


def list_lessons(
    project: ProjectOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Retired, expired and proposed ones, too.")] = False,
    at: Annotated[str | None, typer.Option("--at", help="As they were before this date.")] = None,
    json: JsonOption = False,
) -> None:
    """List lessons: what they say, for whom, and what outcomes say of them."""
    from ..project import moment

    with RoleGen.open(project) as shop:
        when = moment(at) if at else None
        found = shop.memory.lessons(when)
    shown = found if all_ else tuple(one for one in found if one.status == "active")
    if json:
        as_json([one.model_dump(mode="json") for one in shown])
        return
    table = Table("lesson", "scope", "status", "until", "for / against", "says")
    for one in shown:
        table.add_row(
            one.lesson[:16],
            Text(bounded(one.scope_key or one.scope, 40)),
            one.status,
            "" if one.expires_at is None else f"{one.expires_at:%Y-%m-%d}",
            f"{one.evidence_for:,} / {one.evidence_against:,}",
            Text(bounded(one.text, 300)),
        )
    out.print(table)
    out.print(f"{len(shown):,} of {len(found):,} lessons; `rolegen lessons show LESSON` tells how one came about")


def show(
    lesson: Annotated[str, typer.Argument(help="Id of a lesson, or its beginning.")],
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """All versions of one lesson: when it was learnt, what outcomes said of it then, and how often it was shown."""
    with RoleGen.open(project) as shop:
        versions = shop.memory.lesson_versions(lesson)
        uses = shop.memory.lesson_uses(versions[-1].lesson) if versions else 0
    if not versions or len({one.lesson for one in versions}) > 1:
        what = "is the beginning of several lessons" if versions else "is no lesson"
        raise InputError(f"{bounded(lesson, 40)!r} {what}", fix="list them with `rolegen lessons list --all`")
    if json:
        as_json({"versions": [one.model_dump(mode="json") for one in versions], "uses": uses})
        return
    last = versions[-1]
    out.print(Text(bounded(last.text, 400), style="bold"))
    whom = "everybody" if last.scope == "all" else f"{last.scope} {bounded(last.scope_key, 80)}"
    out.print(
        f"{last.lesson} for {whom}; by {bounded(last.origin, 80) or 'hand'}; shown to {uses:,} decisions", markup=False
    )
    table = Table("learnt", "status", "until", "for", "against", "outcomes")
    for one in versions:
        table.add_row(*_row(one))
    out.print(table)


def _row(one: Lesson) -> tuple[str, ...]:
    from ..lessons.claims import effect_words  # statistics, which no other command waits for

    return (
        f"{one.learnt_at:%Y-%m-%d %H:%M}",
        one.status,
        "" if one.expires_at is None else f"{one.expires_at:%Y-%m-%d}",
        f"{one.evidence_for:,}",
        f"{one.evidence_against:,}",
        effect_words(one.effect) if one.effect else "not judged yet",
    )
