"""Parts of one's own in the product: our own keep the rules that others are held against, and the example's do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import create_engine

from rolegen_agent.facade import RoleGen
from rolegen_errors import ProjectError
from rolegen_graphs.conformance import check_catalogue, check_observer, check_reasoner, check_recommender
from rolegen_graphs.words import ItemSpec
from tests.support.examples import example
from tests.support.shop import AT, users_at

WISHES = [ItemSpec(role="complement", text="christmas lights"), ItemSpec(role="target", text="cake tins pantry design")]


def test_the_parts_of_the_product_keep_the_rules(shop: RoleGen) -> None:
    assembly, users = shop.assembly(AT), users_at(shop.project.root, 2)
    parts, at = assembly.parts, assembly.artefacts.at
    items = assembly.artefacts.items["item"].to_list()
    seen = check_observer(parts.observer, users=users, at=at)
    check_reasoner(parts.reasoner, seen=seen)
    check_catalogue(parts.catalogue, specs=WISHES, seen=seen, items=items)
    check_recommender(parts.recommender, users=users, at=at, items=items)


def test_the_examples_recommender_and_catalogue_keep_the_rules_and_decide(root: Path, shop: RoleGen) -> None:
    own, users = example(root, "own_parts"), users_at(shop.project.root, 2)
    assembly = shop.assembly(AT)
    learnt, at = assembly.artefacts, assembly.artefacts.at
    goods = create_engine(f"sqlite:///{shop.project.root / 'goods.sqlite'}")
    table = learnt.items.select("item", "title", "category", "price", stock=pl.lit(1))
    table.write_database("goods", goods.connect(), if_table_exists="replace")
    items = learnt.items["item"].to_list()

    seen = check_observer(assembly.parts.observer, users=users, at=at)
    check_catalogue(own.TableCatalogue(goods), specs=WISHES, seen=seen, items=items)
    check_recommender(own.own(assembly.parts, learnt).recommender, users=users, at=at, items=items)

    usual = shop.decide(users[0], AT)
    catalogue = own.TableCatalogue(goods)
    with RoleGen.open(shop.project.root, parts=lambda p, a: replace(own.own(p, a), catalogue=catalogue)) as mine:
        decision = mine.decide(users[0], AT)
        assert decision.run != usual.run, "decisions of other parts are decisions of another run"
        assert mine.trace(users[0], run=decision.run) == decision
    met = [one for one in decision.rounds[-1].candidates if one.fate == "accepted"]
    assert met and {one.reason for one in met} == {"a word of the title"}
    assert decision.slate_without_reasoning != usual.slate_without_reasoning


def test_parts_are_named_in_the_project(root: Path, shop: RoleGen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(root / "examples")
    [user] = users_at(shop.project.root, 1)
    runs = set()
    for version in ("1", "2"):
        with RoleGen.open(shop.project.root, overrides={"parts": {"own": "own_parts:own", "version": version}}) as mine:
            runs.add(mine.decide(user, AT).run)
    assert len(runs) == 2, "another version is another run"
    for wrong, told in (("own_parts:nothing", "cannot be imported"), ("nobody", "there is no function")):
        overrides = {"parts": {"own": wrong}}
        with RoleGen.open(shop.project.root, overrides=overrides) as mine, pytest.raises(ProjectError, match=told):
            mine.decide(user, AT)


def test_a_function_that_gives_no_parts_is_told(shop: RoleGen) -> None:
    nothing: Any = lambda parts, learnt: None  # noqa: E731
    with RoleGen.open(shop.project.root, parts=nothing) as mine, pytest.raises(ProjectError, match="NoneType"):
        mine.assembly(AT)
