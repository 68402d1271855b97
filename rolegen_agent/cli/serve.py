"""``serve``: slates over HTTP in milliseconds, from decisions that were made beforehand."""

from __future__ import annotations

import gc
import os
import secrets
from typing import Annotated

import typer

from rolegen_errors import ProjectError

from ..facade import RoleGen
from .options import ProjectOption
from .show import bars, err, out

DEFAULT_PORT = 8724
TOKEN = "ROLEGEN_SERVE_TOKEN"
"""environment variable with the token that programs bear; it is no option, since options show in process lists"""
LEAST_TOKEN = 16


def serve(
    project: ProjectOption = None,
    at: Annotated[
        str | None,
        typer.Option("--at", help="Start the clock at this time, for a log of the past; else the time that it is."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Answer from decisions of this run only.", show_default=False)
    ] = None,
    host: Annotated[str, typer.Option("--host", help=f"Beyond loopback a token is asked for ({TOKEN}).")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = DEFAULT_PORT,
) -> None:
    """Answer requests for slates from memory, ranked again by the backbone for what users did since. Never asks an LLM.

    POST /slate and POST /events; /openapi.json describes them. New decisions, artefacts and days are picked up while it runs.
    """
    from ..online import create_app
    from ..pages import LOOPBACK, is_loopback
    from ..pages import serve as serve_app

    near, token = is_loopback(host), os.environ.get(TOKEN) or None
    if token is not None and len(token) < LEAST_TOKEN:
        raise ProjectError(f"{TOKEN} has fewer than {LEAST_TOKEN} characters", fix="leave it unset, and one is made")
    made = token is None and not near
    if made:
        token = secrets.token_urlsafe(24)
    with RoleGen.open(project) as shop:
        with bars() as progress:
            online = shop.online(at, run=run, apart=shop.project.settings.serve.apart, progress=progress)
        with online:
            # Beyond loopback the token, which a strange site does not have, takes the place of the check of names.
            app = create_app(online, token=token, hosts={*LOOPBACK, host} if near else None)

            def ready(taken: int) -> None:
                shown = f"[{host}]" if ":" in host else host
                if made:
                    err.print(f"token: {token}", markup=False, soft_wrap=True)
                out.print(f"serving http://{shown}:{taken}", markup=False, soft_wrap=True)
                err.print("Ctrl-C ends it", style="dim")

            gc.collect()
            gc.freeze()  # what was loaded stays: looking through it again and again would hold up answers
            serve_app(app, host, port, ready, what="slates")
