"""The memory's server goes away under a server that answers: slates go on, nothing that was told is taken for kept, and it heals."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, make_url, text

from rolegen_agent.facade import RoleGen
from rolegen_agent.memory import open_memory
from rolegen_errors import MemoryStoreError

from .conftest import NOW, Decided, wait_for

pytest_plugins = ["tests.support.postgres"]


class Switched:
    """A database of its own that can be made to take no connections."""

    def __init__(self, server: str) -> None:
        self.name = f"rolegen_test_{uuid.uuid4().hex[:12]}"
        self._admin = create_engine(server, isolation_level="AUTOCOMMIT")
        self.run(f"CREATE DATABASE {self.name}")
        self.url = make_url(server).set(database=self.name).render_as_string(hide_password=False)

    def run(self, statement: str, **values: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(statement), values)

    def away(self) -> None:
        self.run(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name", name=self.name)

    def back(self) -> None:
        self.run(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")

    def close(self) -> None:
        self.run(f"DROP DATABASE {self.name} WITH (FORCE)")
        self._admin.dispose()


@pytest.fixture
def database(postgres_url: str) -> Iterator[Switched]:
    made = Switched(postgres_url)
    yield made
    made.close()


def test_slates_go_on_without_the_memory(copied: Decided, database: Switched) -> None:
    user, other = copied.users[:2]
    with RoleGen.open(copied.folder) as shop, open_memory(database.url, upgrade=True) as memory:
        for one in (user, other):
            memory.record(shop.trace(one))
    row = {"user": user, "item": "22423", "behaviour": "order", "time": "2011-09-01T09:00:00Z"}
    with RoleGen.open(copied.folder, overrides={"memory": {"url": database.url}}) as shop, shop.online(NOW) as online:
        assert online.tell([row]).recorded == 1
        assert online.slate(user).events_seen == 1
        database.away()
        known, stranger = online.slate(user), online.slate(copied.others[0])
        assert (known.source, known.events_seen, known.memory_away) == ("reranked", 1, False), "it is held in RAM"
        assert (stranger.source, stranger.memory_away) == ("backbone", True)
        with pytest.raises(MemoryStoreError):
            online.tell([row | {"time": "2011-09-01T09:30:00Z"}])
        after = online.slate(user)
        assert after.decision == known.decision, "what was known holds on"
        wait_for(lambda: online.health().status == "degraded")
        assert online.health().faults[0].startswith("memory: ")
        database.back()
        wait_for(lambda: online.health().status == "ok")
        assert online.tell([row, row | {"time": "2011-09-01T09:30:00Z"}]).recorded == 1
        wait_for(lambda: online.slate(user).events_seen == 2)
        wait_for(lambda: not online.slate(copied.others[0]).memory_away)
