"""An LLM as judge: it checks a decision's reasoning against a rubric, and is itself checked against labelled examples.

The rubric is a prompt of the pack (``judge``), versioned and hashed like the others. The examples (``labelled.jsonl``) are six
histories written by hand, each with sound reasoning and with one fault planted at a time, so that their labels are known by
construction. They tell whether a judge sees plain faults, not whether its taste is good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

from inspect_ai.model import Model
from pydantic import BaseModel, ConfigDict

from rolegen_agent.settings import LlmSettings
from rolegen_graphs.llm.answers import Answer, Reason, parse_answer
from rolegen_graphs.llm.sections import paths_text, reading_text
from rolegen_graphs.llm.trajectory import render_trajectory
from rolegen_graphs.words import CallSite, Decision
from rolegen_prompts import Prompt

from .answers import Recorded
from .asking import InspectAsker

CRITERIA = ("roles_fit", "intent_fits", "paths_follow", "paths_differ")
LABELLED = Path(__file__).with_name("labelled.jsonl")
_TRAJECTORY_TOKENS = 3000


class JudgeAnswer(Answer):
    """What a judge answers."""

    why: Reason
    roles_fit: bool
    intent_fits: bool
    paths_follow: bool
    paths_differ: bool


class Exhibit(BaseModel):
    """What a judge is shown, as text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trajectory: str
    reading: str
    paths: str


class Labelled(BaseModel):
    """An example whose faults are known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    exhibit: Exhibit
    labels: dict[str, bool]
    """by criterion"""


@dataclass(frozen=True)
class Agreement:
    """How far a judge agrees with the labels."""

    model: str
    prompt: str
    """version and hash of the rubric"""
    examples: int
    exact: Mapping[str, float]
    """by criterion, and ``all``: share of equal verdicts"""
    kappa: Mapping[str, float | None]
    """by criterion, and ``all``: Cohen's kappa (1960), 1 for full agreement, 0 for that of chance; None where it is not defined"""
    invalid: int
    """examples without a valid answer; they count as disagreement on every criterion"""

    def as_dict(self) -> dict[str, object]:
        """Plain values, for programs."""
        return asdict(self)


@dataclass(frozen=True)
class Judge:
    """A model with a rubric; used in a worker thread of anyio."""

    model: Model
    llm: LlmSettings
    prompt: Prompt
    cache: bool = True

    @property
    def rubric(self) -> str:
        """Version and hash of the prompt."""
        return f"{self.prompt.version} {self.prompt.sha256[:8]}"

    def ask(
        self, shown: Exhibit, replay: Mapping[str, Recorded] | None = None, turn: Lock | None = None
    ) -> tuple[dict[str, bool], Recorded]:
        """The verdict by criterion, and the answer that it stands in; ``replay`` and ``turn`` as for :class:`InspectAsker`.

        Raises:
            ReasonerError: the answer is not valid, or there was none.
        """
        asker = InspectAsker(
            self.model, llm=self.llm, name=self.llm.model or "", cache=self.cache, price=None, replay=replay, turn=turn
        )
        messages = self.prompt.render(trajectory=shown.trajectory, reading=shown.reading, paths=shown.paths)
        schema = self.prompt.output if isinstance(self.prompt.output, Mapping) else {}
        site = CallSite(decision="judge", round=1, node="reflect")
        raw = asker.ask("judge", messages, dict(schema), site=site, prompt=self.prompt)
        said, asked = parse_answer(raw, JudgeAnswer), asker.asked[-1]
        told = Recorded(
            request=asked.request, raw=raw, input_tokens=asked.input_tokens, output_tokens=asked.output_tokens
        )
        return {name: bool(getattr(said, name)) for name in CRITERIA}, told


def exhibit(decision: Decision) -> Exhibit:
    """What a judge is shown of a decision: the history, the last round's reading and its paths."""
    trajectory, last = decision.observation.trajectory, decision.rounds[-1]
    return Exhibit(
        trajectory=render_trajectory(trajectory, tokens=_TRAJECTORY_TOKENS).text,
        reading=reading_text(last.reading, trajectory),
        paths=paths_text(last.paths, last.candidates, last.effects, trajectory),
    )


def read_labelled(file: Path = LABELLED) -> list[Labelled]:
    """The labelled examples that come along, or those of another file of that form."""
    return [Labelled.model_validate_json(line) for line in file.read_text("utf-8").splitlines()]


def agreement(
    examples: Sequence[Labelled], verdicts: Mapping[str, Mapping[str, bool]], *, model: str, prompt: str
) -> Agreement:
    """Hold verdicts (by example) against the labels."""
    from sklearn.metrics import cohen_kappa_score

    exact: dict[str, float] = {}
    kappa: dict[str, float | None] = {}
    pairs = {
        name: [
            (one.labels[name], verdicts[one.id][name] if one.id in verdicts else not one.labels[name])
            for one in examples
        ]
        for name in CRITERIA
    }
    for name, found in {**pairs, "all": [pair for some in pairs.values() for pair in some]}.items():
        label, said = zip(*found, strict=True)
        exact[name] = sum(a == b for a, b in found) / len(found)
        kappa[name] = float(cohen_kappa_score(label, said)) if len({*label, *said}) > 1 else None
    return Agreement(model, prompt, len(examples), exact, kappa, sum(one.id not in verdicts for one in examples))
