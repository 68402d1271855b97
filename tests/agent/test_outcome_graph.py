"""A graph that waits for the outcome: it asks again for what is none, and a restart in between loses nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from rolegen_agent.feedback.recording import record_rows, row_of
from rolegen_agent.memory import Memory, open_memory
from rolegen_agent.memory.checkpoints import open_checkpointer
from rolegen_errors import InputError
from rolegen_graphs import create_decision_graph, create_outcome_graph
from rolegen_graphs.reports import OutcomeReport
from rolegen_graphs.words import Decision, Outcome
from tests.support.ports import AT, parts, steering

DAY = timedelta(days=1)
THREAD: RunnableConfig = {"configurable": {"thread_id": "ann"}}


def run(folder: Path, given: Any) -> tuple[dict[str, Any], Memory]:
    """One start of the program: everything is opened anew, as after a restart."""
    with open_memory(folder / "memory.db") as memory, open_checkpointer(folder / "checkpoints.db") as saver:

        def sink(report: OutcomeReport) -> Outcome:
            record_rows(memory, [row_of(1, report, "graph")], "graph", now=AT + 9 * DAY).raise_for_dead()
            found = memory.find_outcome(report.decision or "")
            assert found is not None
            return found

        decide = create_decision_graph(parts(memory=memory), settings=steering())
        graph = create_outcome_graph(decide, sink=sink).compile(checkpointer=saver)
        found = graph.invoke(given, THREAD, durability="sync")
        return found, memory


def asked(found: dict[str, Any]) -> dict[str, Any]:
    [interrupt] = found["__interrupt__"]
    value: dict[str, Any] = interrupt.value
    return value


def test_it_waits_over_restarts_until_the_outcome_is_final(tmp_path: Path) -> None:
    found, _ = run(tmp_path, {"user": "ann", "at": AT})
    question = asked(found)
    assert question["user"] == "ann" and question["items"][0] == "bulb" and "error" not in question
    for wrong, why in (
        ("she bought it", "with str, not with a report"),
        ({"ordered_at": "yesterday"}, "ordered_at"),
        ({"ordered_at": (AT - DAY).isoformat()}, "outside the horizon"),
        ({"decision": "another"}, "waits for"),
    ):
        found, _ = run(tmp_path, Command(resume=wrong))
        assert why in asked(found)["error"]
    found, _ = run(tmp_path, Command(resume={"known_at": (AT + 5 * DAY).isoformat()}))
    assert "error" not in asked(found), "not ordered yet: it waits on"
    answer = {"ordered_at": (AT + 7 * DAY).isoformat(), "items": ["bulb"], "value": 3.0}
    found, _ = run(tmp_path, Command(resume=answer))
    decision, outcome = found["decision"], found["outcome"]
    assert isinstance(decision, Decision) and isinstance(outcome, Outcome)
    assert outcome.decision == decision.decision == question["decision"]
    assert (outcome.ordered_at, outcome.items, outcome.value) == (AT + 7 * DAY, ("bulb",), 3.0)
    with open_memory(tmp_path / "memory.db") as memory:
        assert memory.find_outcome(decision.decision) == outcome
        [letter] = memory.dead_letters()  # what was a report, and could not be this decision's
        assert "outside the horizon" in letter.reason


def test_a_sink_that_breaks_is_no_bad_report_and_the_answer_is_not_lost(tmp_path: Path) -> None:
    broken = [True]

    def sink(report: OutcomeReport) -> Outcome:
        if broken:
            raise OSError("the disk is gone")
        return Outcome(decision=report.decision or "", user=report.user, ordered_at=report.ordered_at)

    with open_checkpointer(tmp_path / "checkpoints.db") as saver:
        graph = create_outcome_graph(create_decision_graph(parts(), settings=steering()), sink=sink)
        compiled = graph.compile(checkpointer=saver)
        compiled.invoke({"user": "ann", "at": AT}, THREAD)
        with pytest.raises(OSError, match="disk"):
            compiled.invoke(Command(resume={"ordered_at": (AT + DAY).isoformat()}), THREAD)
        broken.clear()
        assert compiled.invoke(None, THREAD)["outcome"].ordered_at == AT + DAY


def test_an_unknown_user_ends_it_before_anything_waits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nobody"):
        run(tmp_path, {"user": "nobody", "at": AT})
