"""The model boundary through the real stack: ChatOpenAI over HTTP to a scripted server, calls kept in a real memory."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from pytest_httpserver import HTTPServer
from werkzeug import Response

from rolegen_agent.llm import Limits, LlmClient, Price, chat_model
from rolegen_agent.memory import Memory, open_memory
from rolegen_errors import BudgetError, ProjectError, ReasonerError
from rolegen_graphs.llm import LlmReasoner
from rolegen_graphs.words import CallSite, Reading
from rolegen_prompts import Message, PromptPack
from tests.support.observations import AT, make_event, make_observation
from tests.support.scripted_llm import Mode, ScriptedLlm

KEY = "sk-secret-0123456789abcdef"
PROMPT = PromptPack.default().get("reason")
QUESTION = (Message("system", "Answer."), Message("user", "Well?"))
ANY: dict[str, Any] = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def site(decision: str = "d1", round: int = 1) -> CallSite:
    return CallSite(decision=decision, round=round, node="reason")


@pytest.fixture(scope="module")
def empty_memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy: migrating it anew for every test would take most of the time."""
    file = tmp_path_factory.mktemp("empty") / "memory.sqlite"
    open_memory(file).close()
    return file


@pytest.fixture
def memory(tmp_path: Path, empty_memory: Path) -> Iterator[Memory]:
    with open_memory(shutil.copy(empty_memory, tmp_path / "memory.sqlite")) as opened:
        yield opened


Connect = Callable[..., tuple[ScriptedLlm, LlmClient]]


@pytest.fixture
def connect(memory: Memory) -> Iterator[Connect]:
    """Start a server that follows ``modes`` and a client of it; pauses between attempts are noted, not waited for."""
    servers: list[ScriptedLlm] = []

    def start(*modes: Mode, server: dict[str, Any] | None = None, timeout_s: float = 20.0, **more: Any) -> Any:
        script = ScriptedLlm(*modes, **(server or {})).__enter__()
        servers.append(script)
        more.setdefault("sleep", lambda seconds: None)
        model = chat_model("scripted", base_url=script.url, api_key=KEY, timeout_s=timeout_s)
        return script, LlmClient(model, name="scripted", log=memory, **more)

    yield start
    for one in servers:
        one.__exit__()


def ask(client: LlmClient, where: CallSite | None = None, text: str = "Well?") -> str:
    question = (QUESTION[0], Message("user", text))
    return client.ask("reason", question, ANY, site=where or site(), prompt=PROMPT)


def read(client: LlmClient, decision: str = "d1") -> Reading:
    return LlmReasoner(client, model=client.name).reason(make_observation(), (), site=site(decision))


def test_a_good_answer_is_one_request_and_one_record(connect: Connect, memory: Memory) -> None:
    server, client = connect("good", price=Price(input_per_million=1.0, output_per_million=2.0))
    reading = read(client)
    assert [label.event for label in reading.labels] == [101, 102, 140, 141, 180, 190]
    [asked] = server.chats
    assert asked.path == "/v1/chat/completions" and asked.keys == [KEY]
    assert asked.body["model"] == "scripted" and asked.body["temperature"] == 0.0
    wanted = asked.body["response_format"]
    assert (wanted["type"], wanted["json_schema"]["name"], wanted["json_schema"]["strict"]) == (
        "json_schema",
        "reason",
        True,
    )
    [call] = memory.calls()
    assert (call.site, call.prompt, call.prompt_version, call.prompt_hash) == (
        site(),
        "reason",
        str(PROMPT.version),
        PROMPT.sha256,
    )
    assert json.loads(call.raw)["intent"]["stage"] == "browsing" and call.error == ""
    assert [one["role"] for one in json.loads(call.messages)] == ["system", "user"]
    assert (call.retries, call.cached) == (0, False) and call.latency_s > 0
    usage = client.usage
    assert (call.input_tokens, call.output_tokens) == (usage.input_tokens, usage.output_tokens)
    assert call.input_tokens == -(-len(asked.prompt) // 4), "the endpoint's own count"
    assert call.cost_usd == pytest.approx((call.input_tokens + 2 * call.output_tokens) / 1e6) == usage.cost_usd
    assert (usage.answered, usage.requests, usage.failed, usage.retries, usage.estimated) == (1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    "mode", ["malformed", "truncated", "wrong_schema", "wrong_facts", "prose", "empty", "no_usage"]
)
def test_a_useless_answer_costs_one_repair_and_then_an_error(connect: Connect, memory: Memory, mode: Mode) -> None:
    if mode == "no_usage":
        server, client = connect(mode)
        read(client)
        assert client.usage.estimated == 1 and client.usage.input_tokens > 500
        return
    server, client = connect(mode)
    with pytest.raises(ReasonerError, match="not even after being shown its errors"):
        read(client)
    assert [asked.repairing for asked in server.chats] == [False, True]
    calls = memory.calls()
    assert sorted(call.prompt for call in calls) == ["reason", "repair"]
    assert all(bool(call.raw) != bool(call.error) for call in calls)
    assert all(call.input_tokens > 500 for call in calls), "useless answers are paid for"


@pytest.mark.parametrize("modes", [("bad_then_good",), ("truncated", "good"), ("code_block",), ("empty", "code_block")])
def test_a_repaired_answer_is_an_answer(connect: Connect, modes: tuple[Mode, ...]) -> None:
    server, client = connect(*modes)
    assert len(read(client).labels) == 6
    assert len(server.chats) == (1 if modes == ("code_block",) else 2)


def test_a_refusal_is_told_and_recorded_and_not_repaired(connect: Connect, memory: Memory) -> None:
    server, client = connect("refusal", "good")
    with pytest.raises(ReasonerError, match=r"it refused: I cannot help with that\."):
        read(client)
    assert len(server.chats) == 1
    [call] = memory.calls()
    assert call.raw == "" and "refused" in call.error
    assert len(read(client).labels) == 6, "a refusal is not remembered as the answer"


@pytest.mark.parametrize(
    ("modes", "retries", "requests"),
    [
        (("server_error",), 3, 4),
        (("server_error",), 0, 1),
        (("rate_limited",), 2, 3),
        (("cut",), 1, 2),
        (("quota",), 3, 1),
        (("unauthorised",), 3, 1),
        (("bad_request",), 3, 1),
        (("no_protocol",), 3, 1),
        (("no_choices",), 3, 1),
    ],
)
def test_failures_are_retried_exactly_as_often_as_said(
    connect: Connect, memory: Memory, modes: tuple[Mode, ...], retries: int, requests: int
) -> None:
    server, client = connect(*modes, retries=retries)
    with pytest.raises(ReasonerError, match=f"attempts: {requests}") as caught:
        ask(client)
    assert len(server.chats) == requests
    [call] = memory.calls()
    assert call.raw == "" and call.error and call.retries == requests - 1
    assert (client.usage.requests, client.usage.retries, client.usage.failed) == (requests, requests - 1, 1)
    assert caught.value.fix and "d1" in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"error": {"message": "boom"}}',
        '{"choices": "x"}',
        '{"choices": []}',
        '{"choices": [null]}',
        '{"choices": [{"message": null}]}',
        '{"choices": [{"message": {}}]}',
        '{"choices": [{"message": {"role": "assistant", "content": "ok"}}], "usage": "x"}',
    ],
)
def test_an_endpoint_that_answers_nonsense_is_said_to(httpserver: HTTPServer, memory: Memory, body: str) -> None:
    httpserver.expect_request("/v1/chat/completions").respond_with_data(body, content_type="application/json")
    model = chat_model("m", base_url=httpserver.url_for("/v1"), api_key=KEY)
    client = LlmClient(model, name="m", log=memory)
    with pytest.raises(ReasonerError, match=r"attempts: 1.*does not follow OpenAI's chat completions"):
        ask(client)
    assert len(httpserver.log) == 1 == client.usage.failed == len(memory.calls())


def test_impossible_usage_numbers_do_not_free_a_budget(httpserver: HTTPServer, memory: Memory) -> None:
    whole = {
        "choices": [{"message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": -1_000_000, "completion_tokens": 3, "total_tokens": -999_997},
    }
    httpserver.expect_request("/v1/chat/completions").respond_with_json(whole)
    client = LlmClient(
        chat_model("m", base_url=httpserver.url_for("/v1")), name="m", log=memory, limits=Limits(tokens_per_run=2200)
    )
    ask(client, text="one")
    assert client.usage.estimated == 1 and 0 < client.usage.tokens < 200
    with pytest.raises(BudgetError):
        ask(client, text="two " * 200)


def test_a_passing_failure_passes(connect: Connect, memory: Memory) -> None:
    server, client = connect("rate_limited", "server_error", "cut", "good", retries=3)
    assert len(read(client).labels) == 6
    assert len(server.chats) == 4
    [call] = memory.calls()
    assert call.retries == 3 and call.error == ""


def test_a_timeout_is_a_failure_like_any_other(connect: Connect) -> None:
    server, client = connect("slow", "good", server={"delay_s": 12.0}, timeout_s=3.0, retries=1)
    assert len(read(client).labels) == 6
    assert [asked.mode for asked in server.chats] == ["slow", "good"]
    server, client = connect("slow", server={"delay_s": 5.0}, timeout_s=0.3, retries=0, cache=False)
    with pytest.raises(ReasonerError, match=r"(?i)time"):
        read(client)


@pytest.mark.parametrize("streaming", [False, True])
def test_an_answer_that_only_drips_is_given_up(connect: Connect, streaming: bool) -> None:
    """A blank now and then keeps a connection open for minutes; the time limit is for the whole answer."""

    def put(client: LlmClient) -> str:
        if not streaming:
            return ask(client)
        graph = StateGraph(Answered)
        graph.add_node("reason", lambda state: {"raw": ask(client)})
        graph.add_edge(START, "reason")
        return [
            str(part["raw"])
            for kind, part in graph.compile().stream({"raw": ""}, stream_mode=["messages", "values"])
            if kind == "values"
        ][-1]

    server, client = connect("dripping", "good", server={"delay_s": 30.0}, timeout_s=3.0, retries=1, cache=False)
    assert put(client)
    assert [asked.mode for asked in server.chats] == ["dripping", "good"]
    server, client = connect("dripping", server={"delay_s": 30.0}, timeout_s=0.3, retries=0, cache=False)
    with pytest.raises(ReasonerError, match=r"attempts: 1.*(?i:time)"):
        put(client)
    server, client = connect("dripping", server={"delay_s": 0.3}, timeout_s=20.0, retries=0, cache=False)
    assert put(client), "blanks do no harm in time"


def test_retry_after_is_honoured(connect: Connect) -> None:
    waits: list[float] = []
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    undated = date.replace("GMT", "-0000")  # the same instant, in the way of mails
    passed = "Wed, 21 Oct 2015 07:28:00 GMT"
    for header, low, high in (
        ("7", 7.0, 7.0),
        ("0.25", 0.25, 0.25),
        ("-3", 0.0, 0.0),
        (date, 30.0, 40.0),
        (undated, 30.0, 40.0),
        (passed, 0.0, 0.0),
        ("soon", 0.0, 1.0),
        ("nan", 0.0, 1.0),
    ):
        server, client = connect(
            "rate_limited", "good", server={"retry_after": header}, sleep=waits.append, cache=False
        )
        ask(client)
        assert low <= waits[-1] <= high and len(server.chats) == 2


def test_retry_after_is_honoured_in_milliseconds_and_from_an_overloaded_server(
    httpserver: HTTPServer, memory: Memory
) -> None:
    waits: list[float] = []
    for status, headers in ((429, {"retry-after-ms": "1500", "Retry-After": "2"}), (503, {"Retry-After": "4"})):
        busy = Response("{}", status, headers, content_type="application/json")
        httpserver.expect_oneshot_request("/v1/chat/completions").respond_with_response(busy)
    message = {"choices": [{"message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]}
    httpserver.expect_request("/v1/chat/completions").respond_with_json(message)
    model = chat_model("m", base_url=httpserver.url_for("/v1"))
    assert ask(LlmClient(model, name="m", log=memory, sleep=waits.append)) == "ok"
    assert waits == [1.5, 4.0]


@pytest.mark.parametrize(
    "asked_for",
    ["3600", "inf", format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)],
    ids=["seconds", "for ever", "until tomorrow"],  # several processes collect it, and must find the same names
)
def test_an_endpoint_that_asks_for_too_long_a_pause_gets_no_second_request(connect: Connect, asked_for: str) -> None:
    waits: list[float] = []
    server, client = connect("rate_limited", server={"retry_after": asked_for}, sleep=waits.append, longest_wait_s=60)
    with pytest.raises(ReasonerError, match="attempts: 1"):
        ask(client)
    assert waits == [] and len(server.chats) == 1


def test_without_a_word_of_the_endpoint_pauses_grow_and_stay_bounded(connect: Connect) -> None:
    waits: list[float] = []
    _, client = connect("server_error", sleep=waits.append, retries=12, longest_wait_s=3.0)
    with pytest.raises(ReasonerError, match="attempts: 13"):
        ask(client)
    assert len(waits) == 12 and all(0 <= wait <= 3.0 for wait in waits) and len(set(waits)) > 6


def test_an_unreachable_endpoint_is_an_error(memory: Memory) -> None:
    with ScriptedLlm() as server:
        url = server.url
    client = LlmClient(
        chat_model("m", base_url=url, api_key=KEY), name="m", log=memory, retries=1, sleep=lambda s: None
    )
    with pytest.raises(ReasonerError, match=r"attempts: 2.*refused"):
        ask(client)


def test_an_equal_question_is_answered_from_memory(connect: Connect, memory: Memory) -> None:
    server, client = connect("good", price=Price(input_per_million=1.0, output_per_million=1.0))
    first = read(client, "d1")
    paid = client.usage
    assert read(client, "d2") == first and read(client, "d1") == first
    assert len(server.chats) == 1
    assert client.usage.cached == 2 and client.usage.cost_usd == paid.cost_usd
    calls = {call.site.decision: call for call in memory.calls()}
    assert not calls["d1"].cached and calls["d1"].cost_usd, "a resumed decision keeps what it paid"
    assert calls["d2"].cached and calls["d2"].cost_usd == 0.0 and calls["d2"].input_tokens == 0
    assert calls["d1"].request_hash == calls["d2"].request_hash and calls["d1"].raw == calls["d2"].raw


def test_a_repair_is_repeatable_from_memory_too(connect: Connect) -> None:
    server, client = connect("bad_then_good")
    assert read(client, "d1") == read(client, "d2")
    assert len(server.chats) == 2 and client.usage.cached == 2


def test_further_fields_reach_the_endpoint_and_are_part_of_the_question(connect: Connect, memory: Memory) -> None:
    server, _ = connect()
    for effort in ("low", "high", "low"):
        model = chat_model(
            "scripted",
            base_url=server.url,
            temperature=None,
            max_output_tokens=700,
            seed=3,
            extra_body={"reasoning_effort": effort, "chat_template_kwargs": {"enable_thinking": False}},
        )
        ask(LlmClient(model, name="scripted", log=memory))
    first, second = (asked.body for asked in server.chats)
    assert (first["reasoning_effort"], second["reasoning_effort"]) == ("low", "high")
    assert first["chat_template_kwargs"] == {"enable_thinking": False}
    assert (first["seed"], first["max_completion_tokens"]) == (3, 700) and "temperature" not in first


def test_another_model_parameter_schema_or_text_is_another_question(connect: Connect, memory: Memory) -> None:
    server, _ = connect(server={"models": ["a", "b"]})
    for model, temperature, structured, text in (
        ("a", 0.0, "json_schema", "Well?"),
        ("b", 0.0, "json_schema", "Well?"),
        ("a", 1.0, "json_schema", "Well?"),
        ("a", 0.0, "json_object", "Well?"),
        ("a", 0.0, "off", "Well?"),
        ("a", 0.0, "json_schema", "Well!"),
        ("a", 0.0, "json_schema", "Well?"),  # the first one again
    ):
        chat = chat_model(model, base_url=server.url, api_key=KEY, temperature=temperature)
        ask(LlmClient(chat, name=model, log=memory, structured_output=structured), text=text)  # type: ignore[arg-type]
    assert len(server.chats) == 6
    formats = [asked.body.get("response_format", {}).get("type") for asked in server.chats]
    assert formats == ["json_schema"] * 3 + ["json_object", None, "json_schema"]


def test_equal_questions_at_the_same_time_are_one_request(connect: Connect, memory: Memory) -> None:
    server, client = connect(
        "slow", server={"delay_s": 0.2}, price=Price(input_per_million=1.0, output_per_million=1.0)
    )
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda number: ask(client, site(f"d{number}")), range(6)))
    assert len(server.chats) == 1 and len(set(answers)) == 1
    assert (client.usage.answered, client.usage.cached, client.usage.requests) == (1, 5, 1)
    assert sorted(call.cached for call in memory.calls()) == [False] + [True] * 5
    assert sum(call.cost_usd or 0 for call in memory.calls()) == client.usage.cost_usd


def test_of_equal_questions_the_next_one_is_sent_when_the_first_one_fails(connect: Connect) -> None:
    server, client = connect("server_error", "good", retries=0)

    def one(number: int) -> str:
        try:
            return ask(client, site(f"d{number}"))
        except ReasonerError as error:
            return error.what

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(one, range(4)))
    assert len(server.chats) == 2 and sum("gave no answer" in answer for answer in answers) == 1


def test_the_cache_can_be_left_out(connect: Connect) -> None:
    server, client = connect(cache=False)
    ask(client)
    ask(client)
    assert len(server.chats) == 2


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        (Limits(calls_per_run=2), 2),
        (Limits(calls_per_run=0), 0),
        (Limits(calls_per_decision=1), 1),
        (Limits(tokens_per_run=4000), 1),
        (Limits(tokens_per_decision=4000), 1),
        (Limits(usd_per_decision=0.004), 1),
        (Limits(usd_per_run=0.004), 1),
    ],
)
def test_a_budget_stops_before_the_call_that_would_exceed_it(
    connect: Connect, memory: Memory, limits: Limits, asked: int
) -> None:
    price = Price(input_per_million=1.0, output_per_million=1.0)
    server, client = connect(limits=limits, price=price, output_reserve=2500)
    text = "word " * 600  # about 750 tokens by the server's count, 1000 by the estimate
    for number in range(asked):
        ask(client, text=f"{number} {text}")
    with pytest.raises(BudgetError, match=next(iter(limits.model_dump(exclude_none=True)))) as caught:
        ask(client, text=f"last {text}")
    assert len(server.chats) == asked == len(memory.calls())
    assert "evidence reasoner" in str(caught.value)
    if asked:
        ask(client, text=f"0 {text}")  # what is remembered stays free
    if limits.calls_per_decision or limits.tokens_per_decision or limits.usd_per_decision:
        ask(client, site("d2"), text=f"last {text}")


def test_retries_count_against_the_budget(connect: Connect, memory: Memory) -> None:
    server, client = connect("server_error", limits=Limits(calls_per_run=2), retries=5)
    with pytest.raises(BudgetError):
        ask(client)
    assert len(server.chats) == 2
    [call] = memory.calls()
    assert "calls_per_run" in call.error and call.retries == 1


def test_a_failed_request_gives_its_tokens_back(connect: Connect) -> None:
    server, client = connect("server_error", "server_error", "good", limits=Limits(tokens_per_run=2500), retries=2)
    ask(client)
    assert len(server.chats) == 3 and client.usage.tokens < 100


def test_a_budget_in_dollars_needs_a_price(connect: Connect) -> None:
    with pytest.raises(ProjectError, match="price of model 'scripted' is not known"):
        connect(limits=Limits(usd_per_run=1.0))
    _, client = connect()
    ask(client)
    assert client.usage.cost_usd is None


def test_no_more_requests_at_a_time_than_allowed_and_budgets_hold_under_threads(
    connect: Connect, memory: Memory
) -> None:
    server, client = connect("slow", server={"delay_s": 0.1}, concurrency=2, limits=Limits(calls_per_run=6))
    stopped = threading.Semaphore(0)

    def one(number: int) -> None:
        try:
            ask(client, site(f"d{number}"), text=str(number))
        except BudgetError:
            stopped.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(10)))
    assert server.most_in_flight == 2
    assert len(server.chats) == 6 == client.usage.answered == len(memory.calls())
    assert [stopped.acquire(blocking=False) for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize("mode", ["unauthorised", "echo_key", "server_error", "no_protocol", "bad_request", "good"])
def test_the_key_appears_nowhere(
    connect: Connect, memory: Memory, tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: Mode
) -> None:
    caplog.set_level(logging.DEBUG)
    server, client = connect(mode, retries=1)
    told = ""
    try:
        told = ask(client)
    except ReasonerError as error:
        told = "".join(traceback.format_exception(error))
        assert error.__cause__ is None and error.__context__ is None
    assert server.chats[0].keys == [KEY]
    assert KEY not in told and ("(redacted)" in told) == (mode in ("unauthorised", "echo_key"))
    assert memory.calls() and KEY not in repr(memory.calls()) and KEY not in caplog.text
    assert KEY not in repr(client.__dict__)
    gc.collect()
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()


class Answered(TypedDict):
    raw: str


@pytest.mark.parametrize("mode", ["good", "truncated", "refusal", "cut", "no_usage", "empty"])
def test_streaming_a_graph_shows_the_tokens_and_loses_no_usage(connect: Connect, memory: Memory, mode: Mode) -> None:
    server, client = connect(mode, retries=1, cache=False)

    def node(state: Answered) -> Answered:
        try:
            return {"raw": ask(client)}
        except ReasonerError as error:
            return {"raw": error.what}

    graph = StateGraph(Answered)
    graph.add_node("reason", node)
    graph.add_edge(START, "reason")
    graph.add_edge("reason", END)
    pieces: list[Any] = list(graph.compile().stream({"raw": ""}, stream_mode=["messages", "values"]))
    tokens = [str(piece[0].text) for kind, piece in pieces if kind == "messages"]
    raw = pieces[-1][1]["raw"]
    assert server.chats[0].body["stream"] is True
    assert server.chats[0].body["stream_options"] == {"include_usage": True}
    call = memory.calls()[0]
    if mode == "good":
        assert len(tokens) > 2 and "".join(tokens) == raw == call.raw
        metadata = next(piece[1] for kind, piece in pieces if kind == "messages")
        assert metadata["rolegen_decision"] == "d1" and metadata["rolegen_prompt"] == f"reason/{PROMPT.version}"
    if mode in ("good", "no_usage"):
        assert json.loads(raw) and client.usage.estimated == (mode == "no_usage")
    if mode == "cut":
        assert len(server.chats) == 2 and client.usage.failed == 1 and "attempts: 2" in raw
    if mode == "refusal":
        assert "it refused" in raw
    if mode == "truncated":
        assert raw == call.raw and raw and client.usage.answered == 1


def test_without_a_schema_aware_endpoint_the_prompt_alone_suffices(connect: Connect) -> None:
    server, client = connect(structured_output="off")
    assert len(read(client).labels) == 6
    assert "response_format" not in server.chats[0].body


def test_hosted_model_names_stay_on_chat_completions(connect: Connect, memory: Memory) -> None:
    names = [
        "gpt-5",
        "gpt-5-pro",
        "openai/gpt-5-codex",
        "openai/gpt-oss-120b",
        "o1-pro",
        "o3-mini",
        "openai/o3-deep-research",
        "codex-mini-latest",
        "computer-use-preview",
        "anthropic/claude-sonnet-4",
        "models/gemini-2.5-flash",
        "azure/gpt-4.1",
        "llama3.2:3b",
    ]
    server, _ = connect(server={"models": names})
    for name in names:
        client = LlmClient(chat_model(name, base_url=server.url, api_key=KEY), name=name, log=memory)
        assert len(read(client).labels) == 6
    assert [asked.body["model"] for asked in server.chats] == names
    assert {asked.path for asked in server.asked} == {"/v1/chat/completions"}
    assert all(asked.body["response_format"]["type"] == "json_schema" for asked in server.chats)


def test_twenty_customers_with_every_question(connect: Connect, memory: Memory) -> None:
    server, client = connect("good", "malformed", "good", "rate_limited", "good")
    reasoner = LlmReasoner(client, model=client.name)
    for number in range(20):
        where = site(f"customer-{number}")
        seen = make_observation(
            [make_event(number * 10 + i, 50 - i, category=f"c{i % 3}", quantity=number + 1) for i in range(8)]
        )
        reading = reasoner.reason(seen, (), site=where)
        paths = reasoner.simulate(seen, reading, (), site=where)
        reflection = reasoner.reflect(seen, reading, paths, (), (), (), site=where)
        assert reading.labels and len(paths) == 4 and reflection.corrections
    usage = client.usage
    assert usage.requests == len(server.chats) and usage.failed == 0
    assert usage.answered == len(server.chats) - 1
    # Customers of whom the prompt says the same share an answer: reflections, which see no history, above all.
    assert usage.answered + usage.cached == len(memory.calls())
    assert sum(call.input_tokens for call in memory.calls() if not call.cached) == usage.input_tokens
    assert AT.isoformat()[:10] in server.chats[-2].prompt
