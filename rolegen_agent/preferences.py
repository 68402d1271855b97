"""Reasonings as training data: which of two answers to one question is better, and which answers are worth imitating.

The lines are what `TRL <https://huggingface.co/docs/trl/dataset_formats>`_ calls conversational: ``prompt``, ``chosen`` and
``rejected`` as lists of messages for ``DPOTrainer``, ``messages`` for ``SFTTrainer``. ``why`` and ``source`` say where a
line comes from; trainers leave such columns out.

Pairs, all of texts that a model really wrote:

- *repaired*: the first answer broke schema or facts, and the one after being shown its errors did not;
- *corrected*: reflection found fault with a round, and the next round's paths have better effects;
- *outcome*: two decisions asked the same question, and only one was bought from;
- *effect*: the same, where outcomes do not tell them apart, and one has better effects.

Imitated are valid answers of decisions that were bought from, but for rounds that reflection found fault with. With
``evidence`` also what the evidence reasoner would have answered to the LLM's questions in such decisions; these lines say
``source: evidence``, and each has passed the checks that an LLM's answer has to pass.

A prompt holds what the decision saw, so nothing at or after its time; outcomes only choose. Erased users are not in the
memory, and so not here.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from rolegen_errors import InputError, ReasonerError
from rolegen_graphs.llm import LlmReasoner
from rolegen_graphs.llm.trajectory import Numbers
from rolegen_graphs.words import CallSite, Decision, Intent, ItemSpec, LlmCall, Observation, Round
from rolegen_prompts import Message, Prompt

from .memory import Memory

Messages: TypeAlias = list[dict[str, str]]
_NODES = {"reason", "simulate", "ground", "reflect"}
_JUDGED = {"reason", "simulate"}
"""questions whose answers make the paths, so that effects and orders say something of them"""
REPAIR = "repair"
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass
class PreferenceReport:
    """What was written, and what was left out and why. An answer may be left out of one file and stand in the other."""

    decisions: int = 0
    pairs: Counter[str] = field(default_factory=Counter)
    """by why"""
    examples: Counter[str] = field(default_factory=Counter)
    """by source"""
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Exchange:
    """One question of one round, and the answer that was used."""

    round: int
    node: str
    prompt: str
    """messages as JSON"""
    answer: str
    refused: str
    """the first answer, where it had to be repaired; else empty"""
    source: str
    """``llm:<model>``"""


@dataclass(frozen=True)
class _Told:
    """An answer to a question that other decisions may have asked too."""

    answer: str
    bought: bool | None
    effect: float | None
    source: str


def export_preferences(
    memory: Memory,
    *,
    dpo: Path | None = None,
    sft: Path | None = None,
    at: datetime | None = None,
    evidence: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PreferenceReport:
    """Write pairs to ``dpo`` and examples to ``sft`` as JSON lines; a file appears when it is complete.

    Args:
        at: outcomes as they were known then, and no later decision; None takes all.
        evidence: also what the evidence reasoner would have answered.
    """
    if dpo is None and sft is None:
        raise InputError("there is nothing to write", fix="name a file for --dpo, for --sft, or for both")
    report = PreferenceReport()
    pairs: list[dict[str, Any]] = []
    examples: list[dict[str, Any]] = []
    asked: dict[str, list[_Told]] = defaultdict(list)
    endings = memory.endings(at)
    for number, ending in enumerate(endings):
        progress(number, len(endings))
        report.decisions += 1
        calls = memory.calls(decision=ending.decision)
        if not calls and not evidence:
            report.left_out["decision without an LLM"] += 1
            continue
        decision = memory.get(ending.decision)
        exchanges = list(_exchanges(decision, calls, report))
        pairs += [
            _pair(one.prompt, one.answer, one.refused, "repaired", one.source) for one in exchanges if one.refused
        ]
        pairs += _corrected(decision, exchanges, report)
        for one in exchanges:
            if one.node in _JUDGED:
                effect = _effect(decision.rounds[one.round - 1])
                asked[one.prompt].append(_Told(one.answer, ending.bought, effect, one.source))
        if ending.bought:
            faulty = _faulty(decision)
            for one in exchanges:
                if one.round in faulty and one.node in _JUDGED:
                    report.left_out["answer that reflection found fault with"] += 1
                    continue
                examples.append(_example(json.loads(one.prompt), one.answer, one.source))
            if evidence and ending.reasoner == "evidence":
                examples += _of_evidence(decision, report)
        elif ending.bought is None:
            report.left_out["decision whose outcome is not known for good"] += 1
        else:
            report.left_out["decision that was not bought from"] += 1
    for prompt, answers in asked.items():
        pairs += _rivals(prompt, answers, report)
    progress(len(endings), len(endings))
    report.pairs = Counter(one["why"] for one in pairs)
    report.examples = Counter(one["source"] for one in examples)
    for file, lines in ((dpo, pairs), (sft, examples)):
        if file is not None:
            _write(file, lines)
    return report


def _exchanges(decision: Decision, calls: Sequence[LlmCall], report: PreferenceReport) -> Iterator[_Exchange]:
    """The questions that an LLM answered validly. What came of the others is counted."""
    by_site: dict[tuple[int, str], list[LlmCall]] = defaultdict(list)
    for call in calls:
        if call.site.node in _NODES:
            by_site[(call.site.round, call.site.node)].append(call)
    rounds = {one.number: one for one in decision.rounds}
    for (number, node), some in sorted(by_site.items()):
        answered = [one for one in some if not one.error and one.raw.strip()]
        first = next((one for one in answered if one.prompt != REPAIR), None)
        repaired = next((one for one in answered if one.prompt == REPAIR), None)
        who: dict[str, str] = (
            {answer.node: answer.reasoner for answer in rounds[number].answers} if number in rounds else {}
        )
        source = who.get(node, "")
        if first is None or not source.startswith("llm:"):
            report.left_out["answer that was not used: the evidence reasoner stood in"] += 1
            continue
        refused = first.raw if repaired is not None and repaired.raw != first.raw else ""
        yield _Exchange(number, node, first.messages, (repaired or first).raw, refused, source)


def _faulty(decision: Decision) -> set[int]:
    """Rounds that reflection corrected."""
    return {one.number for one in decision.rounds if one.reflection.corrections}


def _effect(one: Round) -> float | None:
    """Mean effect of the used paths of a round; None where none was used."""
    used = {choice.path for choice in one.choices if choice.chosen}
    changes = [effect.change for effect in one.effects if effect.path in used]
    return sum(changes) / len(changes) if changes else None


def _corrected(
    decision: Decision, exchanges: Sequence[_Exchange], report: PreferenceReport
) -> Iterator[dict[str, Any]]:
    by_site = {(one.round, one.node): one for one in exchanges}
    rounds = {one.number: one for one in decision.rounds}
    for number in sorted(_faulty(decision)):
        if number + 1 not in rounds:
            continue
        before, after = _effect(rounds[number]), _effect(rounds[number + 1])
        for node in sorted(_JUDGED):
            worse, better = by_site.get((number, node)), by_site.get((number + 1, node))
            if worse is None or better is None or worse.answer == better.answer:
                continue
            if before is None or after is None or after <= before:
                report.left_out["corrected answer without a better effect"] += 1
                continue
            yield _pair(worse.prompt, better.answer, worse.answer, "corrected", better.source)


def _rivals(prompt: str, answers: Sequence[_Told], report: PreferenceReport) -> Iterator[dict[str, Any]]:
    """Of each two different answers to one question, the better one; each two texts once."""
    done: set[tuple[str, str]] = set()
    for place, one in enumerate(answers):
        for other in answers[place + 1 :]:
            texts = (min(one.answer, other.answer), max(one.answer, other.answer))
            if one.answer == other.answer or texts in done:
                continue
            done.add(texts)
            if one.bought is not None and other.bought is not None and one.bought != other.bought:
                better, worse, why = (one, other, "outcome") if one.bought else (other, one, "outcome")
            elif one.effect is not None and other.effect is not None and one.effect != other.effect:
                better, worse, why = (one, other, "effect") if one.effect > other.effect else (other, one, "effect")
            else:
                report.left_out["two answers that nothing tells apart"] += 1
                continue
            yield _pair(prompt, better.answer, worse.answer, why, better.source)


def _pair(prompt: str, chosen: str, rejected: str, why: str, source: str) -> dict[str, Any]:
    return {
        "prompt": json.loads(prompt),
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "why": why,
        "source": source,
    }


def _example(prompt: Messages, answer: str, source: str) -> dict[str, Any]:
    return {"messages": [*prompt, {"role": "assistant", "content": answer}], "why": "bought from", "source": source}


def _write(file: Path, lines: Iterable[dict[str, Any]]) -> None:
    """As a whole or not at all."""
    part = file.with_name(file.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as out:
            for line in lines:
                # Hostile titles may hold lone surrogates, which no reader takes, and separators that some take for new lines.
                text = _SURROGATES.sub("\ufffd", json.dumps(line, ensure_ascii=False))
                out.write(json.dumps(json.loads(text)) + "\n")
        part.replace(file)
    except OSError as error:
        raise InputError(f"the file cannot be written: {error}", where=str(file), fix="choose another place") from error


# -- the evidence reasoner's answers in the LLM's words ----------------------------------------------------------------


class _Dictated:
    """An ``Asker`` that answers with a given text and keeps the question."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self._answer = json.dumps(answer, ensure_ascii=False)
        self.prompt: Messages = []

    def ask(
        self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
    ) -> str:
        if self.prompt:
            raise ReasonerError("the answer does not pass the checks")
        self.prompt = [{"role": one.role, "content": one.content} for one in messages]
        return self._answer

    @property
    def answer(self) -> str:
        return self._answer


def _of_evidence(decision: Decision, report: PreferenceReport) -> Iterator[dict[str, Any]]:
    """What the evidence reasoner said in the last round, as answers to the LLM's questions; each passes the LLM's checks."""
    last, seen = decision.rounds[-1], decision.observation
    numbers = Numbers(seen.trajectory)

    def categories(_: Observation) -> list[str]:
        named = [spec.category for path in last.paths for spec in path.specs()]
        own = [event.category for event in reversed(seen.trajectory.events)]
        return list(dict.fromkeys(one for one in (*own, *named, last.reading.intent.category) if one))

    for node, answer in (("reason", _reason(last, numbers)), ("simulate", _simulate(last, numbers))):
        dictated = _Dictated(answer)
        number = max(1, min(12, len(last.paths)))
        reasoner = LlmReasoner(dictated, model="evidence", paths=number, max_labels=60, categories=categories)
        site = CallSite(
            decision=decision.decision, round=last.number, node="reason" if node == "reason" else "simulate"
        )
        try:
            if node == "reason":
                reasoner.reason(seen, (), site=site)
            else:
                reasoner.simulate(seen, last.reading, (), site=site)
        except ReasonerError:
            report.left_out["answer of the evidence reasoner that an LLM may not give"] += 1
            continue
        yield _example(dictated.prompt, dictated.answer, "evidence")


def _reason(last: Round, numbers: Numbers) -> dict[str, Any]:
    """Events by their numbers; 0, which no check lets pass, for one that the trajectory does not list."""
    labels = [
        {
            "event": numbers.of(label.event) or 0,
            "evidence": [numbers.of(event) or 0 for event in label.evidence],
            "intent_before": _intent(label.intent_before),
            "intent_after": _intent(label.intent_after),
            "why": label.why,
            "role": label.role,
            "confidence": round(label.confidence, 2),
        }
        for label in last.reading.labels
    ]
    return {"labels": labels, "intent": _intent(last.reading.intent)}


def _simulate(last: Round, numbers: Numbers) -> dict[str, Any]:
    return {
        "paths": [
            {
                "why": path.why,
                "operation": path.operation,
                "replaces": None if path.replaces is None else numbers.of(path.replaces) or 0,
                "intervention": _spec(path.intervention),
                "steps": [_spec(step) for step in path.steps],
            }
            for path in last.paths
        ]
    }


def _intent(intent: Intent) -> dict[str, Any]:
    return {"stage": intent.stage, "category": intent.category, "need": intent.need}


def _spec(spec: ItemSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json")
