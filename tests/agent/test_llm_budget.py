"""Budgets over a whole run: over its threads, its programs, its interruptions, and what a user sees when one is met."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rolegen_agent.facade import RoleGen
from rolegen_agent.llm import Limits, LlmClient, Price, chat_model
from rolegen_agent.llm.usage import Spending
from rolegen_agent.memory import open_memory
from rolegen_agent.memory.spending import RunLedger
from rolegen_errors import BudgetError, ProjectError, RunBudgetError
from rolegen_graphs.words import CallSite
from rolegen_prompts import Message, PromptPack
from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import AT, Line, users_at

pytest_plugins = ["tests.support.postgres"]

PRICE = Price(input_per_million=1.0, output_per_million=1.0)
ANY: dict[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def ask(client: LlmClient, decision: str, text: str) -> str:
    site = CallSite(decision=decision, round=1, node="reason")
    prompt = PromptPack.default().get("reason")
    return client.ask("reason", (Message("user", text),), ANY, site=site, prompt=prompt)


def clients(url: str, server: ScriptedLlm, count: int, limits: Limits, **more: Any) -> Sequence[LlmClient]:
    """Clients as programs of their own have them: they share nothing but the database."""
    return [
        LlmClient(
            chat_model("scripted", base_url=server.url),
            name="scripted",
            log=(memory := open_memory(url)),
            ledger=RunLedger(memory, "run"),
            limits=limits,
            price=PRICE,
            **more,
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(calls_per_run=7),
        Limits(tokens_per_run=4500),
        Limits(usd_per_run=0.0045),
        Limits(calls_per_decision=3),
        Limits(tokens_per_decision=2500),
        Limits(usd_per_decision=0.0025),
    ],
    ids=lambda limits: next(iter(limits.model_dump(exclude_none=True))),
)
def test_limits_hold_over_programs_and_threads(memory_url: str, limits: Limits) -> None:
    with ScriptedLlm("slow", delay_s=0.03) as server:
        both = clients(memory_url, server, 2, limits, output_reserve=1000, concurrency=4)

        def one(number: int) -> type[Exception] | None:
            try:
                ask(both[number % 2], f"d{number // 2 % 2}", str(number))
            except BudgetError as error:
                return type(error)
            return None

        with ThreadPoolExecutor(8) as pool:
            ended = list(pool.map(one, range(16)))
        answered = ended.count(None)
        assert answered == len(server.chats)
        [(name, limit)] = limits.model_dump(exclude_none=True).items()
        unit, _, of = name.split("_")
        assert set(ended) - {None} == {RunBudgetError if of == "run" else BudgetError}
        with open_memory(memory_url) as memory:
            total, used = memory.spent("run"), memory.usage()
            spent = [memory.spent("run", f"d{n}") for n in range(2)]
            assert total.tokens == used.input_tokens + used.output_tokens and total.calls == answered
            assert total.usd == pytest.approx(used.cost_usd)
            for each in [total] if of == "run" else spent:
                assert getattr(each, unit) <= limit, "never above, whoever asks"
            assert sum((each.calls for each in spent), 0) == total.calls
        if unit == "calls":
            assert answered == (limit if of == "run" else 2 * limit), "and all of it can be used"
        for client in both:
            client.log.close()  # type: ignore[attr-defined]


def test_a_program_that_was_killed_leaves_its_reservation(tmp_path: Path) -> None:
    with open_memory(tmp_path / "m.sqlite") as memory:
        RunLedger(memory, "run").add("d", Spending(1, 900, 0.1))  # and nothing settles it
        assert memory.spent("run") == memory.spent("run", "d") == Spending(1, 900, 0.1)
        assert memory.spent("another run") == Spending()


def opened(folder: Path, url: str, **more: Any) -> RoleGen:
    llm = {"model": "scripted", "base_url": url, "concurrency": 3, "retries": 0, **more.pop("llm", {})}
    return RoleGen.open(folder, overrides={"reasoner": {"kind": "llm"}, "llm": llm, **more})


def about(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: about(one) for key, one in value.items()}
    if isinstance(value, list):
        return [about(one) for one in value]
    return pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value


def test_a_run_stops_at_its_limit_and_goes_on_once_that_is_raised_as_if_nothing_had_been(
    project: Path, tmp_path: Path
) -> None:
    users = users_at(project, 12)
    twin = Path(shutil.copytree(project, tmp_path / "undisturbed"))
    with ScriptedLlm("slow", delay_s=0.05) as server:  # so that requests queue up, and who has come furthest goes first
        with opened(twin, server.url) as shop:
            whole = shop.awaken(users, AT)
            wanted = [shop.trace(user).model_dump(mode="json") for user in users]
        asked = len(server.chats)
        limit = whole.calls // 2
        with opened(project, server.url, budget={"calls_per_run": limit}) as shop:
            first = shop.awaken(users, AT)
            assert first.stopped and first.budget_met.startswith(f"the LLM budget calls_per_run = {limit} is spent")
            assert first.decided + first.left == 12 and first.fallbacks == 0
            assert first.decided >= 1 and 1 <= first.waiting <= first.left
            assert len(shop.memory.finished(first.run)) == first.decided, "what waits is not recorded"
            assert first.calls == limit == len(server.chats) - asked
        with opened(project, server.url, budget={"calls_per_run": limit}) as shop:
            second = shop.awaken(users, AT)  # no fresh budget: it has nothing to spend
            assert second.budget_met and second.calls == 0 and second.decided == 0 and second.earlier == first.decided
        assert len(server.chats) - asked == limit
        with opened(project, server.url, budget={"calls_per_run": 10 * limit}) as shop:
            third = shop.awaken(users, AT)
            assert (third.run, third.left, third.budget_met, third.stopped) == (first.run, 0, "", False)
            assert [shop.trace(user).model_dump(mode="json") for user in users] == about(wanted)
        assert len(server.chats) - asked == asked, "nothing was paid twice"
    assert first.tokens + third.tokens == whole.tokens


def test_with_on_budget_evidence_everybody_is_served(project: Path) -> None:
    users = users_at(project, 5)
    with ScriptedLlm() as server:
        budget = {"calls_per_run": 4, "on_budget": "evidence"}
        with opened(project, server.url, budget=budget) as shop:
            report = shop.awaken(users, AT)
            assert (report.decided, report.left, report.budget_met, report.stopped) == (5, 0, "", False)
            assert report.fallbacks >= 3 and report.calls == 4
            reasons = [one.why for user in users for one in shop.trace(user).rounds[0].answers]
        assert any("calls_per_run = 4 is spent" in why for why in reasons)


@pytest.mark.parametrize("limit", ["calls_per_decision", "tokens_per_decision", "usd_per_decision"])
def test_at_a_limit_of_a_decision_the_evidence_reasoner_answers_the_rest_of_it(project: Path, limit: str) -> None:
    users = users_at(project, 3)
    prices = {"input_usd_per_million": 1.0, "output_usd_per_million": 1.0, "max_output_tokens": 800}
    budget = {"calls_per_decision": None, limit: {"calls": 1, "tokens": 7500, "usd": 0.0075}[limit.split("_")[0]]}
    with ScriptedLlm() as server, opened(project, server.url, llm=prices, budget=budget) as shop:
        report = shop.awaken(users, AT)
        assert (report.decided, report.budget_met, report.fallbacks) == (3, "", 3)
        for user in users:
            decision = shop.trace(user)
            assert decision.reasoner == "mixed"
            assert limit in " ".join(one.why for done in decision.rounds for one in done.answers)
            spent = shop.memory.spent(report.run, decision.decision)
            assert spent.calls >= 1 and getattr(spent, limit.split("_")[0]) <= budget[limit]
            assert spent.tokens == sum(
                c.input_tokens + c.output_tokens for c in shop.memory.calls(decision=decision.decision)
            )


def test_one_decision_at_a_spent_run_is_answered_by_the_evidence_reasoner(project: Path) -> None:
    [user] = users_at(project, 1)
    with ScriptedLlm() as server, opened(project, server.url, budget={"calls_per_run": 0}) as shop:
        assert shop.decide(user, AT).reasoner == "evidence"
        assert server.chats == []


def test_erasing_a_user_keeps_what_the_run_has_spent(project: Path) -> None:
    users = users_at(project, 2)
    with ScriptedLlm() as server, opened(project, server.url) as shop:
        report = shop.awaken(users, AT)
        before, decision = shop.memory.spent(report.run), shop.trace(users[0]).decision
        assert shop.memory.erase(users[0])["llm_spending"] == 1
        assert shop.memory.spent(report.run, decision) == Spending() and shop.memory.spent(report.run) == before


def test_the_command_says_why_it_stopped_and_how_to_go_on(
    project: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLEGEN_BUDGET__CALLS_PER_RUN", "3")
    with ScriptedLlm() as server:
        monkeypatch.setenv("OPENAI_MODEL", "scripted")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        command = ("awaken", "--reasoner", "llm", "--at", AT, "--limit", "3", "--yes", "--project", "shop")
        done = line(*command)
        assert done.returncode == 3
        assert "stopped: the LLM budget calls_per_run = 3 is spent: 3 used" in done.stderr
        assert "the same command goes on from here" in done.stderr and "users are left" in done.stderr
        monkeypatch.setenv("ROLEGEN_BUDGET__CALLS_PER_RUN", "100")
        done = line(*command)
        assert done.returncode == 0 and " 0 left" in done.stdout


def test_half_a_price_is_refused(project: Path) -> None:
    with pytest.raises(ProjectError, match="give both input_usd_per_million and output_usd_per_million"):
        RoleGen.open(project, overrides={"llm": {"input_usd_per_million": 1.0}})
