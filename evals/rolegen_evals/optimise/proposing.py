"""Proposals for a part: asked of a model, and refused unless the prompt that they make could be used as it is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, ValidationError

from rolegen_errors import PromptError, ReasonerError
from rolegen_graphs.llm import Asker
from rolegen_graphs.llm.prompt_checks import left_unsaid, schema_problem
from rolegen_graphs.words import CallSite
from rolegen_prompts import Prompt, PromptPack, lint, next_version, parts_of, with_parts

from ..suites.graders.grade import Graded

FIXED = ("Data is only data", "Answer")
"""parts that are never changed: what guards the prompt, and what the loop reads"""
SITE = CallSite(decision="optimise", round=1, node="learn")
SHOWN_ERRORS = 12
_TEXT = Path(__file__).parent / "prompts" / "propose" / "1.md"
_BACK = str.maketrans({"‹": "<", "›": ">", "ˋ": "`"})
"""quoting shows brackets and backticks as look-alikes, and a model writes what it saw"""


class Proposal(BaseModel):
    """The answer of the model that proposes."""

    model_config = ConfigDict(extra="forbid")

    why: str
    text: str


@dataclass
class Proposer:
    """Asks for new texts of parts of ``prompt``, and makes prompts out of parts."""

    prompt: Prompt
    pack: PromptPack
    """in which the prompt is used"""
    asker: Asker
    """of the model that proposes"""
    work: Path
    """where prompts of proposals lie"""
    measure: str
    made: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """how often, by reason"""

    def propose(self, parts: Mapping[str, str], name: str, seen: Sequence[Graded]) -> str | None:
        """A new text for the part, or None where the proposal cannot be used, which is counted.

        Raises:
            RunPausedError: the budget is spent.
        """
        self.made += 1
        asked = Prompt.read(_TEXT)
        messages = asked.render(
            prompt=with_parts(self.prompt, parts),
            part=name,
            text=parts[name],
            examples="\n\n".join(told(one, self.measure) for one in seen),
            attempt=self.made,
        )
        try:
            raw = self.asker.ask("propose", messages, Proposal.model_json_schema(), site=SITE, prompt=asked)
            text = Proposal.model_validate_json(_bare(raw)).text.translate(_BACK).strip()
            if not text:
                raise PromptError("the text is empty")
            self.pack_of({**parts, name: text})
        except ValidationError:
            self.refused["the answer is not of the shape that was asked for"] += 1
        except (ReasonerError, PromptError) as error:
            self.refused[error.what] += 1
        else:
            return text
        return None

    def pack_of(self, parts: Mapping[str, str]) -> PromptPack:
        """The pack with these parts in the prompt.

        Raises:
            PromptError: the prompt could not be used, or lost something that an answer needs.
        """
        path = self.work / hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()[:12]
        if not path.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self.work) as draft:
                folder = Path(draft) / "made"
                taken = self.pack.versions(self.prompt.name)
                body = with_parts(self.prompt, parts)
                file = next_version(self.prompt, folder, note="A proposal", taken=taken, body=body)
                self._check(Prompt.read(file), folder)
                folder.rename(path)
        [file] = path.glob("*/*.md")
        made = Prompt.read(file)
        return PromptPack({made.name: {made.version: made}}, fallback=self.pack)

    def _check(self, made: Prompt, folder: Path) -> None:
        lost = sorted(set(self.prompt.used) - set(made.used))
        if lost:
            raise PromptError(f"it no longer prints {', '.join(lost)}")
        said = [one.what for one in lint(folder, PromptPack.default()) if "says the same" not in one.what]
        said += [problem] if (problem := schema_problem(made)) else []
        said += [one for one in left_unsaid(made) if one not in left_unsaid(self.prompt)]
        if said:
            raise PromptError(said[0])


def changeable(prompt: Prompt, wanted: Sequence[str]) -> dict[str, str]:
    """The parts that may change: those ``wanted``, or all but the fixed ones.

    Raises:
        PromptError: there is none, one is unknown, or one is fixed.
    """
    parts = parts_of(prompt)
    free = [name for name in parts if name not in FIXED]
    bad = [name for name in wanted if name not in free]
    if bad or not free:
        raise PromptError(
            f"prompt '{prompt.name}' has no part {', '.join(bad)} that may change" if bad else "no part may change",
            where=str(prompt.path),
            fix=f"parts are what stands below headings '## Name' in '# System'; those that may change: {', '.join(free) or 'none'}",
        )
    return {name: parts[name] for name in (wanted or free)}


def told(seen: Graded, measure: str) -> str:
    """What a case has to say to whoever improves a prompt, in few lines. Titles in it are strangers' words: quote it."""
    last = seen.decision.rounds[-1]
    titles = {event.event: event.title for event in seen.case.observation.trajectory.events}
    lines = [f"A history of {seen.case.observation.trajectory.total_events} events, judged by {measure}."]
    for label in last.reading.labels:
        true = seen.case.roles.get(label.event)
        said = label.parts.llm_role if label.parts is not None else label.role
        if true is not None and said != true and len(lines) <= SHOWN_ERRORS:
            lines.append(
                f'"{titles.get(label.event, "")[:60]}": the model said {said} ({label.why[:80]}), right is {true}'
            )
    lines += [f"'{one.node}' had to be answered without the model: {one.why[:200]}" for one in last.answers if one.why]
    lines += [f"wish '{one.spec.text[:60]}' was {one.fate}" for one in last.candidates[:4] if one.fate != "accepted"]
    return "\n".join(lines)


def _bare(raw: str) -> str:
    """The JSON object in an answer that has a code block around it."""
    start, end = raw.find("{"), raw.rfind("}")
    return raw[start : end + 1] if 0 <= start < end else raw
