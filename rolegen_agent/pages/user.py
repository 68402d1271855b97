"""All decisions on one user."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import Response

from rolegen_errors import InputError

from ..memory.browsing import Filters
from .site import Site

LINES = 100


def add(app: FastAPI, site: Site) -> None:
    """Its address: ``/users?id=USER``, and ``/users?of=DECISION`` where users are masked."""

    @app.get("/users")
    def user(request: Request, id: str = "", of: str = "", after: str | None = None) -> Response:
        if of:
            found = site.memory.digest(of)
            name = found.user if found is not None else ""
        elif site.mask.on:
            raise InputError("users are masked here", fix="open a decision of theirs, and follow its user")
        else:
            name = id
        page = site.memory.browse(Filters(user=name), sort="time", after=after, limit=LINES)
        if not name or not (page.lines or after):
            raise InputError(
                "there is no decision on this user", fix="`rolegen dormant` lists users, `rolegen awaken` decides"
            )
        site.mask.about(name)
        shown = site.mask.user(name)
        return site.page(request, "user.html.jinja", title=f"User {shown}", name=shown, user=name, page=page)
