"""The ASGI app: which address shows which page, and what an error looks like."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from rolegen_errors import InputError, MemoryAwayError, RoleGenError

from ..memory import Memory
from . import compare, decision, lessons, overview, prompts, user
from .masking import Mask
from .security import Guard
from .site import Site, Titles, nobody
from .static import asset


def create_app(
    memory: Memory,
    *,
    titles: Titles | None = None,
    mask: bool = False,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    evals: Sequence[Path] = (),
    trace_url: str = "",
) -> FastAPI:
    """The trace pages of a memory, to run with any ASGI server or to mount in an app of your own.

    Args:
        memory: stays yours to close.
        titles: gives catalogue titles of item ids, for items that a decision does not mention.
        mask: leave out who users are; see :mod:`rolegen_agent.pages.masking`.
        token: visitors must know it. Without one whoever reaches the app reads everything in it.
        hosts: names under which the app may be asked for (DNS rebinding); None where the surrounding app sees to it.
        evals: folders of suites of ``rolegen eval``, whose results stand beside the prompts they were made with.
        trace_url: page of an OpenTelemetry trace in a viewer, with ``{trace_id}`` in it; empty links nowhere.
    """
    site = Site(memory, titles or nobody, Mask(mask), tuple(evals), trace_url)
    app = FastAPI(title="RoleGen trace pages", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, hosts=hosts, token=token)
    for page in (overview, decision, user, lessons, compare, prompts):
        page.add(app, site)

    @app.get("/live")
    def live() -> JSONResponse:
        return JSONResponse({"version": memory.version(), "under_way": memory.under_way()})

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        kind, text = asset(name)
        return Response(text, media_type=kind, headers={"cache-control": "no-cache"})

    @app.exception_handler(RoleGenError)
    def failed(request: Request, error: Exception) -> Response:
        status = 503 if isinstance(error, MemoryAwayError) else 404 if isinstance(error, InputError) else 500
        what, fix = getattr(error, "what", str(error)), getattr(error, "fix", None)
        return _plainly(request, status, what, fix or "")

    @app.exception_handler(HTTPException)
    def missing(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        return _plainly(request, status, "There is no such page.", "begin with the overview")

    def _plainly(request: Request, status: int, what: str, fix: str) -> Response:
        try:
            return site.page(request, "error.html.jinja", status=status, what=what, fix=fix, title="Not found")
        except RoleGenError:  # the page reads the memory too, and that may be what failed
            return Response(f"{what}\n{fix}", status, media_type="text/plain; charset=utf-8")

    return app


def catalogue_titles(file: Path) -> Titles:
    """Titles from a project's ``items.parquet``, read when the first one is asked for."""
    known: dict[str, str] = {}

    def titles(items: object) -> dict[str, str]:
        if not known and file.exists():
            import polars as pl

            known.update(pl.read_parquet(file, columns=["item", "title"]).iter_rows())
        return known

    return titles
