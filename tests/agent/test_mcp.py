"""The project as an MCP server: a client of the SDK over HTTP, and a plain one, written here, over stdio."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from rolegen_agent.facade import RoleGen
from tests.support.shop import AT, users_at

TOKEN = "a-token-of-the-test-only"


@contextmanager
def started(python: str, folder: Path, *options: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """``rolegen mcp`` as a user starts it."""
    process = subprocess.Popen(
        [str(Path(python).parent / "rolegen"), "mcp", "--project", str(folder), "--at", AT, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | more,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


class Lines:
    """The protocol as it is on the wire: one JSON-RPC message a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.send, self.receive, self.number = process.stdin, process.stdout, 0
        self.heard: list[dict[str, Any]] = []
        told = {"name": "test", "version": "0"}
        self.ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=told)
        self.write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def write(self, message: dict[str, Any]) -> None:
        self.send.write(json.dumps(message) + "\n")
        self.send.flush()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer; notifications that came before it are in ``heard``."""
        self.number += 1
        self.write({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params})
        while True:
            line = self.receive.readline()
            assert line, "the server has ended"
            message: dict[str, Any] = json.loads(line)  # nothing else may stand on stdout
            if message.get("id") == self.number:
                return message
            self.heard.append(message)

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.ask("tools/call", name=tool, arguments=arguments, _meta={"progressToken": "p"})[
            "result"
        ]
        return result


def test_a_plain_client_over_stdio_goes_round_the_loop(python: str, shop: RoleGen) -> None:
    [user, other] = users_at(shop.project.root, 2)
    with started(python, shop.project.root) as process:
        client = Lines(process)
        tools = {tool["name"]: tool for tool in client.ask("tools/list")["result"]["tools"]}
        assert set(tools) == {"awaken_user", "explain_user", "list_decisions", "record_outcome"}
        assert "ctx" not in tools["awaken_user"]["inputSchema"]["properties"]

        slate = client.call("awaken_user", user=user)["structuredContent"]
        told = [one["params"] for one in client.heard if one["method"] == "notifications/progress"]
        assert [one["message"] for one in told][:3] == ["observe", "reason", "simulate"]
        assert [one["progress"] for one in told] == sorted(one["progress"] for one in told)
        assert slate["decision"] == shop.trace(user).decision and len(slate["slate"]) == 10

        why = client.call("explain_user", user=user)["structuredContent"]
        assert why["paths"] and why["roles"] and why["outcome"] is None

        bought = slate["slate"][0]["item"]
        report = {"user": user, "decision": slate["decision"], "ordered_at": "2011-09-05T10:00:00+00:00"}
        for outcome in ("recorded", "known already"):
            done = client.call("record_outcome", report={**report, "items": [bought], "value": 5.0})
            assert done["structuredContent"]["outcome"] == outcome
        assert client.call("explain_user", user=user)["structuredContent"]["outcome"]["items"] == [bought]

        client.call("awaken_user", user=other)
        first = client.call("list_decisions", limit=1)["structuredContent"]
        second = client.call("list_decisions", limit=1, after=first["next"])["structuredContent"]
        assert [one["decisions"][0]["user"] for one in (first, second)] == [other, user] and second["next"] is None

        refused = client.call("awaken_user", user="nobody")
        assert refused["isError"] and "'nobody'" in refused["content"][0]["text"]
        assert client.call("list_decisions", limit=0)["isError"]


@asynccontextmanager
async def connected(url: str, token: str) -> AsyncIterator[ClientSession]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        streamable_http_client(url, http_client=http) as streams,
        ClientSession(streams[0], streams[1]) as session,
    ):
        await session.initialize()
        yield session


def test_a_client_of_the_sdk_over_http_reads_traces_and_prompts(python: str, shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    key = shop.decide(user, AT).decision

    async def drive(url: str) -> None:
        async with connected(url, TOKEN) as session:
            [template] = (await session.list_resource_templates()).resource_templates
            assert template.uri_template == "rolegen://decisions/{decision}"
            read: Any = await session.read_resource(f"rolegen://decisions/{key}")
            assert json.loads(read.contents[0].text) == shop.trace(user).model_dump(mode="json")
            with pytest.raises(Exception, match="no decision"):
                await session.read_resource("rolegen://decisions/unknown")

            prompts = {prompt.name for prompt in (await session.list_prompts()).prompts}
            assert {"reason", "simulate", "reflect"} <= prompts
            shown: Any = await session.get_prompt("reason", {"user": user})
            assert any(event.title in shown.messages[-1].content.text for event in events(shop, user))
            answer: Any = await session.call_tool("awaken_user", {"user": user})
            assert answer.structured_content["decision"] == key

    with http_server(python, shop.project.root, ROLEGEN_MCP_TOKEN=TOKEN) as url:
        asyncio.run(drive(url))
        for token in ("", "wrong"):
            refused = httpx2.post(url, json={}, headers={"Authorization": f"Bearer {token}"} if token else {})
            assert refused.status_code == 401


def test_without_a_token_one_is_made_and_a_short_one_is_refused(python: str, shop: RoleGen) -> None:
    with started(python, shop.project.root, "--http", "--port", "0") as process:
        assert process.stderr is not None
        assert re.fullmatch(r"token: [\w-]{40,}\n", process.stderr.readline())
    with started(python, shop.project.root, "--http", ROLEGEN_MCP_TOKEN="short") as process:
        assert process.wait(60) == 1 and process.stderr is not None
        assert "ROLEGEN_MCP_TOKEN" in process.stderr.read()


@contextmanager
def http_server(python: str, folder: Path, **more: str) -> Iterator[str]:
    from tests.agent.test_server import free_port

    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    with started(python, folder, "--http", "--port", str(port), **more) as process:
        for _ in range(600):
            try:
                httpx2.get(url)
                break
            except httpx2.TransportError:
                assert process.poll() is None, "the server has ended"
                time.sleep(0.1)
        yield url


def events(shop: RoleGen, user: str) -> Any:
    return shop.trace(user).observation.trajectory.events
