"""Two decisions or two runs side by side."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from ..memory.browsing import Digest, Filters
from .decision import read_decision
from .overview import totals
from .site import Site


def add(app: FastAPI, site: Site) -> None:
    """Its address: ``/compare?a=…&b=…``, with ids of decisions or names of runs."""

    @app.get("/compare")
    def compare(request: Request, a: str = "", b: str = "") -> Response:
        memory, names = site.memory, [a.strip(), b.strip()]
        runs = memory.run_sizes()
        told: dict[str, Any] = {
            "title": "Compare",
            "a": names[0],
            "b": names[1],
            "runs": runs,
            "missing": [],
            "near": (),
        }
        decisions = [memory.digest(name) if name else None for name in names]
        if all(decisions):
            both = [read_decision(memory, name, site.titles) for name in names]
            site.mask.about(*(one.decision.user for one in both))
            shown = [{item.item: item.rank for item in one.decision.slate.items} for one in both]
            return site.page(request, "compare.html.jinja", **told, both=both, shown=shown, sums=None, pairs=())
        if all(name in runs for name in names):
            sums = [totals(memory.figures(Filters(run=name))) for name in names]
            pairs = memory.pairs(*names) if names[0] != names[1] else ()
            return site.page(request, "compare.html.jinja", **told, both=None, sums=sums, pairs=pairs)
        told["missing"] = [
            name for name, found in zip(names, decisions, strict=True) if name and found is None and name not in runs
        ]
        told["near"] = _near(site, next((one for one in decisions if one is not None), None))
        return site.page(request, "compare.html.jinja", **told, both=None, sums=None, pairs=())


def _near(site: Site, line: Digest | None) -> tuple[Digest, ...]:
    """Other decisions on the same user: what one is most often compared with."""
    if line is None:
        return ()
    found = site.memory.browse(Filters(user=line.user), sort="time", limit=20).lines
    return tuple(one for one in found if one.decision != line.decision)
