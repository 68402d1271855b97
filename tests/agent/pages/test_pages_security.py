"""Trace pages and whoever means harm: hostile texts, strange hosts, strangers without a token, other sites."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from starlette.testclient import TestClient

from rolegen_agent.memory import Memory, open_memory
from rolegen_agent.memory.browsing import Filters
from rolegen_agent.pages import create_app, write_export
from rolegen_errors import InputError, MissingExtraError
from rolegen_graphs.words import CallSite, Lesson
from tests.hostile.cases import CASES
from tests.support.browser import Watched, chromium
from tests.support.customers import came_back, customer
from tests.support.decisions import make_call, make_decision
from tests.support.serving import Strict, served
from tests.support.shop import Line

MORE = (
    "<script>window.hacked=1</script>",
    "</title></style></script><script>window.hacked=2</script>",
    '"><img src=x onerror=window.hacked=3>',
    "' onmouseover=window.hacked=4 x='",
    "<svg/onload=window.hacked=5>",
    "{{ 7*7 }}{% include '/etc/passwd' %}",
    "<iframe srcdoc='<script>parent.hacked=6</script>'></iframe>",
    "\u202egnihtemos daer uoy\u2066",
    "nul \x00 bell \x07 \ud800 end",
    "javascript:window.hacked=8",
    "x" * 100_000,
    "<details open ontoggle=window.hacked=10>",
)
TEXTS = tuple(dict.fromkeys([*(case.text for case in CASES if case.text), *MORE]))
AT_ONCE = 14


@dataclass(frozen=True)
class Hostile:
    memory: Memory
    base: str
    keys: tuple[str, ...]
    users: tuple[str, ...]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    """Every text of the corpus as title, user, need, reason, lesson, prompt and answer."""
    folder = tmp_path_factory.mktemp("hostile")
    keys, users = [], []
    with open_memory(folder / "memory.sqlite") as memory:
        for number, start in enumerate(range(0, len(TEXTS), AT_ONCE)):
            texts = TEXTS[start : start + AT_ONCE]
            made = customer(0, titles=texts, user=texts[0][:500])
            last = made.rounds[-1]
            intent = last.reading.intent.model_copy(update={"need": texts[-1], "category": texts[0]})
            last = last.model_copy(update={"reading": last.reading.model_copy(update={"intent": intent})})
            made = made.model_copy(
                update={"rounds": (last,), "run": texts[-1][:300], "reasoner": f"llm:{texts[0][:200]}"}
            )
            from rolegen_agent.memory import decision_id

            made = made.model_copy(update={"decision": decision_id(made.run, made.user, made.at)})
            site = CallSite(decision=made.decision, round=1, node="reason")
            memory.record_call(
                make_call(
                    made.decision,
                    site=site,
                    request_hash=str(number),
                    raw=texts[-1],
                    messages=texts[0],
                    model=texts[0],
                    prompt=texts[-1][:80],
                )
            )
            memory.record(made)
            memory.record_outcome(came_back(made, "item4", texts[0]))
            memory.record_prompt(texts[-1][:80], "1", "abc", texts[0])
            keys.append(made.decision)
            users.append(made.user)
        for number, text in enumerate(TEXTS):
            memory.record_lesson(
                Lesson(
                    lesson=f"{number} {text[:60]}",
                    scope="all",
                    scope_key=text[:60],
                    text=text,
                    learnt_at=datetime(2011, 1, 1, tzinfo=UTC),
                )
            )
        with served(create_app(memory, hosts=("127.0.0.1",))) as base:
            yield Hostile(memory, base, tuple(keys), tuple(users))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_no_text_does_anything(browser: Browser, hostile: Hostile, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    strict = Strict(page, hostile.base)
    runs = list(hostile.memory.run_sizes())
    lessons = hostile.memory.lessons()
    addresses = ["/", "/lessons", "/prompts", f"/compare?a={hostile.keys[0]}&b={hostile.keys[1]}"]
    addresses += [f"/decisions/{key}" for key in hostile.keys]
    page.goto(hostile.base)
    links = page.evaluate("[...document.querySelectorAll('#main a[href]')].map((one) => one.getAttribute('href'))")
    assert all(link.startswith("/") for link in links)
    for address in addresses:
        answer = page.goto(hostile.base + address)
        assert answer is not None and answer.status == 200, address
        assert len(answer.body()) < 1_000_000
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        page.mouse.move(200, 400)
        assert page.evaluate("window.hacked") is None and page.url == hostile.base + address
        assert page.locator("main img, iframe, object, base, a[href^=javascript], svg[onload]").count() == 0, address
        assert page.locator("script").count() == 1, address
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address
        assert "\u202e" not in page.locator("body").inner_text(), address
    for link in ("#list a.open", "main table a.open"):
        page.goto(f"{hostile.base}/{'lessons' if 'table' in link else ''}")
        page.locator(link).first.click()
        assert page.locator("main").count() == 1
    assert strict.faults == []
    assert len(runs) >= 1 and len(lessons) == len(TEXTS)
    write_export(tmp_path / "trace.html", hostile.memory, hostile.users[:3])
    watched = Watched(page)
    page.goto((tmp_path / "trace.html").as_uri())
    assert page.evaluate("window.hacked") is None and watched.faults == []
    page.close()


def test_every_user_of_whatever_name_has_a_page(hostile: Hostile) -> None:
    client = TestClient(create_app(hostile.memory))
    for line in hostile.memory.browse(Filters(), limit=100).lines:
        found = client.get("/users", params={"id": line.user})
        if not any("\ud800" <= sign <= "\udfff" for sign in line.user):
            assert found.status_code == 200, repr(line.user[:60])


def test_headers_allow_nothing_that_is_not_needed(hostile: Hostile) -> None:
    client = TestClient(create_app(hostile.memory))
    for address in ("/", "/nothing", "/static/pages.js", f"/decisions/{hostile.keys[0]}"):
        headers = client.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "script-src 'self'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert client.get("/").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_pages_write_nothing(hostile: Hostile, method: str) -> None:
    client = TestClient(create_app(hostile.memory))
    for address in ("/", "/live", f"/decisions/{hostile.keys[0]}"):
        assert client.request(method, address, headers={"origin": "https://evil.example"}).status_code == 405


def test_a_site_with_a_name_of_its_own_reads_nothing(hostile: Hostile) -> None:
    client = TestClient(create_app(hostile.memory, hosts=("127.0.0.1", "localhost", "::1")))
    for host, status in {
        "127.0.0.1:8723": 200,
        "localhost": 200,
        "[::1]:80": 200,
        "evil.example": 421,
        "127.0.0.1.evil.example:8723": 421,
        "": 421,
    }.items():
        answer = client.get("/", headers={"host": host})
        assert answer.status_code == status, host
        assert (hostile.keys[0] in answer.text) == (status == 200)


def test_a_stranger_without_the_token_reads_nothing(hostile: Hostile) -> None:
    app = create_app(hostile.memory, token="t0p-s3cret")
    for address in ("/", "/live", "/static/pages.css", f"/decisions/{hostile.keys[0]}", "/?token=wrong"):
        assert TestClient(app).get(address, follow_redirects=False).status_code == 401, address
    for headers in ({"authorization": "Bearer wrong"}, {"cookie": "rolegen_pages=wrong"}, {"cookie": "\x7f;;="}):
        assert TestClient(app).get("/", headers=headers).status_code == 401
    assert TestClient(app).get("/", headers={"authorization": "Bearer t0p-s3cret"}).status_code == 200
    client = TestClient(app)
    entered = client.get("/?token=t0p-s3cret&sort=cost", follow_redirects=False)
    assert entered.status_code == 303 and entered.headers["location"] == "/?sort=cost", "the token leaves the address"
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "t0p-s3cret" not in cookie
    assert client.get("/").status_code == 200


def test_what_is_not_there_is_said_with_what_to_do(hostile: Hostile) -> None:
    client = TestClient(create_app(hostile.memory))
    for address, words in {
        "/decisions/nothing": "memory has no decision",
        "/users?id=nobody": "no decision on this user",
        "/lessons?id=none": "no such lesson",
        "/prompts?name=none": "no call was made with such a prompt",
        "/?after=cut": "address was cut",
        "/static/../app.py": "no such",
        "/elsewhere": "There is no such page",
    }.items():
        found = client.get(address)
        assert found.status_code == 404 and words in found.text, address


def test_the_command_refuses_what_it_cannot_do(line: Line, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, words in {
        ("--export",): "--export needs users",
        ("12349",): "users are named without --export",
        ("--evals", "nowhere"): "there is no such folder",
    }.items():
        done = line("inspect", *arguments, "--project", str(project))
        assert done.returncode == 1 and words in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = line("inspect", "--port", str(taken.getsockname()[1]), "--project", str(project))
    assert done.returncode == 1 and "another --port" in done.stderr


def test_a_missing_extra_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from rolegen_agent import pages

    monkeypatch.setattr(pages, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"rolegen-agent\[pages\]"):
        pages.__getattr__("create_app")
    with pytest.raises(AttributeError):
        pages.__getattr__("nothing")


def test_an_export_of_nobody_is_an_error(tmp_path: Path) -> None:
    with open_memory(tmp_path / "memory.sqlite") as memory, pytest.raises(InputError, match="no decision on user"):
        memory.record(make_decision("1"))
        write_export(tmp_path / "trace.html", memory, ["1", "2"])
    assert not (tmp_path / "trace.html").exists()
