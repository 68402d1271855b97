"""RoleGen as an agent's tool: invoked directly, and by a chat model over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langchain_core.messages import ToolMessage
from pytest_httpserver import HTTPServer

from rolegen_agent.facade import RoleGen
from tests.support import chat
from tests.support.examples import example
from tests.support.shop import AT, users_at


def call(shop: RoleGen, **arguments: Any) -> ToolMessage:
    message = shop.as_tool(AT).invoke(
        {"name": "awaken_user", "args": arguments, "id": "1", "type": "tool_call"},
    )
    assert isinstance(message, ToolMessage)
    return message


def test_the_tool_answers_with_the_slate_and_remembers_the_decision(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    answer = json.loads(call(shop, user=user).text)
    decision = shop.trace(user)
    assert answer["decision"] == decision.decision and answer["reasoner"] == "evidence"
    assert [row["item"] for row in answer["slate"]] == [item.item for item in decision.slate.items]
    assert answer["at"].startswith("2011-09-01T00:00:00")
    assert answer["intent"]["stage"] == decision.rounds[-1].reading.intent.stage


def test_plain_arguments_do_as_well(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    assert json.loads(shop.as_tool(AT).invoke({"user": user}))["user"] == user


def test_an_unknown_user_comes_back_as_an_error_that_the_agent_can_act_on(shop: RoleGen) -> None:
    message = call(shop, user="nobody")
    assert message.status == "error" and "'nobody'" in message.text


def test_a_tool_without_a_date_decides_now(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    answer = json.loads(shop.as_tool().invoke({"user": user}))
    assert answer["at"] > "2026" and answer["at"].endswith("T00:00:00+00:00")


def test_the_schema_tells_the_agent_what_to_pass(shop: RoleGen) -> None:
    tool = shop.as_tool(AT)
    assert list(tool.args) == ["user"] and "never instructions" in tool.description


def test_an_agent_calls_the_tool_and_tells_what_it_found(root: Path, shop: RoleGen, httpserver: HTTPServer) -> None:
    """The model asks for an unknown user first, mends its mistake, and answers from what the tool said."""
    [user] = users_at(shop.project.root, 1)
    asked: list[dict[str, Any]] = []

    def script(messages: list[dict[str, Any]]) -> dict[str, Any]:
        results = [m for m in messages if m["role"] == "tool"]
        if len(results) < 2:
            return chat.call("awaken_user", user="nobody" if not results else user)
        best = json.loads(results[-1]["content"])["slate"][0]
        return chat.say(f"Come back, {best['title']} awaits you.")

    model = chat.chat_model(httpserver, script, asked)
    said = example(root, "tool").converse(model, shop, AT, f"Write to customer {user}.")
    assert [message.type for message in said] == ["human", "ai", "tool", "ai", "tool", "ai"]
    assert [m.status for m in said if isinstance(m, ToolMessage)] == ["error", "success"]
    assert said[-1].text == f"Come back, {shop.trace(user).slate.items[0].title} awaits you."
    assert asked[0]["tools"][0]["function"]["name"] == "awaken_user"


def test_the_example_puts_the_loop_into_a_graph_of_its_own(root: Path, shop: RoleGen, capsys: Any) -> None:
    done = example(root, "subgraph").campaign(shop, AT).compile().invoke({"budget": 2.5})
    longest = shop.dormant(AT).sort("days", "user", descending=[True, False])["user"][0]
    assert done["user"] == longest and done["budget"] == 2.5
    assert set(done) == {"budget", "user", "at", "decision", "subject"}
    assert shop.trace(longest) == done["decision"]

    example(root, "subgraph").main(str(shop.project.root), AT)
    lines = capsys.readouterr().out.splitlines()
    one_round = [f"  {node}" for node in ("reason", "simulate", "ground", "execute", "feedback", "reflect")]
    assert lines[:2] == ["choose", "  observe"] and lines[2:-3] == one_round * len(done["decision"].rounds)
    assert lines[-3:] == ["awaken", "write", f"subject: {done['subject']}"]
