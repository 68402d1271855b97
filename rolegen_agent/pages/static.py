"""The style sheet and the script of the pages; nothing else is loaded."""

from __future__ import annotations

import functools

from rolegen_errors import InputError

from .. import report
from .site import HERE

_KINDS = {"pages.css": "text/css; charset=utf-8", "pages.js": "text/javascript; charset=utf-8"}


@functools.cache
def asset(name: str) -> tuple[str, str]:
    """Media type and text of a file."""
    if name not in _KINDS:
        raise InputError("there is no such file", fix="begin with the overview")
    text = (HERE / "static" / name).read_text("utf-8")
    if name == "pages.css":  # the look of the report, and what only pages need
        text = (HERE.parent / report.__name__.rpartition(".")[2] / "style.css").read_text("utf-8") + text
    return _KINDS[name], text
