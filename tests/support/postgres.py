"""A real PostgreSQL database of its own for a test session, and the databases that memory tests run on."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import OperationalError

from rolegen_agent.memory import Memory, open_memory
from rolegen_agent.memory.schema import VERSION_TABLE

VERSIONS = {VERSION_TABLE, "checkpoint_migrations"}
SERVER = os.environ.get("ROLEGEN_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
HOW_TO_START = (
    "start one with `docker run -p 5432:5432 -e POSTGRES_HOST_AUTH_METHOD=trust postgres:16`, or set"
    " ROLEGEN_TEST_POSTGRES to the address of one"
)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Address of an empty database that exists for this session only."""
    server = make_url(SERVER).set(drivername="postgresql+psycopg")
    admin = create_engine(server, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 5})
    name = f"rolegen_test_{uuid.uuid4().hex[:12]}"
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError as error:
        reason = f"no PostgreSQL at {server.host}:{server.port} ({HOW_TO_START})"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: {error.orig}")
        pytest.skip(reason)
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def memory_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a migrated memory without rows, once on each database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'memory.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    with open_memory(url, upgrade=True):
        pass
    if request.param == "postgresql":
        engine = create_engine(url)
        with engine.begin() as connection:
            # Whatever an earlier test left, the checkpoints that langgraph keeps in tables of its own included.
            filled = sorted(set(inspect(connection).get_table_names()) - VERSIONS)
            connection.execute(text(f"TRUNCATE {', '.join(filled)} CASCADE"))
        engine.dispose()
    return url


@pytest.fixture
def memory(memory_url: str) -> Iterator[Memory]:
    with open_memory(memory_url) as opened:
        yield opened
