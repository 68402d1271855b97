"""RoleGen as an agent's tool: invoked directly, and by a chat model over HTTP."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from langchain_core.messages import ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from rolegen_agent.facade import RoleGen
from tests.support.shop import AT, users_at


def example(root: Path, name: str) -> ModuleType:
    """A program of ``examples/``, loaded as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", root / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # LangGraph looks there for the types of a state
    spec.loader.exec_module(module)
    return module


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

    def chat(request: Request) -> Response:
        asked.append(request.get_json())
        results = [m for m in asked[-1]["messages"] if m["role"] == "tool"]
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if len(results) < 2:
            arguments = json.dumps({"user": "nobody" if not results else user})
            function = {"name": "awaken_user", "arguments": arguments}
            message["tool_calls"] = [{"id": f"call-{len(results)}", "type": "function", "function": function}]
        else:
            best = json.loads(results[-1]["content"])["slate"][0]
            message["content"] = f"Come back, {best['title']} awaits you."
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if len(results) < 2 else "stop"}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice]}
        return Response(json.dumps(body), content_type="application/json")

    httpserver.expect_request("/v1/chat/completions", method="POST").respond_with_handler(chat)
    model = ChatOpenAI(
        model="scripted", base_url=httpserver.url_for("/v1"), api_key=SecretStr("none"), use_responses_api=False
    )
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
    assert lines[0] == "choose" and lines[1:8] == [
        f"  {node}" for node in ("observe", "reason", "simulate", "ground", "execute", "feedback", "reflect")
    ]
    assert lines[8:] == ["awaken", "write", f"subject: {done['subject']}"]
