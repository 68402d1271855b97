"""Whatever an endpoint does, over real HTTP and through the whole loop: the customer is served, and the trace says by whom
and why. Answers that are no valid ones are in ``tests/hostile``; retries and budgets in ``test_llm_client``."""

from __future__ import annotations

import pytest

from rolegen_agent.facade import RoleGen
from rolegen_errors import ProjectError
from tests.support.scripted_llm import Mode, ScriptedLlm
from tests.support.shop import AT, users_at

ENDINGS: dict[Mode, tuple[str, int]] = {
    "truncated": ("not even after being shown its errors", 2),
    "wrong_schema": ("labels: Field required", 2),
    "prose": ("not valid JSON", 2),
    "cut": ("gave no answer (attempts: 1)", 1),
    "slow": ("gave no answer (attempts: 1)", 1),
    "bad_request": ("gave no answer (attempts: 1)", 1),
    "no_choices": ("does not follow OpenAI's chat completions", 1),
    "unauthorised": ("gave no answer (attempts: 1)", 1),
}
"""what the trace says of the first question, and how many requests it took"""


def test_the_evidence_reasoner_answers_and_the_trace_says_why(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    for mode, (told, requests) in ENDINGS.items():
        # A model of its own name is a run of its own, so that no answer comes from memory.
        with ScriptedLlm(mode, models=(mode,), delay_s=2.0) as server:
            llm = {"model": mode, "base_url": server.url, "api_key": "none-needed", "retries": 0, "timeout_s": 0.5}
            if mode != "slow":
                llm["timeout_s"] = 30
            overrides = {"reasoner": {"kind": "llm", "rounds": 1}, "llm": llm}
            with RoleGen.open(shop.project.root, overrides=overrides) as asking:
                decision = asking.decide(user, AT)
            asked = [one for one in server.chats if '{"labels"' in one.prompt and '{"paths"' not in one.prompt]
        first = decision.rounds[0].answers[0]
        assert (first.node, first.reasoner) == ("reason", "evidence"), mode
        assert told in first.why and f"llm:{mode}" in first.why, (mode, first.why)
        assert len([one for one in asked if not one.repairing]) == 1 and len(asked) == requests, mode
        assert decision.reasoner == "evidence" and len(decision.slate.items) == 10, mode
        assert shop.trace(user, run=decision.run) == decision, mode


def test_a_repaired_answer_is_the_models_own(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    with ScriptedLlm("bad_then_good") as server:
        overrides = {
            "reasoner": {"kind": "llm", "rounds": 1},
            "llm": {"model": "scripted", "base_url": server.url, "api_key": "none-needed"},
        }
        with RoleGen.open(shop.project.root, overrides=overrides) as asking:
            decision = asking.decide(user, AT)
            calls = asking.memory.calls(decision=decision.decision)
    assert decision.reasoner == "llm:scripted" and not any(answer.why for answer in decision.rounds[0].answers)
    turns = [one.repairing for one in server.chats]
    assert turns == [False, True] * (len(turns) // 2) and len(turns) >= 4
    for first, second in zip(server.chats[::2], server.chats[1::2], strict=True):
        answer, problems = second.body["messages"][-2:]
        assert second.body["messages"][:-2] == first.body["messages"], "the question stands as it was"
        assert answer["role"] == "assistant" and answer["content"] in {call.raw.strip() for call in calls}
        assert "not valid JSON" in problems["content"]


@pytest.mark.parametrize("tokens", [199, 60_001, "many"])
def test_the_budget_of_a_history_is_a_setting_with_bounds(shop: RoleGen, tokens: object) -> None:
    with pytest.raises(ProjectError, match="trajectory_tokens"):
        RoleGen.open(shop.project.root, overrides={"reasoner": {"trajectory_tokens": tokens}})


def test_the_budget_of_a_history_is_kept(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    sizes = []
    for tokens in (200, 3000):
        with ScriptedLlm() as server:
            overrides = {
                "reasoner": {"kind": "llm", "rounds": 1, "trajectory_tokens": tokens},
                "llm": {"model": "scripted", "base_url": server.url, "api_key": "none-needed"},
            }
            with RoleGen.open(shop.project.root, overrides=overrides) as asking:
                asking.decide(user, AT)
            history = server.chats[0].prompt.split("<<<trajectory\n")[1].split("\ntrajectory>>>")[0]
            sizes.append(len(history.encode()) / 3)
    assert sizes[0] <= 200 < sizes[1] <= 3000
