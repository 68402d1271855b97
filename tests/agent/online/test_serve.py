"""``rolegen serve``: a process of its own, real HTTP, both databases; killed, started again, and asked by strangers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from rolegen_agent.facade import RoleGen
from rolegen_agent.memory import open_memory
from rolegen_agent.online import create_app
from rolegen_agent.pages import LOOPBACK
from tests.support.serving import served
from tests.support.shop import Command, Line

from .conftest import NOW, Client, Decided, wait_for

pytest_plugins = ["tests.support.postgres"]


@contextmanager
def serving(
    rolegen: Command, folder: Path, *more: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Client, subprocess.Popen[str]]]:
    """A server that has told its address."""
    arguments = ["serve", "--project", str(folder), "--at", NOW, "--port", "0", *more]
    with rolegen.started(*arguments, environment=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("serving http://"), process.stderr.read()
        yield Client(int(line.strip().rpartition(":")[2])), process


@pytest.fixture
def remembering(copied: Decided, memory_url: str) -> tuple[Decided, dict[str, str]]:
    """A project whose decisions stand in each of the two databases."""
    with RoleGen.open(copied.folder) as shop, open_memory(memory_url) as memory:
        for user in copied.users:
            memory.record(shop.trace(user))
    return copied, {"ROLEGEN_MEMORY__URL": memory_url}


def test_events_survive_kill_9_and_shown_slates_an_orderly_end(
    rolegen: Command, remembering: tuple[Decided, dict[str, str]]
) -> None:
    shop, environment = remembering
    user = shop.users[0]
    with serving(rolegen, shop.folder, environment=environment) as (client, process):
        first = client.post("/slate", user=user)
        assert first["source"] == "remembered"
        row = {"user": user, "item": first["items"][0]["item"], "behaviour": "order", "time": "2011-09-01T09:00:00Z"}
        assert client.post("/events", events=[row])["recorded"] == 1
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    with serving(rolegen, shop.folder, environment=environment) as (client, process):
        answer = client.post("/slate", user=user, shown=True)
        assert (answer["source"], answer["events_seen"]) == ("reranked", 1)
        assert answer["decision"] == first["decision"]
        assert row["item"] not in [one["item"] for one in answer["items"]], "it was bought an hour ago"
        report = client.post("/events", events=[row])
        assert (report["recorded"], report["known"]) == (0, 1)
        process.terminate()
        process.wait(30)
    with open_memory(environment["ROLEGEN_MEMORY__URL"]) as memory:
        kept = memory.slate(answer["decision"], "served")
        assert [one.item for one in kept.items] == [one["item"] for one in answer["items"]]


def test_a_ranking_process_that_dies_costs_no_slate(rolegen: Command, copied: Decided) -> None:
    user = copied.users[0]
    with RoleGen.open(copied.folder) as shop, shop.online(NOW) as online:
        gone = online.slate(user).items[0].item
        expected = [one.item for one in online.slate(user, exclude=[gone]).items]
    with serving(rolegen, copied.folder) as (client, process):
        ranker = ranking_process(process.pid)
        assert ranker is not None, "nothing ranks beside the answers"
        answer = client.post("/slate", user=user, exclude=[gone])
        assert (answer["source"], [one["item"] for one in answer["items"]]) == ("reranked", expected)
        os.kill(ranker, signal.SIGKILL)
        for gone in expected[:3]:  # ranked beside the answers, as long as there is no other process
            answer = client.post("/slate", user=user, exclude=[gone])
            assert answer["source"] == "reranked" and len(answer["items"]) == 10
        wait_for(lambda: client.get("/health")["status"] == "ok" and ranking_process(process.pid) != ranker)
        answer = client.post("/slate", user=user, exclude=[gone, answer["items"][0]["item"]])
        assert answer["source"] == "reranked" and gone not in [one["item"] for one in answer["items"]]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert ranking_process(process.pid) is None


def ranking_process(server: int) -> int | None:
    """Its id, as Linux knows it; None while there is none."""
    for child in Path(f"/proc/{server}/task").glob("*/children"):
        for pid in child.read_text().split():
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return None


@contextmanager
def asked(copied: Decided, *, token: str | None = None) -> Iterator[Client]:
    """The app on a real port, served by a thread of the test, with the names that the command allows."""
    with RoleGen.open(copied.folder) as shop, shop.online(NOW) as online:
        app = create_app(online, token=token, hosts=None if token else LOOPBACK)
        with served(app) as base:
            yield Client(int(base.rpartition(":")[2]), token)


def test_strangers_and_nonsense_are_turned_away(copied: Decided) -> None:
    with asked(copied) as client:
        plain = {"content-type": "text/plain"}
        body = json.dumps({"user": copied.users[0]}).encode()
        # What a page of another site could send without asking the browser first.
        assert client.send("POST", "/slate", body, plain)[0] == 415
        assert client.send("POST", "/slate", body, {"content-type": "application/x-www-form-urlencoded"})[0] == 415
        assert client.send("POST", "/slate", body, {"host": "evil.example"})[0] == 421
        assert client.send("DELETE", "/slate")[0] == 405
        assert client.send("PUT", "/events", body)[0] == 405
        assert client.send("GET", "/slate")[0] == 405
        assert client.send("GET", "/decisions")[0] == 404
        status, headers, _ = client.send("POST", "/slate", body, {"origin": "https://evil.example"})
        assert status == 200 and "access-control-allow-origin" not in headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        bad: list[bytes] = [
            b"",
            b"{",
            b"null",
            b"[]",
            b"\xff\xfe",
            b'{"user": 7}',
            b'{"user": ""}',
            b'{"user": "\\ud800"}',
            b'{"user": "a\\u0000"}',
            b'{"user": "a", "more": 1}',
            b'{"user": "a", "size": 0}',
            b'{"user": "a", "size": 1e99}',
            b'{"user": "a", "at": "yesterday"}',
            b'{"user": "a", "at": "2011-09-01T12:00:00"}',
            b'{"user": "a", "at": "9999-12-31T23:59:59+00:00", "events": [{"item": "x", "behaviour": "steal"}]}',
            json.dumps({"user": "a" * 201}).encode(),
            json.dumps({"user": "a", "exclude": ["x"] * 101}).encode(),
            b'{"user": "a", "events": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
            b'{"user": "a", "events": [{"item": "x", "behaviour": "order", "quantity": NaN}]}',
        ]
        for one in bad:
            status, _, told = client.send("POST", "/slate", one)
            assert status in (400, 422), (one[:80], told)
            assert b"Traceback" not in told
        assert client.send("POST", "/events", json.dumps({"events": [{}] * 1001}).encode())[0] == 422
        assert client.send("POST", "/events", b" " * (2**20 + 1))[0] == 413
        for user in ("'; DROP TABLE told_events; --", "<script>alert(1)</script>", "../../etc/passwd", "\u202e{{7*7}}"):
            row = {"user": user, "item": user, "behaviour": "order", "time": "2011-09-01T09:00:00Z"}
            assert client.post("/events", events=[row])["unknown_items"] == [user]
            answer = client.post("/slate", user=user)
            assert (answer["user"], answer["source"], answer["events_unseen"]) == (user, "popular", 1)
        health = client.get("/health")
        assert health["status"] == "ok"
        assert len(health["unknown_items"]) == 4
        described = client.get("/openapi.json")
        assert {"/slate", "/events", "/health", "/metrics"} <= set(described["paths"])
        assert {"Answer", "SlateWanted", "EventsTold"} <= set(described["components"]["schemas"])
        metrics = client.send("GET", "/metrics")[2].decode()
        assert 'rolegen_slate_seconds_count{source="remembered"} 1.0' in metrics
        assert 'rolegen_refused_total{why="not_understood"}' in metrics


def test_beyond_loopback_a_token_is_asked_for(copied: Decided, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "a-token-of-the-test"
    with asked(copied, token=secret) as knows:
        client = Client(knows.port)
        body = json.dumps({"user": copied.users[0]}).encode()
        for path in ("/slate", "/events"):
            assert client.send("POST", path, body)[0] == 401
        assert client.send("GET", "/health")[0] == 401
        assert client.send("GET", "/openapi.json")[0] == 401
        assert client.send("GET", f"/health?token={secret}")[0] == 401, "no secret in addresses"
        assert client.send("POST", "/slate", body, {"authorization": "Bearer wrong"})[0] == 401
        assert knows.post("/slate", user=copied.users[0])["source"] == "remembered"
    monkeypatch.setenv("ROLEGEN_SERVE_TOKEN", "short")
    made = line("serve", "--project", str(copied.folder))
    assert (made.returncode, made.stdout) == (1, "")
    assert "fewer than 16 characters" in made.stderr


NO_LLM = """
import json, sys
from rolegen_agent.facade import RoleGen
with RoleGen.open(sys.argv[1], overrides={"reasoner": {"kind": "llm"}, "llm": {"model": "m", "base_url": sys.argv[2]}}) as shop:
    with shop.online(sys.argv[3]) as online:
        import rolegen_agent.online.app
        item = online.slate("nobody").items[0].item
        sources = [
            online.slate(user, events=events).source
            for user in (sys.argv[4], sys.argv[5], "nobody")
            for events in ([], [{"item": item, "behaviour": "order"}])
        ]
print(json.dumps([sources, sorted(sys.modules)]))
"""


def test_no_path_of_a_request_leads_to_an_llm(
    python: str, copied: Decided, httpserver: HTTPServer, tmp_path: Path
) -> None:
    """The project reasons with an LLM that would answer; nobody asks it, and nothing that could is even loaded."""
    done = subprocess.run(
        [python, "-c", NO_LLM, str(copied.folder), httpserver.url_for("/v1"), NOW, copied.users[0], copied.others[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sources, modules = json.loads(done.stdout)
    assert sources == ["remembered", "reranked", "backbone", "backbone", "popular", "backbone"]
    assert httpserver.log == []
    able = ("openai", "langchain_openai", "rolegen_agent.llm.client", "rolegen_graphs.llm", "rolegen_prompts")
    assert [name for name in modules if name in able] == []


def test_without_the_extra_the_install_command_is_told(python: str, tmp_path: Path) -> None:
    script = "import sys; sys.modules['prometheus_client'] = None; import rolegen_agent.online.figures"
    done = subprocess.run([python, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "pip install 'rolegen-agent[serve]'" in done.stderr
