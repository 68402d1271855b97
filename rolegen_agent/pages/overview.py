"""The overview: how decisions went over time, the slowest and dearest, and a list with filters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from rolegen_errors import InputError
from rolegen_graphs.words import ROLES

from ..memory.browsing import SORTS, DigestPage, Figures, Filters, Sort
from ..memory.browsing.records import OutcomeWord
from ..project import parse_date
from .site import Site

LINES, FEW = 50, 5
_BARS = 60
"""bars of a chart; more days are taken together"""


def add(app: FastAPI, site: Site) -> None:
    """Its address: ``/``."""

    @app.get("/")
    def overview(request: Request) -> Response:
        given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
        text, memory = given.get("text", ""), site.memory
        if not site.mask.on and text and memory.knows_user(text):
            return RedirectResponse(site.links(request).user(text, ""), 303)
        if text and memory.digest(text) is not None:
            return RedirectResponse(site.links(request).decision(text), 303)
        wanted, problems = read_filters(given)
        # A span of decision times is read in their own order: in another one it has to be searched for.
        usual: Sort = "time" if wanted.since or wanted.until else "recorded"
        sort: Sort = next((one for one in SORTS if one == given.get("sort")), usual)
        page = memory.browse(wanted, sort=sort, after=given.get("after"), limit=LINES)
        figures = memory.figures(wanted)
        return _page(site, request, given, wanted, problems, sort, page, figures)


def _page(
    site: Site,
    request: Request,
    given: dict[str, str],
    wanted: Filters,
    problems: list[str],
    sort: Sort,
    page: DigestPage,
    figures: Sequence[Figures],
) -> HTMLResponse:
    memory = site.memory
    partly = bool(set(wanted.wanted()) - {"run", "cohort", "reasoner", "since", "until"})
    # Among lines that are tried one by one the dearest would be searched for from the start each time.
    costly = any(one.calls for one in figures) and not partly
    return site.page(
        request,
        "overview.html.jinja",
        title="Decisions",
        given=given,
        wanted=wanted,
        problems=problems,
        sort=sort,
        page=page,
        totals=totals(figures),
        mix=by_reasoner(figures),
        charts=charts(figures),
        choices=memory.choices(),
        all_roles=ROLES,
        all_outcomes=get_args(OutcomeWord),
        dearest=memory.browse(wanted, sort="cost", limit=FEW).lines if costly else (),
        slowest=memory.browse(wanted, sort="seconds", limit=FEW).lines if costly else (),
        under_way=memory.under_way(),
        partly=partly,
    )


def read_filters(given: dict[str, str]) -> tuple[Filters, list[str]]:
    """Filters of an address, and what in it could not be understood."""
    found: dict[str, object] = {
        name: given[name]
        for name in ("run", "cohort", "role", "reasoner", "prompt", "outcome", "lesson", "text")
        if name in given
    }
    problems = []
    for name, allowed in (("role", ROLES), ("outcome", get_args(OutcomeWord))):
        if name in found and found[name] not in allowed:
            problems.append(f"{name} is one of {', '.join(allowed)}")
            del found[name]
    if "collapsed" in given:
        found["collapsed"] = given["collapsed"] not in ("0", "no", "false")
    for name in ("since", "until"):
        if name in given:
            try:
                day = parse_date(given[name])
            except InputError:
                problems.append(f"{name} is a date like 2011-09-01")
            else:
                found[name] = day + timedelta(days=1) if name == "until" else day
    return Filters.model_validate(found), problems


@dataclass
class Totals:
    """Sums of figures."""

    decisions: int = 0
    known: int = 0
    awakened: int = 0
    collapsed: int = 0
    value: float = 0.0
    calls: int = 0
    cached: int = 0
    failed: int = 0
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    seconds: float = 0.0

    def add(self, more: Figures) -> None:
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(more, name))


def totals(figures: Sequence[Figures]) -> Totals:
    """All of them together."""
    sums = Totals()
    for one in figures:
        sums.add(one)
    return sums


def by_reasoner(figures: Sequence[Figures]) -> list[tuple[str, Totals]]:
    """The reasoner mix, the most frequent first."""
    found: dict[str, Totals] = defaultdict(Totals)
    for one in figures:
        found[one.reasoner].add(one)
    return sorted(found.items(), key=lambda one: -one[1].decisions)


@dataclass
class Chart:
    """Bars over time: heading, (label, value, height in percent) of each bar, and what it says in words."""

    heading: str
    bars: list[tuple[str, str, float]]
    most: str
    spoken: str


def charts(figures: Sequence[Figures]) -> list[Chart]:
    """Decisions, awakened rate, cost and collapse over time; none for a single day, which the tiles tell."""
    days = sorted({one.day for one in figures})
    if len(days) < 2:
        return []
    width = max(1, -(-((days[-1] - days[0]).days + 1) // _BARS))
    spans: dict[datetime, Totals] = {}
    for one in figures:
        start = days[0] + timedelta(days=(one.day - days[0]).days // width * width)
        spans.setdefault(start, Totals()).add(one)
    kinds: tuple[tuple[str, Callable[[Totals], float], str], ...] = (
        ("Decisions", lambda sums: float(sums.decisions), "{:,.0f}"),
        ("Awakened, of those known", lambda sums: sums.awakened / sums.known if sums.known else 0.0, "{:.1%}"),
        ("Cost of LLM calls", lambda sums: sums.cost_usd, "${:,.4f}"),
        ("Collapsed slates", lambda sums: sums.collapsed / sums.decisions if sums.decisions else 0.0, "{:.1%}"),
    )
    found = []
    for heading, value, form in kinds:
        values = {start: value(sums) for start, sums in sorted(spans.items())}
        most = max(values.values())
        if most > 0:
            bars = [(f"{start:%Y-%m-%d}", form.format(one), 100 * one / most) for start, one in values.items()]
            peak = max(bars, key=lambda bar: bar[2])
            spoken = f"{heading}, {bars[0][0]} to {bars[-1][0]}: at most {peak[1]}, on {peak[0]}"
            found.append(Chart(heading, bars, peak[1], spoken))
    return found
