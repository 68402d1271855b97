"""An ASGI app on a real port of loopback, and pages of a browser that tell what they must not do."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Page


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The base address of ``app``, without a slash at its end."""
    taken = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        taken.close()


class Strict:
    """A page whose console stays empty, that runs no script of others and asks nobody but its own server."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.faults = page, list[str]()
        page.on("console", lambda m: self.faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request", lambda r: None if r.url.startswith((base, "data:,")) else self.faults.append(f"request: {r.url}")
        )


def keep_picture(page: Page, name: str) -> None:
    """A picture of the whole page in the folder that ROLEGEN_TEST_SCREENSHOTS names; CI keeps them."""
    folder = os.environ.get("ROLEGEN_TEST_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{re.sub(r'[^a-z0-9-]+', '-', name)}.png", full_page=True)
