"""A fixed LLM budget goes to the users for whom thinking matters most, the same ones after a stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from rolegen_agent.allocation import CALLS_PER_ROUND, LlmBudget, allocate, fingerprint
from rolegen_agent.facade import RoleGen
from rolegen_agent.settings import BudgetSettings
from rolegen_errors import InputError, ProjectError
from rolegen_graphs.words import Worth
from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import AT, Line, users_at

ROUNDS = "[reasoner]\nrounds = 1\n[llm]\nconcurrency = 1\n"
BUDGET = 3 * CALLS_PER_ROUND


def worth(value: float, rounds: int = 1) -> Worth:
    return Worth(uncertainty=value, thinness=value, value=value, worth=value, rounds=rounds, why="")


def calls(budget: int, *, worths: dict[str, Worth]) -> tuple[dict[str, int], float | None, float | None]:
    granted, told = allocate(worths, LlmBudget(calls=budget), lambda rounds: 4.0 * rounds)
    assert told.asked == len(granted) and told.rounds == sum(granted.values()) and told.considered == len(worths)
    assert told.forecast == 4 * told.rounds <= budget
    return granted, told.least_worth, told.next_worth


def test_the_highest_worth_comes_first_and_ties_go_by_id() -> None:
    worths = {"c": worth(0.5), "a": worth(0.5), "b": worth(0.9), "d": worth(0.7, rounds=0), "e": worth(0.2, rounds=2)}
    assert calls(4, worths=worths) == ({"b": 1}, 0.9, 0.5)
    assert calls(8, worths=worths) == ({"b": 1, "a": 1}, 0.5, 0.5)
    assert calls(15, worths=worths) == ({"b": 1, "a": 1, "c": 1}, 0.5, 0.2), "the rest of a budget is no whole user"
    assert calls(99, worths=worths) == ({"b": 1, "a": 1, "c": 1, "e": 2}, 0.2, None), "whom the gate refuses stays out"
    assert calls(3, worths=worths) == ({}, None, 0.9)
    assert calls(0, worths={}) == ({}, None, None)


def test_nobody_is_asked_behind_the_first_one_who_does_not_fit() -> None:
    assert calls(8, worths={"dear": worth(0.9, rounds=3), "cheap": worth(0.8)}) == ({}, None, 0.9)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        (200, LlmBudget(calls=200)),
        ("200", LlmBudget(calls=200)),
        ("2.50usd", LlmBudget(usd=2.5)),
        (" 3 USD ", LlmBudget(usd=3.0)),
        (0, LlmBudget(calls=0)),
    ],
)
def test_a_budget_is_calls_or_dollars(text: str | int, budget: LlmBudget) -> None:
    assert LlmBudget.parse(text) == budget


@pytest.mark.parametrize("text", ["2.5", "-3", "3eur", "", "many", "nan", "infusd"])
def test_anything_else_is_no_budget(text: str) -> None:
    with pytest.raises(InputError, match="no LLM budget"):
        LlmBudget.parse(text)


def test_a_budget_is_hard_too_and_never_loosens_a_limit() -> None:
    assert LlmBudget(calls=9).within(BudgetSettings()).calls_per_run == 9
    assert LlmBudget(calls=9).within(BudgetSettings(calls_per_run=5)).calls_per_run == 5
    assert LlmBudget(usd=1.5).within(BudgetSettings(usd_per_run=0.0)).usd_per_run == 0.0
    assert LlmBudget(usd=1.5).within(BudgetSettings()).usd_per_run == 1.5


def test_budget_and_users_make_the_run_but_not_their_order() -> None:
    one = fingerprint(LlmBudget(calls=9), ["a", "b"])
    assert fingerprint(LlmBudget(calls=9), ["b", "a", "b"]) == one
    assert len({one, fingerprint(LlmBudget(calls=8), ["a", "b"]), fingerprint(LlmBudget(calls=9), ["a", "bc"])}) == 3


def opened(folder: Path, server: ScriptedLlm, **more: dict[str, Any]) -> RoleGen:
    llm = {"model": "scripted", "base_url": server.url, "concurrency": 1}
    return RoleGen.open(folder, overrides={"reasoner": {"kind": "llm", "rounds": 1}, "llm": llm} | more)


def asked_of(shop: RoleGen, users: Sequence[str]) -> set[str]:
    return {user for user in users if shop.trace(user).reasoner != "evidence"}


def test_the_budget_goes_to_the_users_of_the_highest_worth(project: Path) -> None:
    users = users_at(project, 12)
    with ScriptedLlm() as server, opened(project, server) as shop:
        report = shop.awaken(users, AT, llm_budget=BUDGET)
        found = {user: shop.trace(user) for user in users}
        asked = asked_of(shop, users)
        assert len(server.chats) <= BUDGET and report.calls == len(server.chats)
    worths = {user: decision.worth.worth for user, decision in found.items() if decision.worth}
    assert set(worths) == set(users) and len(asked) == 3 == report.decided - report.sure
    assert min(worths[user] for user in asked) >= max(worths[user] for user in set(users) - asked)
    told = report.allocation
    assert told is not None and (told.budget, told.asked, told.considered) == (f"{BUDGET} calls", 3, 12)
    assert told.least_worth == pytest.approx(min(worths[user] for user in asked), abs=2e-4)
    assert report.fallbacks == 0, "who is not worth it is no failure"
    left = next(user for user in users if user not in asked)
    assert all("the LLM budget went to users of higher worth" in a.why for a in found[left].rounds[0].answers)
    for user in asked:
        [first, *_] = found[user].rounds[0].reading.labels
        assert first.parts is not None, "an LLM's label shows both sides"


def test_what_was_shared_out_in_one_process_is_spent_by_others(project: Path) -> None:
    users = users_at(project, 12)
    with ScriptedLlm() as server:
        with opened(project, server) as shop:
            shared, grant = shop.share_out(users, AT, BUDGET)
            allocation = shared.allocation
        reports = []
        for part in (users[:6], users[6:]):  # each of them by a project that was opened elsewhere
            with opened(project, server) as shop:
                reports.append(shop.awaken_by(shop.granted(AT, grant), part, AT))
        paid = len(server.chats)
        with opened(project, server) as shop:
            asked = asked_of(shop, users)
            whole = shop.awaken(users, AT, llm_budget=BUDGET)
            assert (whole.run, whole.earlier, whole.decided, whole.allocation) == (reports[0].run, 12, 0, allocation)
    assert set(grant.rounds) == asked and len(asked) == 3
    assert sum(report.calls for report in reports) == paid == len(server.chats) <= BUDGET


def test_a_stop_changes_nothing_about_who_is_asked(project: Path, tmp_path: Path) -> None:
    users = users_at(project, 12)
    twin = Path(shutil.copytree(project, tmp_path / "undisturbed"))
    with ScriptedLlm() as server:
        with opened(twin, server) as shop:
            whole = shop.awaken(users, AT, llm_budget=BUDGET)
            expected = asked_of(shop, users)
        stop = Event()

        def watch(stage: str, done: int, total: int) -> None:
            if stage == "awaken" and done >= 4:
                stop.set()

        with opened(project, server) as shop:
            first = shop.awaken(users, AT, llm_budget=BUDGET, progress=watch, stop=stop)
        assert first.stopped and 4 <= first.decided < 12
        with opened(project, server) as shop:
            second = shop.awaken(list(reversed(users)), AT, llm_budget=BUDGET)
            assert asked_of(shop, users) == expected
            again = shop.awaken(users, AT, llm_budget=BUDGET + 1)
    assert second.run == first.run == whole.run and second.allocation == first.allocation == whole.allocation
    assert (second.earlier, second.decided) == (first.decided, 12 - first.decided)
    assert first.calls + second.calls == whole.calls
    assert again.run != whole.run and again.cached > 0 and again.calls == 0, (
        "another budget is another run, paid already"
    )


def test_a_stop_while_ranking_decides_nothing(project: Path) -> None:
    stop = Event()
    stop.set()
    with ScriptedLlm() as server, opened(project, server) as shop:
        report = shop.awaken(users_at(project, 3), AT, llm_budget=BUDGET, stop=stop)
        assert (report.decided, report.left, report.stopped, len(server.chats)) == (0, 3, True, 0)


def test_dollars_need_a_price_and_a_budget_needs_an_llm(project: Path) -> None:
    users = users_at(project, 4)
    with ScriptedLlm() as server:
        with opened(project, server) as shop, pytest.raises(ProjectError, match="price"):
            shop.awaken(users, AT, llm_budget="1usd")
        priced = {"input_usd_per_million": 2.0, "output_usd_per_million": 8.0}
        llm = {"model": "scripted", "base_url": server.url} | priced
        overrides: dict[str, dict[str, object]] = {"reasoner": {"kind": "llm", "rounds": 1}, "llm": llm}
        one_user = CALLS_PER_ROUND * (4500 * 2.0 + 900 * 8.0) / 1e6
        with RoleGen.open(project, overrides=overrides) as shop:
            report = shop.awaken(users, AT, llm_budget=f"{2.5 * one_user:.4f}usd")
    assert report.allocation is not None and report.allocation.asked == 2
    assert report.allocation.forecast == pytest.approx(2 * one_user)
    assert report.cost_usd is not None and 0 < report.cost_usd <= 2.5 * one_user
    with RoleGen.open(project) as shop, pytest.raises(ProjectError, match="needs an LLM"):
        shop.awaken(users, AT, llm_budget=10)


def test_the_command_says_how_many_were_asked_and_what_the_last_one_is_worth(
    project: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (project / "rolegen.toml").open("a", encoding="utf-8") as file:
        file.write(ROUNDS)
    command = ("awaken", "--at", AT, "--project", str(project), "--limit", "6", "--reasoner", "llm", "--yes")
    with ScriptedLlm() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_MODEL", "scripted")
        done = line(*command, "--llm-budget", "9")
        assert done.returncode == 0, done.stderr
        assert "6 users with scripted: at most 9 calls are spent on some of them" in done.stderr
        assert "9 calls: 2 of 6 users asked, forecast 8; the last one is worth 0." in done.stdout
        assert "4 decisions: the gate or the budget granted these users no LLM" in done.stdout
        report = json.loads(line(*command, "--llm-budget", "9", "--json").stdout)
        wrong = line(*command, "--llm-budget", "lots")
    assert report["earlier"] == 6 and report["allocation"]["asked"] == 2
    assert wrong.returncode == 1 and "'lots' is no LLM budget" in wrong.stderr
    user = users_at(project, 1)[0]
    assert "worth 0." in line("explain", user, "--project", str(project)).stdout
