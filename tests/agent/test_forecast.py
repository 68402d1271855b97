"""The forecast against what a run on the same users then really used, before and after there is something to learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rolegen_agent.facade import RoleGen
from rolegen_errors import ProjectError
from rolegen_graphs.nodes.observe import weigh
from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import AT, Command, Line, users_at

NOWHERE = "http://127.0.0.1:9/v1"


def opened(folder: Path, url: str = NOWHERE, **more: dict[str, Any]) -> RoleGen:
    llm = {"model": "scripted", "base_url": url, "input_usd_per_million": 2.0, "output_usd_per_million": 8.0}
    return RoleGen.open(folder, overrides={"reasoner": {"kind": "llm"}, "llm": llm, **more})


def test_a_forecast_comes_close_and_closer_once_there_is_something_to_learn_from(project: Path) -> None:
    users = users_at(project, 32)
    first, second = users[:16], users[16:]
    with ScriptedLlm() as server, opened(project, server.url) as shop:
        guess = shop.forecast(first, AT)
        assert (guess.users, guess.earlier, guess.learnt_from, guess.known) == (16, 0, 0, 0.0)
        assert server.asked == [] and not shop.memory.calls() and not shop.memory.runs(), "nothing is sent or kept"
        done = shop.awaken(first, AT)
        # Nothing was known of this model: the right size, and an upper bound.
        assert 0.5 < guess.mean.calls / done.calls < 2 and 0.5 < guess.mean.tokens / done.tokens < 2
        assert guess.high.calls >= done.calls and guess.high.tokens >= done.tokens
        guess = shop.forecast([*first, *second], AT)
        assert (guess.users, guess.earlier, guess.learnt_from) == (16, 16, 16)
        sent = len(server.chats)
        done = shop.awaken([*first, *second], AT)
        assert done.cost_usd and guess.mean.usd and guess.high.usd
        assert len(server.chats) - sent == done.calls
        assert guess.mean.calls == pytest.approx(done.calls, rel=0.15)
        assert guess.mean.tokens == pytest.approx(done.tokens, rel=0.25)
        assert guess.mean.usd == pytest.approx(done.cost_usd, rel=0.25)
        assert guess.high.calls >= done.calls and guess.high.usd >= done.cost_usd
        nothing = shop.forecast([*first, *second], AT)
        assert (nothing.users, nothing.mean.calls, nothing.high.usd) == (0, 0, 0.0)
    # Another slate size is another run that puts the same questions in its first round.
    with opened(project, slate={"size": 12}) as shop:
        again = shop.forecast(first, AT)
    assert again.known > 0.5 and again.mean.calls < 0.5 * guess.mean.calls


def test_repairs_and_users_who_are_not_worth_it_are_foreseen(project: Path) -> None:
    users = users_at(project, 24)
    with ScriptedLlm("bad_then_good") as server, opened(project, server.url) as shop:
        shop.awaken(users[:8], AT)
        guess, done = shop.forecast(users[8:], AT), shop.awaken(users[8:], AT)
        assert guess.mean.calls == pytest.approx(done.calls, rel=0.2), "two requests for each question"
    with opened(project, reasoner={"kind": "llm", "think": "uncertain"}) as shop:
        ready = shop.assembly(AT)
        granted = []
        for user in users[:20]:
            slate = ready.parts.recommender.slate(user, ready.artefacts.at, (), ready.settings.slate_size)
            seen = ready.parts.observer.observe(user, ready.artefacts.at)
            granted.append(weigh(ready.parts, ready.settings, seen, slate).rounds)
        assert shop.forecast(users[:20], AT).asked == sum(rounds > 0 for rounds in granted) < len(granted)


def test_it_tells_which_limit_is_met_after_how_many_users(project: Path) -> None:
    users = users_at(project, 16)
    budget = {"calls_per_run": 30, "usd_per_run": 1000.0, "tokens_per_decision": 10, "calls_per_decision": None}
    with ScriptedLlm() as server, opened(project, server.url, budget=budget) as shop:
        limits = {limit.name: limit for limit in shop.forecast(users, AT).limits}
        assert list(limits) == ["calls_per_run", "usd_per_run", "tokens_per_decision"]
        few, much, tiny = limits.values()
        assert few.met and few.after_users is not None and 3 <= few.after_users <= 10
        assert not much.met and much.after_users is None
        assert tiny.met and tiny.expected > 1000
    del budget["tokens_per_decision"]
    with ScriptedLlm() as server, opened(project, server.url, budget=budget) as shop:
        stopped = shop.awaken(users, AT)
        assert stopped.budget_met and abs(stopped.decided - few.after_users) <= 4
        [left, _] = shop.forecast(users, AT).limits
        assert left.used == 30 and left.after_users == 0


def test_without_an_llm_there_is_nothing_to_forecast(shop: RoleGen) -> None:
    with pytest.raises(ProjectError, match="nothing to forecast"):
        shop.forecast(["12350"], AT)


def test_the_command_tells_and_sends_nothing(
    project: Path, line: Line, monkeypatch: pytest.MonkeyPatch, rolegen: Command
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "scripted")
    monkeypatch.setenv("OPENAI_BASE_URL", NOWHERE)
    monkeypatch.setenv("ROLEGEN_BUDGET__CALLS_PER_RUN", "20")
    command = ("awaken", "--reasoner", "llm", "--at", AT, "--limit", "10", "--forecast", "--project", "shop")
    done = line(*command)
    assert done.returncode == 0, done.stderr
    assert "10 users with scripted: about " in done.stdout and "high estimate: " in done.stdout
    assert "cost unknown" in done.stdout and "assumed lengths of answers" in done.stdout
    assert "calls_per_run" in done.stdout and "of 10 users" in done.stdout
    told = json.loads(line(*command, "--json").stdout)
    assert told["users"] == 10 and told["mean"]["usd"] is None and told["limits"][0]["met"] is True
