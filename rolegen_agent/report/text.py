"""Text from outside made fit to be shown: bounded, on one line, without control characters.

HTML escaping is not done here: the template escapes everything.
"""

from __future__ import annotations

import re

_SPACE = re.compile(r"\s+")
# C0 and C1 controls, line and paragraph separators, lone surrogates (they cannot be written as UTF-8), the bidirectional
# controls that would make what follows them read backwards, and what nobody sees but a machine that copies it reads:
# zero-width spaces, tag characters, private use. Letters of right-to-left scripts and the joiners of emoji stay.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\u00ad\u180e\u200b\u2060-\u2064\u206a-\u206f\ue000-\uf8ff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U0010ffff]"
)


def clean(text: str) -> str:
    """``text`` on one line, each character that could disturb the page replaced by U+FFFD."""
    return _UNSAFE.sub("\ufffd", _SPACE.sub(" ", text)).strip()


def bounded(text: str, limit: int) -> str:
    """``clean(text)``, cut after ``limit`` characters with an ellipsis and the full length said.

    >>> bounded("a" * 100_000, 3)
    'aaa… (100,000 characters)'
    """
    head = clean(text[: limit * 4 + 64])  # only what can be shown is cleaned, so that a huge title costs nothing
    if len(text) <= limit * 4 + 64 and len(head) <= limit:
        return head
    return f"{head[:limit].rstrip()}… ({len(text):,} characters)"


def tidy(text: str, limit: int) -> str:
    """As :func:`bounded`, but lines and indents stay: for prompts, answers and JSON.

    >>> tidy("a\\n  b\\x00", 9)
    'a\\n  b\ufffd'
    """
    lines = text[:limit].replace("\r\n", "\n").expandtabs(4).split("\n")
    head = "\n".join(_UNSAFE.sub("\ufffd", line) for line in lines)
    return head if len(text) <= limit else f"{head}\n… ({len(text):,} characters)"


def points(change: float) -> str:
    """A change of probability in signed percentage points.

    >>> points(0.0312), points(-0.004)
    ('+3.1', '−0.4')
    """
    shown = f"{abs(change) * 100:.1f}"
    return shown if float(shown) == 0 else f"{'−' if change < 0 else '+'}{shown}"
