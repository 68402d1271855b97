"""Named parts of a prompt: what stands below the headings ``## Name`` of its section ``# System``.

A part ends at the next heading. Everything else (front matter, what stands before the first heading, the other sections) is its frame.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rolegen_errors import PromptError

from .prompt import Prompt

_HEADING = re.compile(r"^## (?P<name>.+?)\s*$")
_SPEAKER = re.compile(r"^# (System|User|Assistant)\s*$")
_ANY_HEADING = re.compile(r"^#{1,2} ", re.MULTILINE)


def parts_of(prompt: Prompt) -> dict[str, str]:
    """The text of each part by its name, in order, without blank lines around it.

    Raises:
        PromptError: two parts have the same name.
    """
    found: dict[str, str] = {}
    for name, lines in _split(prompt.body):
        if name is not None:
            if name in found:
                raise PromptError(f"two parts are called '{name}'", where=str(prompt.path), fix="rename one of them")
            found[name] = "\n".join(lines).strip()
    return found


def with_parts(prompt: Prompt, texts: Mapping[str, str]) -> str:
    """The body of ``prompt`` with other texts in some of its parts.

    Raises:
        PromptError: there is no such part, or a text holds a heading, with which it would be more than one part.
    """
    unknown = sorted(set(texts) - set(parts_of(prompt)))
    if unknown:
        known = ", ".join(parts_of(prompt)) or "none"
        raise PromptError(
            f"no part is called {', '.join(unknown)}", where=str(prompt.path), fix=f"the parts are: {known}"
        )
    for part, text in texts.items():
        if _ANY_HEADING.search(text):
            raise PromptError("the text holds a heading of its own", where=f"part '{part}'", fix="write it without")
    blocks = []
    for name, lines in _split(prompt.body):
        if name is not None and name in texts:
            blocks.append(f"## {name}\n{texts[name].strip()}\n")
        else:
            blocks.append("\n".join(lines if name is None else [f"## {name}", *lines]))
    return "\n".join(blocks).strip()


def _split(body: str) -> list[tuple[str | None, list[str]]]:
    """The body in pieces: a part by its name, without its heading, or a piece of the frame by None."""
    pieces: list[tuple[str | None, list[str]]] = [(None, [])]
    speaker = ""
    for line in body.splitlines():
        if section := _SPEAKER.match(line):
            speaker = section[1]
            pieces.append((None, [line]))
        elif speaker == "System" and (heading := _HEADING.match(line)):
            pieces.append((heading["name"], []))
        else:
            pieces[-1][1].append(line)
    return [piece for piece in pieces if piece[0] is not None or piece[1]]
