"""Opening, migrating and refusing databases; no password ever shows."""

from __future__ import annotations

import importlib.util
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Constraint, Index, column, create_engine, inspect, make_url, table, text, update

from rolegen_agent.feedback import record_rows
from rolegen_agent.feedback.recording import row_of
from rolegen_agent.llm.usage import Spending
from rolegen_agent.memory import ToldEvent, database, open_memory
from rolegen_agent.memory.columns import dump_json
from rolegen_agent.memory.models import Base
from rolegen_agent.memory.schema import REVISIONS, VERSION_TABLE
from rolegen_agent.memory.told import told_key
from rolegen_errors import InputError, MemoryStoreError, MissingExtraError
from rolegen_graphs.words import Attribution, Outcome
from tests.support.decisions import make_call, make_decision

pytest_plugins = ["tests.support.postgres"]


@pytest.fixture
def fresh_postgres(postgres_url: str) -> Iterator[str]:
    """A database without any table."""
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    name = f"rolegen_test_{uuid.uuid4().hex[:12]}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(postgres_url).set(database=name, drivername="postgresql").render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_models_and_migrations_agree(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}" if kind == "sqlite" else str(request.getfixturevalue("fresh_postgres"))
    open_memory(url, upgrade=True).close()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []
        seen = inspect(connection)
        for model in Base.metadata.tables.values():  # what the comparison leaves out
            key = seen.get_pk_constraint(model.name)
            assert key["constrained_columns"] == [part.name for part in model.primary_key]
            assert key["name"] == model.primary_key.name
            cascades = [found["options"].get("ondelete") for found in seen.get_foreign_keys(model.name)]
            assert cascades == [constraint.ondelete for constraint in model.foreign_key_constraints]
            if engine.dialect.name == "sqlite":
                made = connection.execute(text("SELECT sql FROM sqlite_master WHERE name = :n"), {"n": model.name})
                clustered = model.dialect_options["sqlite"]["with_rowid"] is False
                assert ("WITHOUT ROWID" in made.scalar_one()) == clustered
    engine.dispose()


def everything(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every table of a memory that holds something of each."""
    with open_memory(file) as memory:
        decision = make_decision()
        memory.record(decision)
        memory.record_outcome(Outcome(decision=decision.decision, user=decision.user, ordered_at=decision.at))
        credit = Attribution(decision=decision.decision, path=None, step=None, item=None, credit=1.0, effect=0.2)
        memory.record_attributions({decision.decision: [credit]})
        record_rows(memory, [row_of(1, {"decision": "unknown", "user": "9"}, "test")], "test")
        memory.record_lesson(decision.observation.lessons[0])
        memory.record_call(make_call(memory.begin("demo", "2", decision.at)))
        memory.spend("demo", decision.decision, Spending(1, 120, 0.25))
        memory.record_prompt("reason", "1", "abc", "You read logs.")
        key = told_key("1", decision.at, "mug", "view")
        memory.record_told([ToldEvent(told=key, user="1", at=decision.at, item="mug", behaviour="view")])
        memory.record_artefact("index", decision.at, "f1", "a/index", {"items": 3})
    return rows_of(f"sqlite:///{file}")


def rows_of(url: str) -> dict[str, list[dict[str, Any]]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            table.name: [dict(row) for row in connection.execute(table.select()).mappings()]
            for table in Base.metadata.sorted_tables
        }
    engine.dispose()
    return found


def lay_down(url: str, revision: str, rows: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, set[str]]:
    """A database as the version with ``revision`` left it, with those of the rows' columns that it had; returns them."""
    engine = create_engine(url, json_serializer=dump_json)
    config = Config()
    config.set_main_option("script_location", "rolegen_agent.memory:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        seen = inspect(connection)
        columns = {name: {found["name"] for found in seen.get_columns(name)} for name in seen.get_table_names()}
        del columns[VERSION_TABLE]
        for model in Base.metadata.sorted_tables:
            for row in rows[model.name] if model.name in columns else ():
                old = {name: value for name, value in row.items() if name in columns[model.name]}
                connection.execute(model.insert().values(old))
    engine.dispose()
    return columns


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_every_older_schema_is_upgraded_with_all_its_rows(
    kind: str, revision: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}" if kind == "sqlite" else str(request.getfixturevalue("fresh_postgres"))
    driver = url.replace("postgresql:", "postgresql+psycopg:")
    rows = everything(tmp_path / "new.db")
    columns = lay_down(driver, revision, rows)
    if kind == "postgresql":
        with pytest.raises(MemoryStoreError, match="rolegen memory upgrade"):
            open_memory(url)
    with open_memory(url, upgrade=True) as memory:
        after = rows_of(driver)
        for name, kept in columns.items():
            was = [{key: value for key, value in row.items() if key in kept} for row in rows[name]]
            assert [{key: value for key, value in row.items() if key in kept} for row in after[name]] == was, name
        assert memory.get(make_decision().decision).rounds[0].paths == make_decision().rounds[0].paths
        assert not {one.check for one in memory.verify()} & {"words", "orphans", "positions"}
        newer = make_decision(seed=1, run="later")
        memory.record(newer)
        assert memory.get(newer.decision) == newer


UPGRADER = """
import sys
from rolegen_agent.memory import open_memory
sys.stdin.readline()
open_memory(sys.argv[1], upgrade=True).close()
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_several_processes_upgrade_at_once(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}" if kind == "sqlite" else str(request.getfixturevalue("fresh_postgres"))
    rows = everything(tmp_path / "new.db")
    lay_down(url.replace("postgresql:", "postgresql+psycopg:"), REVISIONS[0], rows)
    pipe = subprocess.PIPE
    made = [
        subprocess.Popen([sys.executable, "-c", UPGRADER, url], stdin=pipe, stderr=pipe, text=True) for _ in range(3)
    ]
    for process in made:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in made:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    with open_memory(url) as memory:
        assert len(memory.finished("demo")) == 1


def test_every_constraint_has_a_name() -> None:
    for model in Base.metadata.tables.values():
        named: list[Constraint | Index] = [*model.constraints, *model.indexes]
        assert all(each.name for each in named), model.name


def test_the_listed_revisions_are_the_shipped_ones() -> None:
    config = Config()
    config.set_main_option("script_location", "rolegen_agent.memory:migrations")
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == REVISIONS


def test_a_server_is_changed_only_when_asked(fresh_postgres: str) -> None:
    with pytest.raises(MemoryStoreError, match="rolegen memory upgrade"):
        open_memory(fresh_postgres)
    engine = create_engine(make_url(fresh_postgres).set(drivername="postgresql+psycopg"))
    assert inspect(engine).get_table_names() == []
    with open_memory(fresh_postgres, upgrade=True) as memory:
        memory.record(make_decision())
    with open_memory(fresh_postgres) as memory, open_memory(fresh_postgres, upgrade=True):
        assert memory.get(make_decision().decision) == make_decision()
    engine.dispose()


def test_a_newer_schema_is_refused_even_when_asked_to_upgrade(memory_url: str) -> None:
    engine = create_engine(memory_url)

    def set_version(revision: str) -> None:
        with engine.begin() as connection:
            connection.execute(update(table(VERSION_TABLE, column("version_num"))).values(version_num=revision))

    set_version("9999")
    try:
        for upgrade in (False, True):
            with pytest.raises(MemoryStoreError, match="schema 9999, which is newer"):
                open_memory(memory_url, upgrade=upgrade)
    finally:
        set_version(REVISIONS[-1])
        engine.dispose()


def test_a_file_is_made_with_its_folder_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "100% odd folder" / "m.db"
    with open_memory(file) as memory:
        memory.record(make_decision())
        assert repr(memory) == f"Memory({memory.url!r})"
    with open_memory(str(file)) as memory:
        assert memory.get(make_decision().decision) == make_decision()
    settings = sqlite3.connect(file)
    assert settings.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    settings.close()


def test_every_connection_has_the_settings(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "m.db")
    database.prepare_sqlite(connection)
    read = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("foreign_keys", "synchronous")}
    assert read == {"foreign_keys": 1, "synchronous": 1}
    assert connection.execute("PRAGMA busy_timeout").fetchone()[0] >= 10_000
    connection.close()


def test_foreign_and_broken_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "shop.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE customers (id)")
    connection.close()
    with pytest.raises(MemoryStoreError, match="belongs to another program: it holds customers"):
        open_memory(foreign)
    connection = sqlite3.connect(foreign)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]
    connection.close()
    broken = tmp_path / "notes.txt"
    broken.write_text("these are notes, not a database, and they are long enough to have a header " * 20)
    with pytest.raises(MemoryStoreError, match="not a database"):
        open_memory(broken)
    with pytest.raises(MemoryStoreError):
        open_memory(tmp_path)


@pytest.mark.parametrize("url", ["sqlite://", ":memory:", "sqlite:///:memory:"])
def test_a_database_in_ram_is_refused(url: str) -> None:
    with pytest.raises(MemoryStoreError, match="needs a file"):
        open_memory(url)


def chain(error: BaseException) -> str:
    """What a traceback would print of an error and its causes."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        texts.append(f"{cause!r} {cause}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n".join(texts)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@127.0.0.1:1/none",  # nobody listens
        "postgresql://me@127.0.0.1:1/none?password=s3cret",
        "mysql://me:s3cret@127.0.0.1/none",  # not supported
        "postgresql://me:s3cret@127.0.0.1:port/none",  # not a URL
        "oracle+what://me:s3cret@h/none?x=s3cret",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    with pytest.raises(MemoryStoreError) as caught:
        open_memory(url)
    assert "s3cret" not in chain(caught.value)
    assert "fix:" in str(caught.value)


def test_a_password_is_used_but_never_shown(memory_url: str) -> None:
    if memory_url.startswith("sqlite"):
        return  # no passwords there
    url = make_url(memory_url).set(password="s3cret", drivername="postgresql").render_as_string(hide_password=False)
    with open_memory(url) as memory:
        assert "s3cret" not in repr(memory) + memory.url
        with pytest.raises(InputError) as caught:
            memory.get("none")
        assert "s3cret" not in chain(caught.value)


def test_a_missing_driver_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(database, "find_spec", lambda name: None if name == "psycopg" else found(name))
    with pytest.raises(MissingExtraError, match=r"rolegen-agent\[postgres\]"):
        open_memory("postgresql://u@127.0.0.1/none")


def test_a_horizon_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="horizon"):
        open_memory(tmp_path / "m.db", horizon_days=0)


def test_opening_a_current_memory_needs_neither_alembic_nor_langgraph(tmp_path: Path) -> None:
    open_memory(tmp_path / "m.db").close()
    code = (
        "import sys; from rolegen_agent.memory import open_memory; open_memory(sys.argv[1]).close();"
        "print(sorted({'alembic', 'langgraph', 'torch', 'psycopg'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.db")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
