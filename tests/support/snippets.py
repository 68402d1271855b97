"""Blocks of a Markdown page as a reader would run them.

- A ``python`` block is a program of its own.
- In a ``console`` block the lines after ``$ ``, and in a ``bash`` block all lines, are commands. Those of ``rolegen`` are run,
  ``make TARGET`` must name a target, and the set-up that a test environment has behind it (``git``, ``cd``, ``pip``, ...) is passed
  over. Any other command is an error, so that nothing in a page goes unchecked unnoticed.
- All blocks run in order in one folder. The comment ``<!-- not run: REASON -->`` in the line before a block excepts it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SET_UP = frozenset({"git", "cd", "pip", "python3", "export", "cp", "source", "open"})
_BLOCK = re.compile(
    r"(?:<!--\s*not run:(?P<reason>[^>]*)-->\s*\n)?^```(?P<language>\w+)[^\n]*\n(?P<body>.*?)^```\s*$", re.M | re.S
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to do: run a ``program``, run ``rolegen`` with arguments, or find a ``target`` in the Makefile."""

    kind: Literal["program", "rolegen", "target"]
    line: int
    text: str

    def arguments(self) -> list[str]:
        return shlex.split(self.text, comments=True)[1:]


def steps(page: str, name: str) -> Iterator[Step]:
    """The steps of ``page`` in order; ``ValueError`` for a block or command that this reader does not know."""
    for block in _BLOCK.finditer(page):
        line = page.count("\n", 0, block.start("body")) + 1
        reason = block["reason"]
        if reason is not None:
            if not reason.strip():
                raise ValueError(f"{name}:{line}: 'not run' without a reason")
            continue
        if block["language"] == "python":
            yield Step(kind="program", line=line, text=block["body"])
        elif block["language"] in ("console", "bash"):
            yield from _commands(block["body"], line, name, prompt="$ " if block["language"] == "console" else "")


def _commands(body: str, line: int, name: str, *, prompt: str) -> Iterator[Step]:
    joined = body.replace("\\\n", "\x00")  # a continued command is one command; its lines still count
    for text in joined.split("\n"):
        at, line = line, line + 1 + text.count("\x00")
        words = (
            shlex.split(text.removeprefix(prompt).replace("\x00", " "), comments=True)
            if text.startswith(prompt)
            else []
        )
        if not words or words[0] in SET_UP:
            continue
        command = shlex.join(words)
        if words[0] == "rolegen":
            yield Step(kind="rolegen", line=at, text=command)
        elif words[0] == "make":
            yield from (Step(kind="target", line=at, text=word) for word in words[1:] if "=" not in word)
        else:
            raise ValueError(
                f"{name}:{at}: do not know how to check {command!r}; mark the block '<!-- not run: why -->'"
            )


def read(path: Path) -> list[Step]:
    """The steps of a file."""
    return list(steps(path.read_text(encoding="utf-8"), path.name))
