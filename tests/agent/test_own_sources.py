"""A shop's own retrieval and its table of orders behind the ports: the example keeps the rules, decides, and tells outcomes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import Engine, create_engine

from rolegen_agent.facade import RoleGen
from rolegen_errors import InputError, ProjectError
from rolegen_graphs.conformance import check_candidate_source, check_outcome_source
from rolegen_graphs.words import Proposal
from tests.support.examples import example
from tests.support.shop import AT, Line, users_at

WHEN = datetime(2011, 9, 1, tzinfo=UTC)


def orders_table(file: Path, rows: list[tuple[str, str, str, float]]) -> Engine:
    engine = create_engine(f"sqlite:///{file}")
    table = pl.DataFrame(rows, schema=["customer", "item", "ordered_at", "paid"], orient="row")
    table.write_database("orders", engine.connect(), if_table_exists="replace")
    return engine


def test_the_examples_source_keeps_the_rules_and_stands_in_the_trace(root: Path, shop: RoleGen) -> None:
    own, users = example(root, "own_sources"), users_at(shop.project.root, 3)
    assembly = shop.assembly(AT)
    seen = [assembly.parts.observer.observe(user, WHEN) for user in users]
    items = assembly.artefacts.items["item"].to_list()
    check_candidate_source(own.BoughtTogether(assembly.artefacts), seen=seen, items=items)

    with RoleGen.open(shop.project.root, parts=own.own) as mine:
        decision = mine.decide(users[0], AT)
        assert mine.trace(users[0], run=decision.run) == decision, "the memory gives it back whole"
        assert list(mine.verify()) == [], "and derives the same from it"
    last = decision.rounds[-1]
    put_forward = {path.path for path in last.paths if path.source == "bought together"}
    assert len(put_forward) == 3 and {path.path for path in last.paths} > put_forward
    met = {one.path: one for one in last.candidates if one.path in put_forward and one.fate == "accepted"}
    assert met and {one.reason for one in met.values()} == {"put forward by bought together"}
    assert set(met) <= {effect.path for effect in last.effects}, "each is rolled out like a path of the reasoner"


def test_what_a_source_puts_forward_in_vain_is_rejected_with_a_reason_and_never_shown(shop: RoleGen) -> None:
    class Dreamer:
        name = "dreamer"

        def propose(self, seen: Any, reading: Any) -> list[Proposal]:
            return [Proposal(item="no such item")]

    [user] = users_at(shop.project.root, 1)
    with RoleGen.open(shop.project.root, parts=lambda parts, _: replace(parts, sources=[Dreamer()])) as mine:
        decision = mine.decide(user, AT)
    [told] = [one for one in decision.rounds[-1].candidates if "dreamer" in one.reason]
    assert told.fate == "rejected" and "'no such item', which is not available" in told.reason
    assert "no such item" not in {item.item for item in decision.slate.items}
    assert not [one for one in decision.rounds[-1].signals if one.path == told.path], "nothing a reasoner could correct"


def test_a_catalogue_without_ids_takes_no_sources(shop: RoleGen) -> None:
    class Wishes:
        def ground(self, specs: Any, seen: Any) -> tuple[()]:
            return ()

    def own(parts: Any, learnt: Any) -> Any:
        return replace(parts, catalogue=Wishes(), sources=[object()])

    with (
        RoleGen.open(shop.project.root, parts=own) as mine,
        pytest.raises(ProjectError, match="Wishes knows no items by their id"),
    ):
        mine.assembly(AT)


def test_orders_of_a_table_become_outcomes_once(root: Path, shop: RoleGen, tmp_path: Path) -> None:
    own, [user, other] = example(root, "own_sources"), users_at(shop.project.root, 2)
    decision = shop.decide(user, AT)
    engine = orders_table(
        tmp_path / "orders.sqlite",
        [
            (user, "85123A", "2011-08-01T10:00:00+00:00", 1.0),  # before the decision
            (user, "85123A", "2011-09-05T10:00:00+00:00", 2.5),
            (user, "22423", "2011-09-05T10:00:00+00:00", 10.0),
            (other, "22423", "2011-09-06T10:00:00+00:00", 10.0),  # nothing was decided on this customer
        ],
    )
    source = own.OrdersTable(engine)
    told = check_outcome_source(source, since=WHEN)
    assert [len(one.items) for one in told if one.user == user] == [2]

    first, again = shop.outcomes_from_source(source), shop.outcomes_from_source(source)
    assert (first.rows, first.recorded, first.dead) == (2, 1, 1), (
        "orders from before the first decision are not asked for"
    )
    assert (again.recorded, again.unchanged) == (0, 1)
    found = shop.memory.find_outcome(decision.decision)
    assert found is not None and (set(found.items), found.value) == ({"85123A", "22423"}, 12.5)
    assert shop.outcomes_from_source(source, since=WHEN + timedelta(days=30)).rows == 0


def test_the_command_reads_the_source_that_the_project_names(
    root: Path, project: Path, line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(root / "examples")
    none = line("feedback", "--from-source", "--project", str(project))
    assert none.returncode == 1 and "names no outcome source" in none.stderr
    with (project / "rolegen.toml").open("a") as file:
        file.write('[parts]\noutcomes = "own_sources:orders"\n')
    [user] = users_at(project, 1)
    with RoleGen.open(project) as shop:
        shop.decide(user, AT)
    orders_table(tmp_path / "orders.sqlite", [(user, "22423", "2011-09-06T10:00:00+00:00", 10.0)])
    monkeypatch.setenv("ORDERS_DATABASE", f"sqlite:///{tmp_path / 'orders.sqlite'}")
    told = line("feedback", "--from-source", "--project", str(project))
    assert told.returncode == 0 and "1 reports: 1 recorded" in told.stdout, told.stderr
    both = line("feedback", "orders.csv", "--from-source", "--project", str(project))
    assert both.returncode == 2 and "--from-source" in both.stderr


def test_a_source_that_breaks_off_keeps_what_it_told(shop: RoleGen) -> None:
    class Breaking:
        def reports(self, since: datetime) -> Any:
            yield {"user": user, "ordered_at": "2011-09-06T10:00:00+00:00", "items": ["22423"]}
            raise ConnectionError("the database went away")

    [user] = users_at(shop.project.root, 1)
    decision = shop.decide(user, AT)
    with pytest.raises(InputError, match="broke off after 1 reports: the database went away"):
        shop.outcomes_from_source(Breaking())
    assert shop.memory.find_outcome(decision.decision) is None, "an open transaction is not half kept"
