"""Lessons: which there are, and the life of one: its versions, its evidence, and who was told."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import Response

from rolegen_errors import InputError

from ..memory.browsing import Filters
from .site import Site


def add(app: FastAPI, site: Site) -> None:
    """Its address: ``/lessons``, with ``?id=LESSON`` for one."""

    @app.get("/lessons")
    def lessons(request: Request, id: str = "") -> Response:
        if not id:
            return site.page(request, "lessons.html.jinja", title="Lessons", lessons=site.memory.lessons())
        versions = [one for one in site.memory.lesson_versions(id) if one.lesson == id]
        if not versions:
            raise InputError("there is no such lesson", fix="the list of lessons has them all")
        newest = versions[-1]
        if newest.scope == "user":
            site.mask.about(newest.scope_key)
        evidence = site.memory.evidence_for(id)
        shown = site.memory.browse(Filters(lesson=id), limit=20)
        return site.page(
            request,
            "lesson.html.jinja",
            title=f"Lesson {id[:16]}",
            lesson=newest,
            versions=list(reversed(versions)),
            evidence=evidence,
            uses=site.memory.lesson_uses(id),
            shown=shown,
        )
