"""Running an app until Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from rolegen_errors import InputError


def serve(app: FastAPI, host: str, port: int, ready: Callable[[int], None], *, what: str = "pages") -> None:
    """Serve ``app`` at an address; ``ready`` is told the port once it is taken.

    Raises:
        InputError: the address cannot be taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        taken = socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"{what} cannot be served: {error.strerror or error}",
            where=f"{host}:{port}",
            fix="give another --port, or 0 for a free one",
        ) from error
    with taken:
        ready(taken.getsockname()[1])
        # No log of requests: addresses name users.
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[taken])
