"""Verification: what real decisions say holds, and every kind of damage is named with its table and key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from rolegen_agent import RoleGen
from rolegen_agent.llm.usage import Spending
from rolegen_agent.memory import Memory, open_memory
from rolegen_agent.memory.verification import Verification
from rolegen_graphs.words import Decision, Lesson, Outcome, Slate
from tests.support.decisions import make_call, make_slate
from tests.support.shop import AT, Line, users_at

pytest_plugins = ["tests.support.postgres"]


@pytest.fixture(scope="module")
def decided(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Decision]:
    """Decisions of the real loop."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("decided") / "shop")
    with RoleGen.open(folder) as shop:
        return [shop.decide(user, AT) for user in users_at(folder, 3)]


def fill(memory: Memory, decided: list[Decision]) -> Memory:
    """Something in every table that is checked."""
    first, second, third = decided
    at = first.at
    lesson = Lesson(lesson="L1", scope="all", scope_key="", text="be early", learnt_at=at.replace(year=at.year - 1))
    memory.record_lesson(lesson)
    memory.record(first.model_copy(update={"observation": first.observation.model_copy(update={"lessons": (lesson,)})}))
    for decision in (second, third):
        memory.begin(decision.run, decision.user, decision.at)
        memory.record(decision)
    memory.record_slate(first.decision, "popularity", Slate(items=make_slate(3, 1).items))
    memory.record_outcome(Outcome(decision=first.decision, user=first.user, ordered_at=at))
    memory.record_call(make_call(first.decision))
    memory.spend(first.run, first.decision, Spending(2, 150, 0.5))  # one attempt more than its call says: it was killed
    return memory


@pytest.fixture
def full(memory: Memory, decided: list[Decision]) -> Memory:
    """A memory that has been filled, once on each database."""
    return fill(memory, decided)


@pytest.fixture(scope="module")
def whole(decided: list[Decision], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a SQLite file, to be copied."""
    file = tmp_path_factory.mktemp("whole") / "m.db"
    with open_memory(file) as memory:
        fill(memory, decided)
    return file


def damage(url: str, *statements: str, **values: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            named = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), named)
    engine.dispose()


def found(memory: Memory, known: set[str] | None = None) -> set[tuple[str, str, str]]:
    return {(one.check, one.table, one.key) for one in memory.verify(known_items=known)}


def test_what_the_loop_recorded_verifies(full: Memory, decided: list[Decision]) -> None:
    tally = Verification()
    calls: list[tuple[str, int, int]] = []
    known = {item.item for one in decided for item in one.slate.items}
    assert list(full.verify(known_items=known, tally=tally, progress=lambda *call: calls.append(call))) == []
    assert (tally.decisions, tally.differences) == (3, 0)
    assert calls[-1] == ("decisions", 3, 3) and calls[0][0] == "tables"


@pytest.mark.parametrize(
    ("statement", "check", "table", "key"),
    [
        ("UPDATE decisions SET horizon_end = at WHERE decision = '{0}'", "horizons", "decisions", "{0}"),
        ("UPDATE decisions SET run = 'x' WHERE decision = '{0}'", "identity", "decisions", "{0}"),
        ("UPDATE decisions SET reasoner = 'llm:x' WHERE decision = '{0}'", "who answered", "decisions", "{0}"),
        ("UPDATE decisions SET observation = '{{}}' WHERE decision = '{0}'", "words", "decisions", "{0}"),
        ("UPDATE rounds SET intent = '{{\"stage\": \"bliss\"}}' WHERE decision = '{0}'", "words", "decisions", "{0}"),
        ("DELETE FROM slates WHERE decision = '{0}' AND policy = 'backbone'", "words", "decisions", "{0}"),
        ("UPDATE slate_items SET rank = 7 WHERE decision = '{0}' AND seq = 2", "slates", "slates", "{0} rolegen"),
        (
            "UPDATE slate_items SET score = score + 0.1 WHERE decision = '{0}' AND policy = 'backbone' AND seq = 0",
            "slates",
            "slates",
            "{0} backbone",
        ),
        (
            "UPDATE slate_items SET role = 'anchor', path = 77 WHERE decision = '{0}' AND policy = 'rolegen' AND seq = 4",
            "reasons of slate items",
            "slate_items",
            "{0} rolegen 4",
        ),
        (
            "UPDATE slate_items SET rank = 3 WHERE policy = 'popularity'",
            "ranks of other policies",
            "slate_items",
            "{0} popularity 0",
        ),
        (
            "DELETE FROM slate_items WHERE decision = '{0}' AND policy = 'backbone' AND seq = 3",
            "positions",
            "slate_items",
            "{0} backbone",
        ),
        ("UPDATE candidates SET path = 99 WHERE decision = '{0}' AND seq = 0", "candidates", "candidates", "{0} 1 0"),
        ("UPDATE effects SET low = 2 WHERE decision = '{0}' AND seq = 1", "effects and choices", "effects", "{0} 1 1"),
        (
            "UPDATE role_labels SET event = 5 WHERE decision = '{0}' AND round = 1 AND seq = 0",
            "role labels",
            "role_labels",
            "{0} 1 0",
        ),
        ("DELETE FROM lesson_uses", "lesson uses", "lesson_uses", "{0}"),
        ("UPDATE outcomes SET user_id = 'other'", "outcomes", "outcomes", "{0}"),
        ("UPDATE outcomes SET ordered_at = '2031-01-01'", "outcomes", "outcomes", "{0}"),
        ("UPDATE llm_calls SET decision = 'x'", "calls of nobody", "llm_calls", "x 1 reason h1"),
        (
            "UPDATE llm_spending SET tokens = 110 WHERE decision <> ''",
            "spending of decisions",
            "llm_spending",
            "{run} {0}",
        ),
        ("UPDATE llm_spending SET calls = 9 WHERE decision = ''", "spending of runs", "llm_spending", "{run}"),
    ],
)
def test_damage_is_named(
    whole: Path, tmp_path: Path, decided: list[Decision], statement: str, check: str, table: str, key: str
) -> None:
    first, file = decided[0], shutil.copy(whole, tmp_path / "m.db")
    damage(f"sqlite:///{file}", statement.format(first.decision))
    with open_memory(file) as memory:
        assert (check, table, key.format(first.decision, run=first.run)) in found(memory)


def test_much_damage_at_once_is_named_on_every_database(full: Memory, memory_url: str, decided: list[Decision]) -> None:
    one, run = decided[0].decision, decided[0].run
    damage(
        memory_url,
        "UPDATE decisions SET horizon_end = at WHERE decision = :one",
        "DELETE FROM slate_items WHERE decision = :one AND policy = 'backbone' AND seq = 3",
        "UPDATE slate_items SET rank = 3 WHERE policy = 'popularity'",
        "UPDATE outcomes SET user_id = 'other'",
        "UPDATE llm_calls SET retries = 5",
        "UPDATE llm_spending SET calls = 9 WHERE decision = ''",
        "UPDATE rounds SET intent = '{}' WHERE decision = :two",
        one=one,
        two=decided[1].decision,
    )
    assert {
        ("horizons", "decisions", one),
        ("positions", "slate_items", f"{one} backbone"),
        ("ranks of other policies", "slate_items", f"{one} popularity 0"),
        ("outcomes", "outcomes", one),
        ("spending of decisions", "llm_spending", f"{run} {one}"),
        ("spending of runs", "llm_spending", run),
        ("words", "decisions", decided[1].decision),
    } <= found(full)


def test_rows_without_their_parent_are_named(full: Memory, memory_url: str, decided: list[Decision]) -> None:
    gone, begun = decided[1].decision, decided[2]
    if memory_url.startswith("sqlite"):
        off = ["PRAGMA foreign_keys = OFF"]
    else:
        off = ["SET session_replication_role = replica"]
    damage(memory_url, *off, "DELETE FROM slates WHERE decision = :gone AND policy = 'rolegen'", gone=gone)
    full.begin(begun.run, begun.user, begun.at)
    named = found(full)
    assert ("orphans", "slate_items", f"{gone} rolegen 0") in named
    assert ("words", "decisions", gone) in named
    assert ("begun decisions", "begun", begun.decision) in named


def test_an_item_from_nowhere_is_named(full: Memory, memory_url: str, decided: list[Decision]) -> None:
    known = {item.item for one in decided for item in one.slate.items}
    key = decided[2].decision
    damage(
        memory_url,
        "UPDATE slate_items SET item = 'NOWHERE', role = NULL, path = NULL"
        " WHERE decision = :key AND policy = 'rolegen' AND seq = 0",
        key=key,
    )
    assert ("known items", "slate_items", f"{key} rolegen 0") in found(full, known)


def test_the_command_tells_differences_and_ends_with_four(project: Path, line: Line) -> None:
    with RoleGen.open(project) as shop:
        user = users_at(project, 1)[0]
        decision = shop.decide(user, AT)
        url = shop.project.memory_url
    told = line("memory", "verify", "--project", str(project))
    assert told.returncode == 0 and "1 decisions looked at, 0 differences" in told.stdout
    damage(url, "UPDATE slate_items SET rank = 7 WHERE policy = 'rolegen' AND seq = 2")
    told = line("memory", "verify", "--project", str(project))
    assert told.returncode == 4 and f"slates {decision.decision} rolegen: the ranks are" in told.stdout
    told = line("memory", "verify", "--limit", "1", "--json", "--project", str(project))
    assert told.returncode == 4 and '"complete": false' in told.stdout
