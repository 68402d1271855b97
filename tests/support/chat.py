"""A chat model of our own making behind real HTTP: a function from the conversation to the next message."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

Script = Callable[[list[dict[str, Any]]], dict[str, Any]]
"""messages as OpenAI's protocol has them → the assistant's message"""


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """An assistant's message that calls one tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": f"call-{name}", "type": "function", "function": function}]}


def say(text: str) -> dict[str, Any]:
    """An assistant's last word."""
    return {"content": text}


def chat_model(server: HTTPServer, script: Script, asked: list[dict[str, Any]]) -> ChatOpenAI:
    """A real client of a server that follows ``script``; ``asked`` collects the requests."""

    def answer(request: Request) -> Response:
        asked.append(request.get_json())
        message = {"role": "assistant", **script(asked[-1]["messages"])}
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        body = {"id": "x", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice]}
        return Response(json.dumps(body), content_type="application/json")

    server.expect_request("/v1/chat/completions", method="POST").respond_with_handler(answer)
    return ChatOpenAI(
        model="scripted", base_url=server.url_for("/v1"), api_key=SecretStr("none"), use_responses_api=False
    )
