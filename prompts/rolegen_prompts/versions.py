"""Writing the next version of a prompt, and showing what changed between two."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Any

import frontmatter
import yaml

from rolegen_errors import PromptError

from .prompt import Prompt


def next_version(
    start: Prompt,
    folder: Path,
    *,
    note: str,
    taken: tuple[int, ...],
    body: str | None = None,
    draft_of: Mapping[str, Any] | None = None,
) -> Path:
    """Write a copy of ``start`` to ``folder`` as the version after all that are ``taken``; returns the new file.

    Args:
        body: another text below the front matter.
        draft_of: the lineage of a version that a program wrote; it is a draft, and not in use before a person says so.

    Nothing is ever overwritten: versions stay, so that a trace can show the prompt that it used.

    Raises:
        PromptError: ``note`` is empty, or the file exists.
    """
    if not note.strip():
        raise PromptError("a new version needs a change note", fix="say with --note what changes, and why")
    version = max((start.version, *taken)) + 1
    post = frontmatter.loads(start.text)
    kept = {key: value for key, value in post.metadata.items() if key not in ("draft", "lineage")}
    post.metadata = {**kept, "version": version, "note": note.strip()}
    if draft_of is not None:
        post.metadata |= {"draft": True, "lineage": dict(draft_of)}
    if body is not None:
        post.content = body
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
