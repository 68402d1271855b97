"""What all pages share: the memory, the templates, and how anything from outside becomes text on a page.

Every value that a template prints is made fit to be shown before it is escaped: bounded, without control and direction
characters (``report.text``). A template cannot forget it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from rolegen_graphs.words import ROLES

from ..memory import Memory
from ..report.reasons import choice_words, parts_words, place_words, showing_words, wish_words
from ..report.text import bounded, clean, points, tidy
from ..report.words import ROLE_MEANING, reasoner_words
from ..telemetry import trace_page
from .links import Links
from .masking import Mask

HERE = Path(__file__).parent
LONGEST = 500
"""characters of one text on a page, but for prompts and answers"""
WHOLE = 60_000
"""characters of a prompt or an answer"""
Titles = Callable[[Iterable[str]], Mapping[str, str]]

OUTCOME_WORDS = {
    "ordered": "came back and ordered",
    "refunded": "ordered and gave it back",
    "not_ordered": "stayed away",
    "open": "no order yet",
    "unknown": "not known yet",
}


class Whole(str):
    """A text that may keep its lines and its length: a prompt or an answer."""


def nobody(items: Iterable[str]) -> Mapping[str, str]:
    """No titles known."""
    return {}


@dataclass
class Site:
    """A memory as pages; see :func:`rolegen_agent.pages.create_app` for the fields."""

    memory: Memory
    titles: Titles = nobody
    mask: Mask = field(default_factory=Mask)
    evals: tuple[Path, ...] = ()
    trace_url: str = ""

    def page(self, request: Request, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
        """Render a template for one request."""
        return HTMLResponse(self.text(template, self.links(request), **values), status)

    def trace_link(self, trace: str | None) -> str | None:
        """The page of a decision's OpenTelemetry trace in the viewer that the project names, if it names one."""
        return trace_page(self.trace_url, trace)

    def links(self, request: Request) -> Links:
        """Addresses below the one that the app is mounted at."""
        return Links(str(request.scope.get("root_path", "")).rstrip("/"), self.mask)

    def text(self, template: str, links: Links, **values: object) -> str:
        """A template as text; ``to`` makes its links."""
        shown = {"to": links, "mask": self.mask, "version": self.memory.version(), "exported": False, **values}
        return environment(self.mask.on).get_template(template).render(shown)


@functools.cache
def environment(masked: bool) -> jinja2.Environment:
    """The templates, with what each of them may use."""

    def shown(value: Any) -> Any:
        if isinstance(value, Whole):
            return tidy(Mask.text(value), WHOLE)
        if type(value) is not str:
            return "" if value is None else value
        fit = bounded(
            Mask.text(value), LONGEST
        )  # which strips the blanks that a template's own pieces of text may need
        return f"{' ' if value[:1] == ' ' else ''}{fit}{' ' if fit and value[-1:] == ' ' else ''}"

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        points=points,
        money=money,
        percent=percent,
        thousands=lambda number: f"{number:,.0f}",
        moment=lambda at: at.strftime("%Y-%m-%d %H:%M"),
        role=lambda role: ROLES.index(role) if role in ROLES else len(ROLES) - 1,
        choice=choice_words,
        parts=parts_words,
        place=place_words,
        showing=showing_words,
        wish=wish_words,
        reasoner=reasoner_words,
        outcome=lambda word: OUTCOME_WORDS.get(word, word),
        short=short,
        whole=Whole,
        spaced=lambda text: text.replace("_", " "),
    )
    made.globals.update(roles=list(enumerate(ROLES)), meaning=ROLE_MEANING, outcomes=OUTCOME_WORDS, money=money)
    return made


def short(text: str, limit: int = 60) -> str:
    """The beginning of a text, on one line.

    >>> short("WHITE HANGING HEART", 12)
    'WHITE HANGIN…'
    """
    head = clean(Mask.text(text[: limit * 4 + 64]))
    return head if len(head) <= limit else f"{head[:limit].rstrip()}…"


def money(usd: float, unpriced: int = 0) -> str:
    """Dollars, and whether there are calls whose price is not known.

    >>> money(0.01234), money(12.5), money(0.0, 2)
    ('$0.0123', '$12.50', '$0.00 + 2 unpriced')
    """
    shown = f"${usd:,.4f}" if 0 < abs(usd) < 1 else f"${usd:,.2f}"
    return f"{shown} + {unpriced} unpriced" if unpriced else shown


def percent(part: float, whole: float = 1.0) -> str:
    """A share; a dash where there is nothing to share."""
    return f"{part / whole:.1%}" if whole else "–"
