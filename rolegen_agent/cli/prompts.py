"""``prompts``: the versions of each prompt, what changed between them, and whether they can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from rolegen_errors import ProjectError
from rolegen_graphs.llm.prompt_checks import left_unsaid, schema_problem
from rolegen_prompts import Finding, Prompt, PromptPack, difference, estimate_tokens, lint, next_version, read_all

from ..facade import RoleGen
from ..project import find_project, moment, open_project
from .options import JsonOption, ProjectOption, PromptsOption
from .show import as_json, err, out

NameArgument = Annotated[str, typer.Argument(help="Name of a prompt: see `rolegen prompts list`.", show_default=False)]
OWN_FOLDER = "prompts"
"""below the project, where new versions go unless the project names another folder"""


def list_prompts(project: ProjectOption = None, prompts: PromptsOption = None, json: JsonOption = False) -> None:
    """All prompts with their versions: the current one of each is marked."""
    folder = _folder(project, prompts)
    pack = _pack(folder)
    rows = [
        {
            "name": name,
            "version": version,
            "current": version == pack.get(name).version,
            "from": "yours" if folder is not None and prompt.path.is_relative_to(folder) else "default",
            "tokens": estimate_tokens(prompt.text),
            "note": prompt.note,
            "sha256": prompt.sha256,
            "path": str(prompt.path),
        }
        for name in pack.names()
        for version in pack.versions(name)
        for prompt in [pack.get(name, version)]
    ]
    if json:
        as_json(rows)
        return
    table = Table("prompt", "version", "from", "tokens", "note")
    for row in rows:
        mark = "bold" if row["current"] else "dim"
        number = f"{row['version']}{' (current)' if row['current'] else ''}"
        cells = (row["name"], number, row["from"], f"{row['tokens']:,}", row["note"])
        table.add_row(*(Text(str(cell), style=mark) for cell in cells))
    out.print(table)
    out.print("tokens: of the bare text, estimated; data comes on top", style="dim")


def show(
    name: NameArgument,
    version: Annotated[int | None, typer.Option("--version", help="An older version.")] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Show what would be sent about this user.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="Decision time for --user.")] = None,
    project: ProjectOption = None,
    prompts: PromptsOption = None,
) -> None:
    """The text of a prompt; with --user and --at what a model would really be sent. Nothing is sent."""
    if (user is None) != (at is None):
        raise typer.BadParameter("--user and --at belong together")
    folder = _folder(project, prompts)
    if user is None or at is None:
        # What stands in a file is printed as it is: neither markup nor line breaks of ours.
        out.print(_pack(folder).get(name, version).text, markup=False, soft_wrap=True)
        return
    from ..rendering import render_questions

    if version is not None:
        raise typer.BadParameter("--user shows the current version only")
    reasoner: dict[str, object] = {"kind": "llm", "prompts": str(folder.resolve()) if folder else None}
    unsent: dict[str, object] = {"api_key": "unsent"}
    with RoleGen.open(project, overrides={"reasoner": reasoner, "llm": unsent}, model="unsent") as shop:
        asked = [one for one in render_questions(shop.assembly(at), user, moment(at)) if one.prompt.name == name]
    if not asked:
        raise ProjectError(
            f"the loop would not ask '{name}' about this user",
            fix="repair and revise come only after an answer; the other prompts need nothing",
        )
    for message in asked[0].messages:
        out.print(f"=== {message.role} ===", style="bold")
        out.print(message.content, markup=False, soft_wrap=True)
    tokens = sum(estimate_tokens(message.content) for message in asked[0].messages)
    err.print(f"about {tokens:,} tokens", style="dim")


def diff(
    name: NameArgument,
    old: Annotated[int | None, typer.Argument(help="A version; else the one before the new one.")] = None,
    new: Annotated[int | None, typer.Argument(help="A version; else the current one.")] = None,
    project: ProjectOption = None,
    prompts: PromptsOption = None,
) -> None:
    """What changed between two versions of a prompt."""
    pack = _pack(_folder(project, prompts))
    after = pack.get(name, new)
    earlier = [version for version in pack.versions(name) if version < after.version]
    if old is None and not earlier:
        raise ProjectError(f"'{name}' has no version before {after.version}", fix="rolegen prompts list")
    before = pack.get(name, earlier[-1] if old is None else old)
    changed = difference(before, after)
    if out.is_terminal and changed:
        out.print(Syntax(changed, "diff", background_color="default", word_wrap=True))
    else:
        out.print(changed or "no difference", markup=False, soft_wrap=True)
    tokens = estimate_tokens(after.text) - estimate_tokens(before.text)
    err.print(f"{tokens:+,} tokens; note: {after.note}", style="dim", markup=False)


def new(
    name: NameArgument,
    note: Annotated[str, typer.Option("--note", help="What changes, and why; stands in every trace's prompt.")],
    start: Annotated[int | None, typer.Option("--from", help="Copy this version; else the current one.")] = None,
    project: ProjectOption = None,
    prompts: PromptsOption = None,
) -> None:
    """Write a prompt's next version, a copy to be edited. Versions that exist are never touched."""
    found = find_project(project) if prompts is None else None
    named = _folder(project, prompts)
    folder = named or (found or Path()) / OWN_FOLDER
    pack = PromptPack.load(folder) if folder.is_dir() and any(folder.glob("*/*.md")) else PromptPack.default()
    path = next_version(pack.get(name, start), folder, note=note, taken=pack.versions(name))
    out.print(f"wrote {path}", markup=False, soft_wrap=True)
    told = "edit it, then: rolegen prompts lint"
    if named is None:
        told += f'; it is used once [reasoner] prompts = "{OWN_FOLDER}" stands in rolegen.toml'
    out.print(told, markup=False, soft_wrap=True)


def lint_prompts(project: ProjectOption = None, prompts: PromptsOption = None, json: JsonOption = False) -> None:
    """Check every prompt file: front matter, variables, quoting, the answer that it asks for. Errors end with exit code 1."""
    folder = _folder(project, prompts)
    default = PromptPack.default()
    own = [default.get(name) for name in default.names()] if folder is None else read_all(folder)[0]
    findings = [] if folder is None else lint(folder, default)
    for prompt in own:
        findings += _about_answers(prompt)
    if json:
        as_json([{**one._asdict(), "path": str(one.path)} for one in findings])
    else:
        for one in findings:
            out.print(Text(one.severity, style="bold red" if one.severity == "error" else "yellow"), end=" ")
            out.print(
                f"{one.path}: {one.what}" + (f"\n  fix: {one.fix}" if one.fix else ""), markup=False, soft_wrap=True
            )
        errors = sum(one.severity == "error" for one in findings)
        out.print(f"{len(own)} prompts: {errors} errors, {len(findings) - errors} warnings")
    if any(one.severity == "error" for one in findings):
        raise typer.Exit(1)


def _about_answers(prompt: Prompt) -> list[Finding]:
    problem = schema_problem(prompt)
    found = [Finding("error", prompt.path, problem, "see the default prompt of that name")] if problem else []
    return found + [Finding("warning", prompt.path, said) for said in left_unsaid(prompt)]


def _folder(project: Path | None, prompts: Path | None) -> Path | None:
    """The user's own folder: as given, else as the project says; None without either."""
    if prompts is not None:
        return prompts
    if project is None and find_project(None) is None:
        return None
    opened = open_project(project)
    named = opened.settings.reasoner.prompts
    return opened.root / named if named else None


def _pack(folder: Path | None) -> PromptPack:
    return PromptPack.load(folder) if folder is not None else PromptPack.default()
