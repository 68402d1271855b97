"""What is wrong, or looks wrong, with a folder of prompts: everything at once, where loading stops at the first error."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from rolegen_errors import PromptError

from .pack import PromptPack, variables_error
from .prompt import Prompt
from .tokens import estimate_tokens

Severity = Literal["error", "warning"]
_LONG = 2.0
"""times the tokens of the default prompt from which a prompt is called long"""


class Finding(NamedTuple):
    """One thing that is wrong (``error``: the prompt cannot be used as it is) or that looks unintended (``warning``)."""

    severity: Severity
    path: Path
    what: str
    fix: str | None = None


def read_all(folder: Path) -> tuple[list[Prompt], list[Finding]]:
    """Every prompt file of ``folder`` that can be read, by name and version, and what is wrong with the others."""
    prompts: list[Prompt] = []
    findings: list[Finding] = []
    if not folder.is_dir():
        return [], [Finding("error", folder, "the prompt folder does not exist")]
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix != ".md" or len(path.relative_to(folder).parts) != 2:
            findings.append(Finding("warning", path, "never read", "a prompt lies at <name>/<version>.md"))
            continue
        try:
            prompts.append(Prompt.read(path))
        except PromptError as error:
            findings.append(Finding("error", path, error.what, error.fix))
    if not prompts and not findings:
        findings.append(Finding("error", folder, "the prompt folder holds no prompt", "rolegen prompts new NAME"))
    return sorted(prompts, key=lambda prompt: (prompt.name, prompt.version)), findings


def lint(folder: Path, default: PromptPack) -> list[Finding]:
    """All findings about the files in ``folder``, which overrides ``default``; none means that it loads and is used."""
    prompts, findings = read_all(folder)
    # The last one of a name is its highest version.
    newest = {prompt.name: prompt for prompt in prompts if not prompt.draft}
    for prompt in prompts:
        if prompt.name not in default.names():
            fix = f"known names: {', '.join(default.names())}"
            findings.append(Finding("error", prompt.path, f"no part of the loop uses a prompt '{prompt.name}'", fix))
            continue
        if prompt is newest.get(prompt.name) or prompt.draft:
            findings += _current(prompt, default.get(prompt.name))
        findings += _unchanged(prompt, [one for one in prompts if one.name == prompt.name], default)
    return sorted(findings, key=lambda one: (str(one.path), one.severity))


def _current(prompt: Prompt, default: Prompt) -> list[Finding]:
    """About the version that would be used."""
    found: list[Finding] = []
    if (error := variables_error(prompt, default)) is not None:
        found.append(Finding("error", prompt.path, error.what, error.fix))
    unused = [name for name in prompt.variables if name not in prompt.used]
    if unused:
        said = f"declared and never printed: {', '.join(unused)}"
        found.append(Finding("warning", prompt.path, said, "print it, unless the model shall not see it"))
    tokens, usual = estimate_tokens(prompt.text), estimate_tokens(default.text)
    if tokens > _LONG * usual:
        said = f"about {tokens:,} tokens before any data, the default has {usual:,}"
        found.append(Finding("warning", prompt.path, said, "every call pays for them"))
    return found


def _unchanged(prompt: Prompt, own: list[Prompt], default: PromptPack) -> list[Finding]:
    """An older version with the very same text for the model: a new number for nothing."""
    older = {version: default.get(prompt.name, version) for version in default.versions(prompt.name)}
    older |= {one.version: one for one in own}
    same = [number for number, one in older.items() if number < prompt.version and one.body == prompt.body]
    if not same:
        return []
    return [Finding("warning", prompt.path, f"says the same as version {same[-1]}", "change its text, or remove it")]
