"""The ASGI app of ``rolegen serve``: addresses, errors, and who may ask.

===================  ==========================================================================================
``POST /slate``      one user's slate now (:class:`~.words.SlateWanted`, :class:`~.words.Answer`)
``POST /events``     what users did, kept for every later request (:class:`~.words.EventsTold`)
``GET /health``      whether all works, and what is served; 200 also where something does not
``GET /metrics``     counters and latencies for Prometheus
``GET /openapi.json``  the schema of all this
===================  ==========================================================================================

A page of another site in a browser on this machine cannot use it: the host name is checked, and a body must call itself JSON,
which no site can send elsewhere without asking first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rolegen_errors import BusyError, InputError, MemoryStoreError, RoleGenError

from ..pages.security import Guard, bears
from .engine import Online
from .words import Answer, EventsReport, EventsTold, Health, SlateWanted

LARGEST_BODY = 2**20
"""bytes"""
BUSY_S, AWAY_S = 1, 2
"""seconds after which to ask again"""
_SAID: dict[int | str, dict[str, Any]] = {
    422: {"description": "not understood; the answer says what is wrong"},
    503: {"description": "too many requests are under way, or the memory is away; see Retry-After"},
}


def create_app(online: Online, *, token: str | None = None, hosts: Collection[str] | None = None) -> FastAPI:
    """The app over an opened project, to run with any ASGI server or to mount in an app of your own.

    Args:
        online: is closed when the app that is run ends; mounted in another one it stays yours to close.
        token: programs must bear it (``Authorization: Bearer …``). Without one whoever reaches the app may use it.
        hosts: names under which the app may be asked for (DNS rebinding); None where the surrounding app sees to it.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(online.close)

    app = FastAPI(
        title="RoleGen",
        description="Slates for dormant users, from decisions that were made beforehand.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(Bounded)
    app.add_middleware(ServeGuard, hosts=hosts, token=token)

    @app.post("/slate", responses={200: {"model": Answer}, **_SAID})
    async def slate(wanted: SlateWanted) -> Response:
        """One user's slate now."""
        told = await online.aslate(wanted)
        return Response(told.model_dump_json(), media_type="application/json")

    @app.post("/events", responses=_SAID)
    async def events(told: EventsTold) -> EventsReport:
        """Keep what users did; it is in the memory when the answer comes. Telling it again changes nothing."""
        return await online.atell(told.events)

    @app.get("/health")
    async def health() -> Health:
        """Whether all works, and what is served."""
        return online.health()

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters and latencies in the text format of Prometheus."""
        return Response(online.figures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(RoleGenError)
    async def failed(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RoleGenError)
        if isinstance(error, BusyError):
            return _said(503, error.what, error.fix, after=BUSY_S)
        if isinstance(error, MemoryStoreError):
            return _said(503, "the memory does not answer; nothing was recorded", "send the same again", after=AWAY_S)
        if isinstance(error, InputError):
            online.figures.refused("not_understood")
            return _said(422, error.what, error.fix)
        online.figures.refused("failed")
        return _said(500, error.what, error.fix)

    @app.exception_handler(RequestValidationError)
    async def not_understood(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        online.figures.refused("not_understood")
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:120]
        return _said(422, f"{where}: {first['msg']}"[:400], "see /openapi.json")  # without what was sent

    return app


def _said(status: int, what: str, fix: str | None, *, after: int | None = None) -> Response:
    safe = what.encode("utf-8", "replace").decode()
    headers = None if after is None else {"retry-after": str(after)}
    return JSONResponse({"what": safe, "fix": fix or ""}, status, headers)


class ServeGuard(Guard):
    """The guard of the pages, for programs: they may post JSON, and bear the token in a header."""

    methods: ClassVar[tuple[str, ...]] = ("GET", "HEAD", "POST")
    refused: ClassVar[str] = "GET or POST; see /openapi.json."

    def _refusal(self, scope: Scope) -> Response | None:
        refusal = super()._refusal(scope)
        if refusal is None and scope["method"] == "POST":
            kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return PlainTextResponse("Send JSON, and say so: content-type: application/json.", 415)
        return refusal

    def _ask(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        if bears(headers, token):
            return None
        return PlainTextResponse("A token is needed: Authorization: Bearer TOKEN.", 401, {"www-authenticate": "Bearer"})


class Bounded:
    """ASGI middleware that reads no more than :data:`LARGEST_BODY` of a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = Headers(scope=scope).get("content-length", "0")
        if not told.isdigit() or int(told) > LARGEST_BODY:
            await PlainTextResponse(f"A body may have {LARGEST_BODY:,} bytes.", 413)(scope, receive, send)
            return
        size = 0

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > LARGEST_BODY:  # without a length, in pieces
                raise InputError(f"the body has more than {LARGEST_BODY:,} bytes", fix="send less at once")
            return message

        await self._app(scope, bounded, send)
