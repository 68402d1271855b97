"""Writing the next version of a prompt, and showing what changed between two."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import frontmatter
import yaml

from rolegen_errors import PromptError

from .prompt import Prompt


def next_version(start: Prompt, folder: Path, *, note: str, taken: tuple[int, ...]) -> Path:
    """Write a copy of ``start`` to ``folder`` as the version after all that are ``taken``; returns the new file.

    Nothing is ever overwritten: versions stay, so that a trace can show the prompt that it used.

    Raises:
        PromptError: ``note`` is empty, or the file exists.
    """
    if not note.strip():
        raise PromptError("a new version needs a change note", fix="say with --note what changes, and why")
    version = max((start.version, *taken)) + 1
    post = frontmatter.loads(start.text)
    post.metadata = {**post.metadata, "version": version, "note": note.strip()}
    path = folder / start.name / f"{version}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            head = yaml.safe_dump(
                post.metadata, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
            )
            file.write(f"---\n{head}---\n{post.content}\n")
    except FileExistsError as error:
        raise PromptError("that version exists already", where=str(path), fix="edit it, or remove it") from error
    return path


def difference(old: Prompt, new: Prompt) -> str:
    """A unified diff of two prompt files; empty when they hold the same text."""
    lines = unified_diff(
        old.text.splitlines(),
        new.text.splitlines(),
        f"{old.name}/{old.version}.md",
        f"{new.name}/{new.version}.md",
        lineterm="",
    )
    return "\n".join(lines)
