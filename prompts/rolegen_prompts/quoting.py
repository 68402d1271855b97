"""Data inside a prompt: bounded, free of control characters, and unable to leave its place.

Item titles, categories, lessons and earlier answers come from outside and may try to instruct the model. They are
shown only between the lines ``<<<name`` and ``name>>>``. The characters that a fence, a tag, a chat template's
special token or a Markdown code block is made of (``<``, ``>`` and the backtick) cannot occur in quoted data, so no
data can close its fence. A prompt that prints a text without quoting it is refused by the renderer.
"""

from __future__ import annotations

import re
import unicodedata

from rolegen_errors import PromptError

FENCE_LIMIT = 200_000
"""characters of a fenced block unless the prompt says otherwise"""
INLINE_LIMIT = 80
"""characters of a quoted field unless the caller says otherwise"""
ANSWER_LIMIT = 24_000
"""characters of an earlier answer that are shown again: several times the longest valid one"""

_CUT = "..."
_NAME = re.compile(r"[a-z][a-z_]*\Z")
_LOOKALIKES = {"<": "‹", ">": "›", "`": "ˋ"}
_CONTROL = re.compile(r"\[(/?[A-Z][A-Z_]{2,})\]")
"""``[INST]``, ``[/INST]``, ``[TOOL_RESULTS]``, ``[SEP]``: the special tokens that are written without angle brackets"""
_INLINE = str.maketrans({"[": "(", "]": ")", "{": "(", "}": ")", '"': "'", "\n": " ", "|": "/"})


class Quoted(str):
    """Text that has been made harmless; the only kind of text that a prompt may print."""

    __slots__ = ()


class _Characters(dict[int, str]):
    """Translation of one character, worked out on first sight and then remembered."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        category = unicodedata.category(char)
        if char == "\n":
            shown = "\n"
        elif char == "\t" or category in ("Zs", "Zl", "Zp"):
            shown = " "
        elif category.startswith("C") or 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF:
            shown = (
                ""  # control, format (also bidirectional overrides and invisible tags), surrogate, private, unassigned
            )
        else:
            shown = _LOOKALIKES.get(char, char)
        self[code] = shown
        return shown


_CHARACTERS = _Characters()


def _clean(text: str) -> str:
    # NFKC first: it turns full-width and other look-alikes of the fence's characters into those that are replaced.
    plain = unicodedata.normalize("NFKC", text.replace("\r\n", "\n").replace("\r", "\n")).translate(_CHARACTERS)
    return _CONTROL.sub(r"(\1)", plain)


def inline(text: str, limit: int = INLINE_LIMIT) -> Quoted:
    """One field on one line: no line break, no quote, bracket or bar that could forge another field.

    Args:
        text: anything.
        limit: most characters of the result; a longer text ends in ``...``.
    """
    # A title of megabytes is cut before it is normalised; four times the limit leaves room for what is stripped.
    shown = " ".join(_clean(text[: 4 * limit]).translate(_INLINE).split())
    if len(shown) > limit or len(text) > 4 * limit:
        shown = shown[: limit - len(_CUT)].rstrip() + _CUT
    return Quoted(shown)


def fence(text: str, name: str, limit: int = FENCE_LIMIT) -> Quoted:
    """A block of data between the lines ``<<<name`` and ``name>>>``; an empty one says ``(none)``.

    Raises:
        PromptError: ``name`` is not made of lower-case letters and underscores.
    """
    if not _NAME.match(name):
        raise PromptError(f"a fence cannot be named {name!r}", fix="use lower-case letters and underscores")
    shown = _clean(text[:limit]).strip("\n")[:limit]
    left_out = len(text) - limit
    if left_out > 0:
        shown += f"\n(cut: {left_out} more characters)"
    return Quoted(f"<<<{name}\n{shown or '(none)'}\n{name}>>>")


def answer(text: str, limit: int = ANSWER_LIMIT) -> Quoted:
    """The model's own earlier answer as a message of its own: bounded and free of control characters, not fenced.

    Angle brackets and control words stay replaced, so that a chat template's special tokens cannot return through an
    answer.
    """
    shown = _clean(text[:limit])[:limit]
    if len(text) > limit:
        shown += _CUT
    return Quoted(shown.strip() or "(empty answer)")
