"""``rolegen awaken --reasoner llm`` against a real server on loopback: what it costs, what it keeps, and what it survives."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rolegen_agent.facade import RoleGen
from rolegen_prompts import PromptPack
from tests.support.scripted_llm import Mode, ScriptedLlm
from tests.support.shop import AT, Command, users_at

KEY = "sk-loopback-4b1f0c9d2e"
PRICES = "[llm]\nretries = 1\ninput_usd_per_million = 2.0\noutput_usd_per_million = 8.0\n"
ALWAYS = '[reasoner]\nthink = "always"\n'
CUSTOMERS = 20
LLM_RUN = ("awaken", "--reasoner", "llm", "--at", AT, "--yes", "--project", "shop")


def configured(folder: Path, more: str = PRICES + ALWAYS) -> Path:
    with (folder / "rolegen.toml").open("a", encoding="utf-8") as file:
        file.write(more)
    return folder


def endpoint(server: ScriptedLlm) -> dict[str, str]:
    return {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY, "OPENAI_MODEL": "scripted"}


def bytes_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    assert found, f"{pattern!r} is not in:\n{text}"
    return float(found[1].replace(",", ""))


@pytest.mark.slow
def test_an_llm_run_prints_its_cost_and_remembers_every_call(project: Path, rolegen: Command) -> None:
    configured(project)
    with ScriptedLlm(api_key=KEY) as server:
        done = rolegen(*LLM_RUN, "--limit", str(CUSTOMERS), environment=endpoint(server))
        assert done.returncode == 0, done.stderr
        sent = len(server.chats)
        assert number(done.stderr, rf"{CUSTOMERS} users with scripted: .* at most ([\d,]+)") >= sent
        assert f"{CUSTOMERS} now, 0 earlier, 0 left" in done.stdout
        assert number(done.stdout, r"LLM calls +([\d,]+) \(0 failed\)") == sent >= 2 * CUSTOMERS
        tokens, cost = number(done.stdout, r"tokens +([\d,]+)"), number(done.stdout, r"cost +([\d.]+) USD")

        # The figures are those of the database, read without our own code.
        with sqlite3.connect(project / ".rolegen" / "memory.sqlite") as memory:
            calls = memory.execute(
                "SELECT count(*), sum(input_tokens), sum(output_tokens), sum(cost_usd) FROM llm_calls WHERE NOT cached"
            ).fetchone()
            named = memory.execute("SELECT DISTINCT prompt, prompt_version, prompt_hash FROM llm_calls").fetchall()
        assert calls[0] == sent and calls[1] + calls[2] == tokens
        assert cost == pytest.approx(calls[3], abs=5e-5) == pytest.approx((2 * calls[1] + 8 * calls[2]) / 1e6, abs=5e-5)
        pack = PromptPack.default()
        assert {name for name, _, _ in named} >= {"reason", "simulate", "reflect"}
        for name, version, hash_ in named:
            assert (version, hash_) == (str(pack.get(name).version), pack.get(name).sha256)

        again = rolegen(*LLM_RUN, "--limit", str(CUSTOMERS), environment=endpoint(server))
        assert again.returncode == 0 and f"0 now, {CUSTOMERS} earlier" in again.stdout
        assert number(again.stdout, r"LLM calls +([\d,]+)") == 0 and "0.0000 USD" in again.stdout
        assert len(server.chats) == sent, "the second run costs no call"

    known = set(pl.read_parquet(project / ".rolegen" / "items.parquet")["item"])
    with RoleGen.open(project) as shop:
        for user in users_at(project, CUSTOMERS):
            decision = shop.trace(user)
            assert decision.reasoner == "llm:scripted"
            assert len(decision.slate.items) == 10 and {item.item for item in decision.slate.items} <= known
            assert {c.item for one in decision.rounds for c in one.candidates if c.item} <= known
        text = shop.memory.find_prompt(*named[0])
        assert text is not None and text.text
    assert KEY.encode() not in bytes_of(project), "the key reaches no file"


def test_a_run_in_another_database_is_paid_again_but_a_new_run_in_this_one_is_not(project: Path) -> None:
    configured(project)
    users = users_at(project, 3)
    with ScriptedLlm() as server:
        llm = {"model": "scripted", "base_url": server.url}
        with RoleGen.open(project, overrides={"reasoner": {"kind": "llm"}, "llm": llm}) as shop:
            first = shop.awaken(users, AT)
        # Another slate size makes another run, with the very same questions in its first round.
        with RoleGen.open(project, overrides={"reasoner": {"kind": "llm"}, "llm": llm, "slate": {"size": 12}}) as shop:
            second = shop.awaken(users, AT)
    assert second.run != first.run and second.decided == 3
    assert second.cached >= 2 * 3 and second.calls < first.calls


MODES: dict[Mode, str] = {
    "malformed": "gave no valid answer to 'reason', not even after being shown its errors",
    "server_error": "gave no answer",
    "rate_limited": "gave no answer",
    "quota": "gave no answer",
    "empty": "gave no valid answer",
    "refusal": "it refused: I cannot help with that.",
    "wrong_facts": "gave no valid answer",
    "no_protocol": "does not follow OpenAI's chat completions",
}


@pytest.mark.slow
def test_whatever_the_server_does_every_user_is_served_and_the_trace_says_by_whom(
    trained: Path, tmp_path: Path
) -> None:
    users = users_at(trained, 2)
    for mode, told in MODES.items():
        project = configured(Path(shutil.copytree(trained, tmp_path / mode)), "[llm]\nretries = 0\n" + ALWAYS)
        with ScriptedLlm(mode) as server:
            overrides: dict[str, dict[str, Any]] = {
                "reasoner": {"kind": "llm"},
                "llm": {"model": "scripted", "base_url": server.url, "api_key": KEY},
            }
            with RoleGen.open(project, overrides=overrides) as shop:
                report = shop.awaken(users, AT)
                assert (report.decided, report.fallbacks) == (2, 2), mode
                for user in users:
                    decision = shop.trace(user)
                    assert decision.reasoner == "evidence" and decision.slate.items, mode
                    why = {answer.node: answer.why for answer in decision.rounds[0].answers}
                    assert told in why["reason"] and "llm:scripted could not answer" in why["reason"], mode
        assert KEY.encode() not in bytes_of(project), mode


def test_one_bad_answer_in_the_middle_makes_a_mixed_decision(project: Path) -> None:
    configured(project, "[llm]\nretries = 0\nconcurrency = 1\n" + ALWAYS)
    [user] = users_at(project, 1)
    with ScriptedLlm("good", "malformed", "malformed", "good") as server:
        overrides = {"reasoner": {"kind": "llm"}, "llm": {"model": "scripted", "base_url": server.url}}
        with RoleGen.open(project, overrides=overrides) as shop:
            report, decision = shop.awaken([user], AT), shop.trace(user)
    assert report.fallbacks == 1 and decision.reasoner == "mixed"
    answers = {answer.node: answer for answer in decision.rounds[0].answers}
    assert answers["reason"].reasoner == "llm:scripted" and not answers["reason"].why
    assert answers["simulate"].reasoner == "evidence" and "'simulate'" in answers["simulate"].why


def test_a_budget_ends_the_calls_and_not_the_run(project: Path) -> None:
    configured(project, "[llm]\nconcurrency = 1\n[budget]\ncalls_per_run = 3\n" + ALWAYS)
    users = users_at(project, 4)
    with ScriptedLlm() as server:
        overrides = {"reasoner": {"kind": "llm"}, "llm": {"model": "scripted", "base_url": server.url}}
        with RoleGen.open(project, overrides=overrides) as shop:
            report = shop.awaken(users, AT)
            last = shop.trace(users[-1])
        assert len(server.chats) == 3
    assert (report.decided, report.calls) == (4, 3) and report.fallbacks >= 3
    assert "budget" in last.rounds[0].answers[0].why or "calls_per_run" in last.rounds[0].answers[0].why


def test_users_who_are_not_worth_it_are_counted_and_cost_nothing(project: Path) -> None:
    users = users_at(project, 12)
    with ScriptedLlm() as server:
        overrides = {
            "reasoner": {"kind": "llm", "think": "uncertain"},
            "llm": {"model": "scripted", "base_url": server.url},
        }
        with RoleGen.open(project, overrides=overrides) as shop:
            report = shop.awaken(users, AT)
            found = [shop.trace(user) for user in users]
    sure = [decision for decision in found if decision.worth is not None and not decision.worth.rounds]
    assert 0 < report.sure == len(sure) < len(users) and report.fallbacks == 0
    assert all(decision.reasoner == "evidence" for decision in sure)
    asked = [decision for decision in found if decision not in sure]
    assert all(decision.worth is not None and len(decision.rounds) <= decision.worth.rounds for decision in asked)
    assert min(d.worth.worth for d in asked if d.worth) > 0.4 >= max(d.worth.worth for d in sure if d.worth)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OPENAI_MODEL": "scripted"}, "cannot be reached"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "the LLM reasoner has no model"),
        ({"OPENAI_MODEL": "scripted"}, "no API key is set"),
    ],
)
def test_without_an_endpoint_nothing_starts_and_the_evidence_reasoner_is_offered(
    trained: Path, rolegen: Command, environment: dict[str, str], told: str
) -> None:
    before = sorted(file.name for file in (trained / ".rolegen").iterdir())
    done = rolegen(*LLM_RUN[:-1], str(trained), environment=environment)
    assert done.returncode == 1 and told in done.stderr and "--reasoner evidence" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert before == sorted(file.name for file in (trained / ".rolegen").iterdir())


def test_the_cost_of_a_model_without_price_is_unknown_not_zero(project: Path, rolegen: Command) -> None:
    configured(project, ALWAYS)
    with ScriptedLlm() as server:
        done = rolegen(*LLM_RUN, "--limit", "1", environment=endpoint(server))
        asked = rolegen(*LLM_RUN, "--limit", "2", "--json", environment=endpoint(server))
    assert "unknown (set the model's price in [llm])" in done.stdout
    report = json.loads(asked.stdout)
    assert report["cost_usd"] is None and report["decided"] == 1 and report["earlier"] == 1 and report["tokens"] > 0
