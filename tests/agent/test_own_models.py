"""A chat model, embeddings and a memory of one's own: the examples keep the rules, and the product works with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from sqlalchemy import create_engine
from werkzeug import Request, Response

from rolegen_agent.facade import RoleGen
from rolegen_agent.memory import Memory, open_memory
from rolegen_errors import ProjectError
from rolegen_graphs.conformance import (
    ConformanceError,
    check_call_log,
    check_chat_model,
    check_embeddings,
    check_memory,
)
from rolegen_graphs.words import Decision
from tests.support.examples import example
from tests.support.scripted_llm import answer
from tests.support.shop import AT, users_at

pytest_plugins = ["tests.support.postgres"]


@pytest.fixture
def house(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a model service with a protocol of its own."""

    def respond(request: Request) -> Response:
        given = request.get_json()["lines"]
        roles = {"human": "user", "ai": "assistant"}
        body: dict[str, Any] = {"messages": [{"role": roles.get(role, role), "content": text} for role, text in given]}
        known = "Which colour" not in str(given)
        said = json.dumps(answer(body)) if known else "blue"
        return Response(json.dumps({"text": said, "read": 10, "written": 5}), mimetype="application/json")

    httpserver.expect_request("/say").respond_with_handler(respond)
    address = httpserver.url_for("/say")
    monkeypatch.setenv("HOUSE_LLM", address)
    yield address


def test_the_examples_chat_model_keeps_the_rules_and_reasons_by_its_name_in_the_project(
    root: Path, shop: RoleGen, house: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_chat_model(example(root, "own_models").HouseChat(address=house))
    monkeypatch.syspath_prepend(root / "examples")
    [user] = users_at(shop.project.root, 1)
    overrides = {
        "parts": {"chat": "own_models:chat"},
        "reasoner": {"kind": "llm", "rounds": 1},
        "llm": {"model": "house"},
    }
    with RoleGen.open(shop.project.root, overrides=overrides) as mine:
        decision = mine.decide(user, AT)
        calls = mine.memory.calls(decision=decision.decision)
    assert decision.reasoner == "llm:house", decision.rounds[-1].answers
    assert calls and {(call.model, call.input_tokens) for call in calls} == {("house", 10)}
    for wrong in ("own_models:Words", "own_models:nothing"):
        with (
            RoleGen.open(shop.project.root, overrides={**overrides, "parts": {"chat": wrong}}) as mine,
            pytest.raises(ProjectError, match="chat model"),
        ):
            mine.decide(user, AT)


def test_a_chat_model_that_says_nothing_is_found(root: Path, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/say").respond_with_json({"text": "", "read": -1, "written": 0})
    with pytest.raises(ConformanceError) as caught:
        check_chat_model(example(root, "own_models").HouseChat(address=httpserver.url_for("/say")))
    told = "\n".join(caught.value.broken)
    assert "an answer has text" in told and "tokens are counts" in told and "a streamed answer has text" in told


def test_the_examples_embeddings_keep_the_rules(root: Path) -> None:
    check_embeddings(example(root, "own_models").Words())


def test_embeddings_that_break_rules_are_found(root: Path) -> None:
    words = example(root, "own_models").Words

    class Moody(words):  # type: ignore[misc, valid-type]
        def embed_documents(self, texts: Any) -> list[list[float]]:
            return [[float(len(texts)), 1.0] for _ in texts]

    class Short(words):  # type: ignore[misc, valid-type]
        def embed_documents(self, texts: Any) -> list[list[float]]:
            return [
                vector[: 3 + len(text) % 2] for text, vector in zip(texts, super().embed_documents(texts), strict=True)
            ]

    class Refusing(words):  # type: ignore[misc, valid-type]
        def embed_documents(self, texts: Any) -> list[list[float]]:
            if not all(texts):
                raise ValueError("no empty texts")
            return super().embed_documents(texts)  # type: ignore[no-any-return]

    for wrong, rule in ((Moody, "alone and in a batch"), (Short, "one length"), (Refusing, "no empty texts")):
        with pytest.raises(ConformanceError, match=rule):
            check_embeddings(wrong())


def test_the_memory_keeps_the_rules(shop: RoleGen, memory_url: str) -> None:
    decisions = [shop.decide(user, AT) for user in users_at(shop.project.root, 2)]
    with open_memory(memory_url) as memory:
        check_memory(memory, decisions=decisions)
        check_call_log(memory)


def test_the_examples_memory_keeps_the_rules_and_fills_the_shops_table(
    root: Path, shop: RoleGen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, users = example(root, "own_memory"), users_at(shop.project.root, 2)
    decisions = [shop.decide(user, AT) for user in users]
    engine = create_engine(f"sqlite:///{tmp_path / 'mails.sqlite'}")
    with open_memory(tmp_path / "empty.sqlite") as kept:
        check_memory(own.Mailing(kept, engine), decisions=decisions)
        assert kept.get(decisions[0].decision) == decisions[0]
    with engine.connect() as connection:
        rows = connection.execute(own.SLATES.select()).all()
    assert len(rows) == sum(len(one.slate.items) for one in decisions), "recorded often, there once"
    own.main(str(shop.project.root), AT, f"sqlite:///{tmp_path / 'new.sqlite'}", users[0])
    assert capsys.readouterr().out == "10 places\n"


def test_a_memory_that_forgets_or_trips_over_a_second_time_is_found(shop: RoleGen, tmp_path: Path) -> None:
    [decision] = [shop.decide(user, AT) for user in users_at(shop.project.root, 1)]

    class Strict:
        def __init__(self) -> None:
            self.known: set[str] = set()

        def record(self, decision: Decision) -> None:
            if decision.decision in self.known:
                raise ValueError("duplicate key")
            self.known.add(decision.decision)

    class Forgetful(Memory):
        def get(self, decision: str) -> Decision:
            return super().get(decision).model_copy(update={"user": "somebody"})

    with pytest.raises(ConformanceError, match="duplicate key"):
        check_memory(Strict(), decisions=[decision])
    with (
        Forgetful(tmp_path / "empty.sqlite") as memory,
        pytest.raises(ConformanceError, match="gives back what was recorded"),
    ):
        check_memory(memory, decisions=[decision])


def test_a_call_log_that_takes_a_failure_for_an_answer_is_found() -> None:
    class Careless:
        def __init__(self) -> None:
            self.calls: dict[str, Any] = {}

        def record_call(self, call: Any) -> None:
            self.calls[call.request_hash] = call

        def find_call(self, request_hash: str) -> Any:
            return self.calls.get(request_hash)

    with pytest.raises(ConformanceError, match="a failed call is no answer"):
        check_call_log(Careless())
