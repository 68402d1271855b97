"""Preference data: real answers, chosen by what came of them, in the shape that TRL reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rolegen_agent.memory import Memory
from rolegen_agent.preferences import PreferenceReport, export_preferences
from rolegen_errors import InputError
from rolegen_graphs.words import Answer, CallSite, Correction, Decision, Intent, Outcome, Reading, Reflection
from tests.support.decisions import AT, make_call, make_decision
from tests.support.observations import make_observation

pytest_plugins = ["tests.support.postgres"]
DAY = timedelta(days=1)
LLM = "llm:m"


def prompt(text: str) -> str:
    return json.dumps([{"role": "system", "content": "Reason."}, {"role": "user", "content": text}])


def decided(
    memory: Memory,
    user: str,
    *,
    run: str = "r",
    effects: tuple[float, ...] = (0.01,),
    corrected: bool = False,
    by: str = LLM,
) -> Decision:
    """A decision with one round for each effect, answered by ``by``; ``corrected``: reflection found fault with the first."""
    base = make_decision(user, run=run, rounds=len(effects))
    rounds = []
    for one, change in zip(base.rounds, effects, strict=True):
        fault = (Correction(kind="wrong_price", detail="cheaper", path=0),) if corrected and one.number == 1 else ()
        rounds.append(
            one.model_copy(
                update={
                    "effects": tuple(effect.model_copy(update={"change": change}) for effect in one.effects),
                    "reflection": Reflection(corrections=fault),
                    "answers": (Answer(node="reason", reasoner=by), Answer(node="simulate", reasoner=by)),
                }
            )
        )
    decision = base.model_copy(update={"rounds": tuple(rounds), "reasoner": by})
    memory.record(decision)
    return decision


def said(memory: Memory, decision: Decision, node: str, text: str, raw: str, *, round: int = 1, task: str = "") -> None:
    site = CallSite.model_validate({"decision": decision.decision, "round": round, "node": node})
    memory.record_call(
        make_call(
            decision.decision,
            request_hash=f"{text} {task} {raw}",
            site=site,
            prompt=task or node,
            messages=prompt(text),
            raw=raw,
            at=AT + timedelta(seconds=round * 2 + bool(task)),
        )
    )


def ended(memory: Memory, decision: Decision, *, bought: bool, final: bool = True) -> None:
    items = (decision.slate.items[0].item,) if bought else ("something else",)
    memory.record_outcome(
        Outcome(decision=decision.decision, user=decision.user, ordered_at=AT + DAY, items=items, final=final)
    )


def export(
    memory: Memory, folder: Path, **more: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], PreferenceReport]:
    files = folder / "dpo.jsonl", folder / "sft.jsonl"
    report = export_preferences(memory, dpo=files[0], sft=files[1], **more)
    pairs, examples = ([json.loads(line) for line in file.read_text("utf-8").splitlines()] for file in files)
    return pairs, examples, report


def one_line(pair: dict[str, Any]) -> tuple[str, str, str, str]:
    assert [message["role"] for message in pair["prompt"]] == ["system", "user"]
    [chosen], [rejected] = pair["chosen"], pair["rejected"]
    assert chosen["role"] == rejected["role"] == "assistant"
    return pair["why"], pair["prompt"][-1]["content"], chosen["content"], rejected["content"]


def test_pairs_and_examples_come_from_what_came_of_the_answers(memory: Memory, tmp_path: Path) -> None:
    first = decided(memory, "bought", effects=(0.01, 0.05), corrected=True)
    said(memory, first, "reason", "q1", "broken {")
    said(memory, first, "reason", "q1 and its errors", '{"mended": 1}', task="repair")
    said(memory, first, "simulate", "q2", '{"worse": 1}')
    said(memory, first, "reason", "q3", '{"again": 1}', round=2)
    said(memory, first, "simulate", "q4", '{"better": 1}', round=2)
    ended(memory, first, bought=True)
    rival = decided(memory, "rival", run="other", effects=(0.9,))
    said(memory, rival, "simulate", "q4", '{"rival": 1}')
    ended(memory, rival, bought=False)

    pairs, examples, report = export(memory, tmp_path)
    assert sorted(map(one_line, pairs)) == [
        ("corrected", "q1", '{"again": 1}', '{"mended": 1}'),
        ("corrected", "q2", '{"better": 1}', '{"worse": 1}'),
        ("outcome", "q4", '{"better": 1}', '{"rival": 1}'),
        ("repaired", "q1", '{"mended": 1}', "broken {"),
    ]
    assert [(one["messages"][-2]["content"], one["messages"][-1]["content"], one["source"]) for one in examples] == [
        ("q3", '{"again": 1}', LLM),
        ("q4", '{"better": 1}', LLM),
    ]
    assert report.left_out == {"answer that reflection found fault with": 2, "decision that was not bought from": 1}
    assert (report.decisions, report.pairs.total(), report.examples.total()) == (2, 4, 2)


def test_effects_decide_where_outcomes_do_not(memory: Memory, tmp_path: Path) -> None:
    for user, change in (("a", 0.05), ("b", 0.01), ("c", 0.05)):
        one = decided(memory, user, effects=(change,))
        said(memory, one, "reason", "q", f"answer of {user}")
    pairs, examples, report = export(memory, tmp_path)
    assert sorted(map(one_line, pairs)) == [
        ("effect", "q", "answer of a", "answer of b"),
        ("effect", "q", "answer of c", "answer of b"),
    ]
    assert examples == [] and report.left_out == {
        "two answers that nothing tells apart": 1,
        "decision whose outcome is not known for good": 3,
    }


def test_what_an_llm_did_not_say_is_no_text_of_it(memory: Memory, tmp_path: Path) -> None:
    stood_in = decided(memory, "a", by="evidence")
    said(memory, stood_in, "reason", "q", "nonsense")
    ended(memory, stood_in, bought=True)
    ended(memory, decided(memory, "b", by="evidence"), bought=True)
    pairs, examples, report = export(memory, tmp_path)
    assert (pairs, examples) == ([], [])
    assert report.left_out == {
        "answer that was not used: the evidence reasoner stood in": 1,
        "decision without an LLM": 1,
    }


def test_only_what_was_known_at_a_date_chooses(memory: Memory, tmp_path: Path) -> None:
    one = decided(memory, "a")
    said(memory, one, "reason", "q", "yes")
    ended(memory, one, bought=True)
    assert export(memory, tmp_path, at=AT)[2].decisions == 0
    assert export(memory, tmp_path, at=AT + 89 * DAY)[1] == []
    assert len(export(memory, tmp_path, at=AT + 90 * DAY)[1]) == 1
    memory.erase("a")
    assert export(memory, tmp_path)[:2] == ([], [])


def test_the_evidence_reasoner_is_labelled_and_passes_the_checks_of_an_llm(memory: Memory, tmp_path: Path) -> None:
    def like_evidence(good: bool) -> Decision:
        seen, base = make_observation(), make_decision(run=f"{good}")
        trajectory = seen.trajectory.model_copy(
            update={"user": base.user, "at": base.at, "events": seen.trajectory.events}
        )
        events = tuple(event.model_copy(update={"at": base.at - 9 * DAY}) for event in trajectory.events)
        seen = seen.model_copy(update={"trajectory": trajectory.model_copy(update={"events": events})})
        label = base.rounds[0].reading.labels[0]
        kitchen = Intent(stage="browsing", category="Kitchen", need="cups")
        mine = label.model_copy(
            update={
                "event": 102 if good else 999,
                "evidence": (),
                "role": "target",
                "intent_before": kitchen,
                "intent_after": kitchen,
            }
        )
        last = base.rounds[-1].model_copy(update={"reading": Reading(labels=(mine,), intent=kitchen), "paths": ()})
        decision = base.model_copy(update={"observation": seen, "rounds": (last,), "reasoner": "evidence"})
        memory.record(decision)
        ended(memory, decision, bought=True)
        return decision

    like_evidence(True)
    like_evidence(False)
    _, examples, report = export(memory, tmp_path, evidence=True)
    [example] = examples
    assert example["source"] == "evidence" and [one["role"] for one in example["messages"]] == [
        "system",
        "user",
        "assistant",
    ]
    assert json.loads(example["messages"][-1]["content"])["labels"][0]["event"] == 2
    assert "REGENCY CAKESTAND" in example["messages"][1]["content"]
    assert report.left_out["answer of the evidence reasoner that an LLM may not give"] == 3


def test_nothing_to_write_and_nowhere_to_write_are_errors(memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to write"):
        export_preferences(memory)
    with pytest.raises(InputError, match="cannot be written"):
        export_preferences(memory, dpo=tmp_path / "no" / "dpo.jsonl")


def test_datasets_loads_both_files_and_trl_would_know_their_types(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    one = decided(memory, "a", effects=(0.01, 0.05), corrected=True)
    hostile = "a \ud800 lone surrogate,  and \u2028 lines"
    for number in (1, 2):
        said(memory, one, "reason", f"{hostile} {number}", f"answer {number}", round=number)
    ended(memory, one, bought=True)
    export(memory, tmp_path)
    load: Callable[[str], Any] = lambda name: load_dataset(  # noqa: E731
        "json", data_files=str(tmp_path / name), split="train", cache_dir=str(tmp_path / "cache")
    )
    pairs, examples = load("dpo.jsonl"), load("sft.jsonl")
    assert {"prompt", "chosen", "rejected"} <= set(pairs.column_names) and "messages" in examples.column_names
    conversation = {"role", "content"}
    for data, columns in ((pairs, ("prompt", "chosen", "rejected")), (examples, ("messages",))):
        for column in columns:
            assert all(set(message) == conversation for message in data[0][column])
    assert pairs[0]["rejected"] == [{"role": "assistant", "content": "answer 1"}]
    assert examples[0]["messages"][-1] == {"role": "assistant", "content": "answer 2"}
