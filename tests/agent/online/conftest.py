"""A small real shop with decisions, served within the test or by a process of its own."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from rolegen_agent.facade import RoleGen
from rolegen_agent.online import Online
from tests.support.shop import AT, line, rolegen, trained, users_at

__all__ = ["line", "rolegen", "trained"]
NOW = "2011-09-01T10:00:00+00:00"
"""where the server's clock starts: ten hours after the decisions"""


@dataclass(frozen=True)
class Decided:
    """A project whose first users are decided on."""

    folder: Path
    users: list[str]
    others: list[str]
    """dormant too, and not decided on"""


@pytest.fixture(scope="session")
def decided(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Decided:
    """Decided once; copy it to change it."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("served") / "shop"))
    users = list(users_at(folder, 8))
    with RoleGen.open(folder) as shop:
        shop.awaken(users[:5], AT)
    return Decided(folder, users[:5], users[5:])


@pytest.fixture
def copied(decided: Decided, tmp_path: Path) -> Decided:
    """A copy to do anything to."""
    return Decided(Path(shutil.copytree(decided.folder, tmp_path / "shop")), decided.users, decided.others)


@pytest.fixture
def online(copied: Decided) -> Iterator[Online]:
    """The copy, ready to answer."""
    with RoleGen.open(copied.folder) as shop, shop.online(NOW) as opened:
        yield opened


def wait_for(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Until it holds; what others write is looked at once a second."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.05)


@dataclass(frozen=True)
class Client:
    """Real HTTP to a server on loopback."""

    port: int
    token: str | None = None

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        given = {"content-type": "application/json"} if body is not None else {}
        if self.token is not None:
            given["authorization"] = f"Bearer {self.token}"
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, given | (headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """The JSON of an answer that must be one."""
        status, _, told = self.send("POST", path, json.dumps(body).encode())
        assert status == 200, told
        found: dict[str, Any] = json.loads(told)
        return found

    def get(self, path: str) -> dict[str, Any]:
        """The JSON of an answer that must be one."""
        status, _, told = self.send("GET", path)
        assert status == 200, told
        found: dict[str, Any] = json.loads(told)
        return found
