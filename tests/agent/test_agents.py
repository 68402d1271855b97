"""RoleGen among the agents of others: under a supervisor, in a swarm, as a ReAct agent's tools, in a chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from pytest_httpserver import HTTPServer

from rolegen_agent.agent import AgentContext
from rolegen_agent.facade import RoleGen
from rolegen_errors import InputError
from tests.support.chat import call, chat_model, say
from tests.support.examples import example
from tests.support.shop import AT, users_at


def best_of(messages: list[dict[str, Any]]) -> str:
    """The first title of the last slate in a conversation, as a model reads it there."""
    for message in reversed(messages):
        content = message.get("content") or ""
        if isinstance(content, str) and '"slate"' in content:
            return str(json.loads(content)["slate"][0]["title"])
    raise AssertionError("no slate in the conversation")


def hand_over(user: str) -> Any:
    """A model that hands over nobody, then the user, and then tells what it read."""

    def script(messages: list[dict[str, Any]]) -> dict[str, Any]:
        tried = [m for m in messages if m["role"] == "tool"]
        if not tried:
            return call("transfer_to_rolegen", user="nobody")
        if len(tried) == 1:
            return call("transfer_to_rolegen", user=user)
        return say(f"Offer {best_of(messages)}.")

    return script


def told(messages: list[AnyMessage]) -> list[str]:
    return [message.name or message.type for message in messages]


def test_a_supervisor_hands_a_user_over_and_answers_from_the_slate(
    root: Path, shop: RoleGen, httpserver: HTTPServer
) -> None:
    [user] = users_at(shop.project.root, 1)
    asked: list[dict[str, Any]] = []
    desk = example(root, "supervisor").desk(chat_model(httpserver, hand_over(user), asked), shop, AT)
    done = desk.invoke({"messages": [("user", f"Win customer {user} back.")]})
    trace = shop.trace(user)
    assert done["decision"] == trace and done["user"] == user
    assert done["messages"][-1].text == f"Offer {trace.slate.items[0].title}."
    [refused] = [m for m in done["messages"] if m.type == "tool" and m.status == "error"]
    assert "'nobody'" in refused.text
    assert "rolegen" in told(done["messages"])
    ids = [message.id for message in done["messages"]]
    assert len(set(ids)) == len(ids), "a message of the conversation is doubled"


def test_a_swarm_hands_over_and_gets_the_word_back(root: Path, shop: RoleGen, httpserver: HTTPServer) -> None:
    [user] = users_at(shop.project.root, 1)
    asked: list[dict[str, Any]] = []
    swarm = example(root, "swarm").swarm(chat_model(httpserver, hand_over(user), asked), shop, AT)
    done = swarm.invoke({"messages": [("user", f"Win customer {user} back.")]})
    trace = shop.trace(user)
    assert done["decision"] == trace
    assert done["messages"][-1].text == f"Offer {trace.slate.items[0].title}." and done["active_agent"] == "clerk"
    texts = [(message.type, message.text) for message in done["messages"] if message.text]
    assert len(set(texts)) == len(texts), "a message of the conversation is doubled"


def test_a_react_agent_decides_and_notes_what_came_of_it(root: Path, shop: RoleGen, httpserver: HTTPServer) -> None:
    [user] = users_at(shop.project.root, 1)

    def script(messages: list[dict[str, Any]]) -> dict[str, Any]:
        results = [m for m in messages if m["role"] == "tool"]
        if not results:
            return call("awaken_user", user=user)
        if len(results) == 1:
            slate = json.loads(results[0]["content"])
            return call(
                "record_feedback",
                user=user,
                decision=slate["decision"],
                ordered_at="2011-09-05T10:00:00+00:00",
                items=[slate["slate"][0]["item"]],
                value=12.5,
            )
        return say("Noted.")

    agent = example(root, "react_agent").agent(chat_model(httpserver, script, []), shop, AT)
    done = agent.invoke({"messages": [("user", f"Win customer {user} back.")]})
    decision = shop.trace(user)
    outcome = shop.memory.find_outcome(decision.decision)
    assert done["messages"][-1].text == "Noted."
    assert outcome is not None and outcome.value == 12.5 and outcome.items == (decision.slate.items[0].item,)


def test_a_chain_writes_to_many_users(root: Path, shop: RoleGen, httpserver: HTTPServer) -> None:
    users = users_at(shop.project.root, 2)

    def script(messages: list[dict[str, Any]]) -> dict[str, Any]:
        # The slate reached the model as the text of the prompt.
        return say(next(user for user in users if f"'user': '{user}'" in messages[-1]["content"]))

    letters = example(root, "chain").letters(chat_model(httpserver, script, []), shop, AT)
    assert letters.batch(list(users), {"max_concurrency": 2}) == list(users)
    assert {shop.trace(user).user for user in users} == set(users)


class Campaign(MessagesState, total=False):
    """A parent with a word of its own."""

    user: str
    budget: float


def parent(shop: RoleGen, **agent: Any) -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Campaign, context_schema=AgentContext)
    graph.add_node("rolegen", shop.as_agent(**agent))
    graph.add_edge(START, "rolegen")
    graph.add_edge("rolegen", END)
    return graph


def test_the_date_comes_from_the_context_of_the_parent(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    done = parent(shop).compile().invoke({"user": user, "budget": 2.5, "messages": []}, context={"at": AT})
    assert done["budget"] == 2.5 and shop.trace(user).at.isoformat().startswith(AT)
    [answer] = done["messages"]
    assert isinstance(answer, AIMessage) and json.loads(answer.text)["decision"] == shop.trace(user).decision


async def test_steps_of_the_agent_stream_through_the_parent(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    seen = [
        node
        async for inside, step in parent(shop, at=AT)
        .compile()
        .astream({"user": user, "messages": []}, stream_mode="updates", subgraphs=True)
        for node in step
        if len(inside) == 2  # the decision inside of the agent inside of the parent
    ]
    assert seen[:4] == ["observe", "reason", "simulate", "ground"] and seen[-1] == "reflect"


def test_an_interrupt_bubbles_through_and_resumes_from_the_parents_checkpoint(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    thread: Any = {"configurable": {"thread_id": "one"}}
    saver = InMemorySaver()
    first = parent(shop, at=AT, waits=True).compile(checkpointer=saver).invoke({"user": user, "messages": []}, thread)
    [waiting] = first["__interrupt__"]
    assert waiting.value["awaiting"] == "outcome" and waiting.value["user"] == user

    again = parent(shop, at=AT, waits=True).compile(checkpointer=saver)
    report = {"ordered_at": "2011-09-05T10:00:00+00:00", "items": waiting.value["items"][:1], "value": 3.0}
    done = again.invoke(Command(resume=report), thread)
    outcome = shop.memory.find_outcome(waiting.value["decision"])
    assert outcome is not None and outcome.value == 3.0 and "__interrupt__" not in done
    assert json.loads(done["messages"][-1].text)["decision"] == waiting.value["decision"]


def test_an_agent_without_a_user_says_what_is_missing(shop: RoleGen) -> None:
    with pytest.raises(InputError, match="without a user"):
        shop.as_agent(AT).invoke({"messages": []})
