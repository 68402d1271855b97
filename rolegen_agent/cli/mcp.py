"""``mcp``: the project as a server of the Model Context Protocol, over stdio or HTTP on loopback."""

from __future__ import annotations

import logging
import os
import secrets
from typing import Annotated

import typer

from rolegen_errors import ProjectError

from ..facade import RoleGen
from .options import ProjectOption
from .show import err

TOKEN = "ROLEGEN_MCP_TOKEN"
"""environment variable with the token that clients over HTTP bear; it is no option, since options show in process lists"""
LEAST_TOKEN = 16


def mcp(
    http: Annotated[bool, typer.Option("--http", help=f"HTTP with a bearer token ({TOKEN}) instead of stdio.")] = False,
    host: Annotated[str, typer.Option("--host", help="Address for --http.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port for --http.")] = 8765,
    at: Annotated[str | None, typer.Option("--at", help="Decision time where a call names none; else today.")] = None,
    project: ProjectOption = None,
) -> None:
    """Serve the project to agents that speak MCP: awaken, explain, list and record; traces; prompts."""
    from ..mcp_server import create_mcp_server

    token = os.environ.get(TOKEN)
    if http and token is not None and len(token) < LEAST_TOKEN:
        raise ProjectError(f"{TOKEN} has fewer than {LEAST_TOKEN} characters", fix="leave it unset, and one is made")
    made = http and token is None
    if made:
        token = secrets.token_urlsafe(32)
    with RoleGen.open(project) as shop:
        server = create_mcp_server(shop, at=at, token=token if http else None)
        if not http:
            server.run(transport="stdio", show_banner=False)
            return
        if made:
            err.print(f"token: {token}", markup=False, soft_wrap=True)
        err.print(f"http://{host}:{port}/mcp", markup=False, soft_wrap=True)
        logging.getLogger("uvicorn.access").disabled = True
        server.run(transport="http", host=host, port=port, show_banner=False, host_origin_protection="auto")
