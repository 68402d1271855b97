"""Feedback on a real shop by the command line: from the log, credited, explained, exported and valued."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from rolegen_agent.facade import RoleGen
from rolegen_agent.memory.verification.of_feedback import wrong_propensities
from rolegen_errors import InputError
from rolegen_graphs.words import Outcome
from tests.support.shop import AT, Line, users_at

USERS = 40


@pytest.fixture
def explored(project: Path) -> str:
    """Decisions with drawn slates; the run's name."""
    with RoleGen.open(project, overrides={"slate": {"explore": 0.5}}) as shop:
        return shop.awaken(users_at(project, USERS), AT).run


def test_from_the_log_to_the_credit_of_a_step(project: Path, line: Line, explored: str) -> None:
    told = line("feedback", "--from-log", "-p", "shop")
    assert told.returncode == 0 and f"{USERS} reports: {USERS} recorded" in told.stdout
    assert "0 reports" in line("feedback", "--from-log", "-p", "shop").stdout, "nothing has happened since"
    with RoleGen.open(project) as shop:
        outcomes = shop.memory.outcomes(explored)
        orders = {key: one for key, one in outcomes.items() if one.ordered_at is not None}
        assert 3 < len(orders) < USERS
    first = line("feedback", "attribute", "-p", "shop", "--json")
    assert json.loads(first.stdout)["attributed"] == len(orders)
    with RoleGen.open(project) as shop:
        credit = shop.memory.attributions(run=explored)
        for key in orders:
            assert sum(part.credit for part in credit if part.decision == key) == pytest.approx(1)
        steps = [part for part in credit if part.step is not None]
        assert steps and all(part.item in _shown(shop, part.decision) for part in steps)
        again = shop.attribute()
        assert (again.attributed, again.earlier) == (0, len(orders))
        shop.attribute(force=True)
        assert shop.memory.attributions(run=explored) == credit
        key = steps[0].decision
        user = orders[key].user
    story = line("explain", user, "-p", "shop").stdout
    assert "What the order is owed to" in story and f"path {steps[0].path}, step {steps[0].step}" in story


def _shown(shop: RoleGen, decision: str) -> set[str]:
    return {item.item for item in shop.memory.get(decision).slate.items}


def test_a_file_its_dead_letters_and_another_try(project: Path, line: Line) -> None:
    [user] = users_at(project, 1)
    row = {"user": user, "ordered_at": "2011-09-20T10:00:00+00:00", "items": ["22423"], "value": 12.5}
    (line.folder / "o.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"user": "[bold]who[/]", "decision": "x"}))
    told = line("feedback", "o.jsonl", "-p", "shop")
    assert told.returncode == 1 and "2 reports: 0 recorded" in told.stdout
    assert "no decision on this user" in told.stderr and "rolegen feedback dead-letters" in told.stderr
    with RoleGen.open(project) as shop:
        decision = shop.decide(user, AT).decision
    again = line("feedback", "retry", "-p", "shop")
    assert again.returncode == 1 and "1 recorded" in again.stdout
    listed = line("feedback", "dead-letters", "-p", "shop").stdout
    assert "[bold]who[/]" in listed and "1 dead letters" in listed
    assert "came back on 2011-09-20" in line("explain", user, "-p", "shop").stdout
    with RoleGen.open(project) as shop:
        found = shop.memory.find_outcome(decision)
        [letter] = shop.memory.dead_letters()
    assert found is not None and found.items == ("22423",)
    assert line("feedback", "dead-letters", "--drop", letter.letter, "-p", "shop").stdout.startswith("0 dead letters")
    assert line("feedback", "-p", "shop").returncode == 2, "neither a file nor the log"


def test_what_was_shown_is_written_with_its_chance(project: Path, line: Line, explored: str) -> None:
    assert line("feedback", "shown", "shown.parquet", "--run", explored, "-p", "shop").returncode == 0
    table = pl.read_parquet(line.folder / "shown.parquet")
    assert table.height == 10 * USERS and set(table["behaviour"]) == {"expose"}
    assert table["propensity"].null_count() == 0 and table["propensity"].is_between(0, 1).all()
    assert not table["rank"].equals(table["drawn_from"])
    with RoleGen.open(project) as shop:
        slates = shop.memory.full_slates(explored, "rolegen")
        assert not [wrong for slate in slates.values() for wrong in wrong_propensities(slate)]
        for key, slate in slates.items():
            assert [item.item for item in slate.items] == table.filter(pl.col("session") == key)["item"].to_list()
    line("feedback", "shown", "shown.csv", "-p", "shop")
    assert pl.read_csv(line.folder / "shown.csv").height == 10 * USERS
    assert line("feedback", "shown", "shown.txt", "-p", "shop").returncode == 1
    refused = line("feedback", "shown", "shown.csv/shown.csv", "-p", "shop")
    assert refused.returncode == 1 and "cannot be written" in refused.stderr


def test_value_is_refused_without_propensities_and_told_with_them(project: Path, line: Line, explored: str) -> None:
    with RoleGen.open(project) as shop:
        plain = shop.awaken(users_at(project, USERS), AT).run
    refused = line("value", "--run", plain, "-p", "shop")
    assert refused.returncode == 1 and "carry no propensities" in refused.stderr and "explore" in refused.stderr
    early = line("value", "--run", explored, "--against", plain, "-p", "shop")
    assert early.returncode == 1 and f"{USERS} outcomes are open" in early.stderr
    line("feedback", "--from-log", "-p", "shop")
    told = line("value", "--run", explored, "--against", plain, "-p", "shop")
    assert told.returncode == 0 and f"{USERS} decisions; left out: 0" in told.stdout
    for name in ("as shown", "ips", "clipped", "snips", "dr"):
        assert name in told.stdout
    found = json.loads(line("value", "--run", explored, "--policy", "backbone", "-p", "shop", "--json").stdout)
    assert found["decisions"] == USERS and found["covered"] > 0.9
    nobody = line("value", "--run", explored, "--policy", "nobody", "-p", "shop")
    assert nobody.returncode == 1 and "backbone, rolegen" in nobody.stderr
    assert "name a run" in line("value", "--run", "nowhere", "-p", "shop").stderr


def test_programs_record_outcomes_and_are_told_what_failed(shop: RoleGen) -> None:
    one, two = (shop.decide(user, AT) for user in users_at(shop.project.root, 2))
    good = Outcome(
        decision=one.decision, user=one.user, ordered_at=one.at + timedelta(days=3), items=("22423",), value=2.0
    )
    bad = {"decision": two.decision, "user": one.user}
    with pytest.raises(InputError, match="another user"):
        shop.record_outcomes([bad, good])
    assert shop.memory.find_outcome(one.decision) == good
    assert shop.record_outcomes([bad, good], on_bad="keep").unchanged == 1


def test_an_agent_reports_and_mends_its_mistakes(shop: RoleGen) -> None:
    decision = shop.decide(*users_at(shop.project.root, 1), AT)
    tool = shop.as_feedback_tool()

    def call(**given: object) -> tuple[str, str]:
        message = tool.invoke({"name": tool.name, "args": given, "id": "1", "type": "tool_call"})
        return message.status, message.text

    status, text = call(user=decision.user, decision=decision.decision, ordered_at="2011-09-20")
    assert status == "error" and "timezone" in text and shop.memory.count_dead_letters() == 1
    status, text = call(
        user=decision.user, decision=decision.decision, ordered_at="2011-09-20T10:00:00Z", items=["22423"]
    )
    assert status == "success" and json.loads(text)["outcome"] == "recorded"
    found = shop.memory.find_outcome(decision.decision)
    assert found is not None and found.items == ("22423",)
