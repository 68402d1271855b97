"""The outer loop: lessons are born from outcomes, gain and lose evidence, are renewed, expire and are retired.

What may be used at ``at`` are outcomes whose whole horizon had passed by then; what is learnt serves decisions strictly
later. The same call at the same time learns the same, and a run at an earlier time than an existing one sees none of it.

- *Born* (``active``): a claim that is among the ``discoveries`` of all values in all scopes.
- *Proposed*: what an LLM claims of the same table. It saw these outcomes, so only later decisions may speak for its claim;
  it becomes active when their e-value exceeds (claims proposed so far) / false_rate, or when outcomes alone discover it.
- *Renewed*: while the interval over all outcomes leaves out zero on the claimed side, ``expires_at`` moves on.
- *Retired*: the outcomes so far no longer point to the claimed side, or those of decisions made since its birth point to
  the other one with 95 % of their probability. A retired lesson can be born again by new evidence only.
- *Expires*: by itself, ``days`` after it was last renewed.

Each new piece of evidence makes a new version; earlier decisions keep seeing the version that they saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from rolegen_errors import InputError, ReasonerError
from rolegen_graphs.words import CallSite, Claim, Lesson, LessonEffect, LessonStatus, Subject

from ..memory import Memory
from ..memory.lessons import Evidence, KnownOutcome
from .claims import claim_of, claim_words, effect_words, lesson_id, supports
from .statistics import INTERVAL_Z, Tested, discoveries, judge

Progress = Callable[[str, int, int], None]
SHOWN_VALUES, SHOWN_PROPOSALS = 40, 20
"""rows of the table of outcomes, and texts of earlier reflections, that an LLM sees"""


@dataclass(frozen=True)
class Proposal:
    """What an LLM proposes about one row of the table of outcomes."""

    tested: Tested
    claim: Claim
    text: str


class Proposer(Protocol):
    """Proposes lessons from aggregated outcomes; ``rolegen_graphs.llm`` has one."""

    @property
    def name(self) -> str: ...

    def learn(
        self, rows: Sequence[tuple[str, str]], proposed: Sequence[tuple[str, int]], *, site: CallSite
    ) -> Sequence[tuple[int, bool, str]]:
        """(row, whether to lead with it, text) for rows of (what, outcomes in words)."""
        ...


@dataclass
class LearningReport:
    """What a run of the outer loop did."""

    at: datetime
    decisions: int
    """whose outcomes were known"""
    left_out: dict[str, int]
    """decisions before ``at`` that may not be learnt from, by reason"""
    tested: int
    """values in scopes with enough support"""
    born: list[str] = field(default_factory=list)
    proposed: list[str] = field(default_factory=list)
    confirmed: list[str] = field(default_factory=list)
    """new evidence, and still active or proposed"""
    retired: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    """ran out before ``at`` without having been renewed"""
    unchanged: int = 0
    """lessons without new evidence"""
    evidence: int = 0
    """rows of evidence written"""
    silent: str = ""
    """why the LLM proposed nothing, where it could not answer; the statistics decided all the same"""


def learn(
    memory: Memory,
    at: datetime,
    *,
    support: int = 20,
    false_rate: float = 0.1,
    days: int = 365,
    proposer: Proposer | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> LearningReport:
    """Learn from what was known by ``at``; see the module's text.

    Args:
        support: users on each side of a claim at least.
        false_rate: share of false lessons among the born ones that is tolerated, in expectation.
        days: how long a lesson lives without being renewed.
        proposer: an LLM that proposes; None leaves it to the statistics alone.
    """
    if at.tzinfo is None:
        raise InputError(f"the time {at} has no time zone", fix="pass an aware datetime, or a date as text")
    progress("outcomes", 0, 1)
    decisions, left_out = memory.known_outcomes(at)
    progress("outcomes", 1, 1)
    tested = judge(decisions, support=support)
    found = {lesson_id(one.scope, claim_of(one)): one for one in discoveries(tested, false_rate)}
    report = LearningReport(at=at, decisions=len(decisions), left_out=left_out, tested=len(tested))
    old = {one.lesson: one for one in memory.lessons(at) if one.claim is not None}
    school = _School(memory, decisions, at, support, timedelta(days=days), report)
    if proposer is not None and tested:
        # The call belongs to no user; noted as begun, it is not one that nobody knows the origin of.
        site = CallSite(decision=memory.begin(f"lessons/{proposer.name}", "", at), round=1, node="learn")
        try:
            for proposal in propose(proposer, tested, memory.proposed_lessons(at, limit=SHOWN_PROPOSALS), site):
                school.propose(proposal, old, proposer.name)
        except ReasonerError as error:
            report.silent = error.what
    for number, lesson in enumerate(old.values()):
        progress("lessons", number, len(old))
        school.reconsider(lesson, found.pop(lesson.lesson, None), false_rate)
    for key, one in found.items():
        school.bear(key, one)
    report.evidence = memory.record_learning(school.learnt.values())
    progress("lessons", len(old), len(old))
    return report


def propose(
    proposer: Proposer, tested: Sequence[Tested], proposed: Sequence[tuple[str, int]], site: CallSite
) -> list[Proposal]:
    """Ask an LLM about the aggregated outcomes: counts of many users, no id, no title."""
    shown = sorted(tested, key=lambda one: (-one.effect.e_value, one.scope, one.subject, one.value))[:SHOWN_VALUES]
    rows = [(f"{one.scope[1] or 'everybody'}: {one.subject} '{one.value}'", effect_words(one.effect)) for one in shown]
    return [
        Proposal(
            shown[row],
            Claim(subject=shown[row].subject, value=shown[row].value, direction="lead" if lead else "avoid"),
            text,
        )
        for row, lead, text in proposer.learn(rows, proposed, site=site)
    ]


class _School:
    """What becomes of each lesson in one run."""

    def __init__(
        self,
        memory: Memory,
        decisions: Sequence[KnownOutcome],
        at: datetime,
        support: int,
        life: timedelta,
        report: LearningReport,
    ) -> None:
        self._memory, self._decisions, self._at = memory, decisions, at
        self._support, self._life, self._report = support, life, report
        self.learnt: dict[str, tuple[Lesson, list[Evidence]]] = {}
        self._claims = sum(one.origin.startswith("llm:") for one in memory.lessons(at))

    def bear(self, key: str, one: Tested) -> None:
        """A discovery that nobody had claimed."""
        if key in self.learnt:  # an LLM proposed it in this very run: its words, our evidence
            proposal = self.learnt[key][0]
            lesson = proposal.model_copy(update={"status": "active", "effect": one.effect})
            self._report.proposed.remove(key)
        else:
            lesson = self._new(key, one, claim_of(one), text="", origin="evidence", status="active")
        self._report.born.append(key)
        self._write(lesson, self._evidence(lesson, since=None))

    def propose(self, proposal: Proposal, old: dict[str, Lesson], origin: str) -> None:
        """A claim of an LLM; one that is known already is left as it is."""
        key = lesson_id(proposal.tested.scope, proposal.claim)
        if (key in old and old[key].status != "retired") or key in self.learnt:
            return
        if key in old:
            return  # it was tried, and outcomes were against it: only they can bring it back
        lesson = self._new(key, proposal.tested, proposal.claim, text=proposal.text, origin=origin, status="proposed")
        self._claims += 1
        self._report.proposed.append(key)
        self._write(lesson.model_copy(update={"effect": None}), [])

    def reconsider(self, lesson: Lesson, discovery: Tested | None, false_rate: float) -> None:
        """New evidence, and what follows from it."""
        claim = lesson.claim
        assert claim is not None
        born = self._memory.lesson_versions(lesson.lesson)[0].learnt_at
        alive = lesson.status != "retired" and (lesson.expires_at is None or lesson.expires_at > self._at)
        if discovery is not None and not alive:
            # Only outcomes that it did not have when it ended can bring it back.
            fresh = self._one(lesson, claim, since=lesson.learnt_at)
            if fresh is None or _sign(claim) * fresh.low <= 0:
                self._report.unchanged += 1
                return
        if discovery is None and not alive:
            if lesson.status != "retired":
                self._report.expired.append(lesson.lesson)
            else:
                self._report.unchanged += 1
            return
        # An LLM saw the outcomes that it made its claim from; they speak for nothing unless all outcomes discover it.
        own = born if lesson.origin.startswith("llm:") and discovery is None else None
        evidence = self._evidence(lesson, since=own)
        status, effect = self._verdict(lesson, claim, born, own, discovery, false_rate)
        if not evidence and status == lesson.status and alive:
            self._report.unchanged += 1
            return
        renewed = effect is not None and _sign(claim) * _near(effect, claim) > 0 and status == "active"
        changes: dict[str, object] = {
            "learnt_at": self._at,
            "status": status,
            "effect": effect or lesson.effect,
            "expires_at": self._at if status == "retired" else self._at + self._life if renewed else lesson.expires_at,
        }
        if lesson.origin == "evidence" and effect is not None:
            changes["text"] = _text((lesson.scope, lesson.scope_key), claim, effect)
        told = self._report
        became = told.retired if status == "retired" else told.born if status != lesson.status else told.confirmed
        became.append(lesson.lesson)
        self._write(lesson.model_copy(update=changes), evidence)

    def _verdict(
        self,
        lesson: Lesson,
        claim: Claim,
        born: datetime,
        own: datetime | None,
        discovery: Tested | None,
        false_rate: float,
    ) -> tuple[LessonStatus, LessonEffect | None]:
        since = self._one(lesson, claim, since=born)
        if since is not None and _sign(claim) * since.change + _deviation(since) * INTERVAL_Z < 0:
            return "retired", since
        if lesson.status == "proposed" and discovery is None:
            sure = since is not None and _sign(claim) * since.change > 0
            enough = since is not None and since.e_value >= max(1, self._claims) / false_rate
            return ("active" if sure and enough else "proposed"), since
        whole = discovery.effect if discovery is not None else self._one(lesson, claim, since=own)
        if whole is not None and _sign(claim) * whole.change <= 0:
            return "retired", whole
        return "active", whole

    def _one(self, lesson: Lesson, claim: Claim, *, since: datetime | None) -> LessonEffect | None:
        """What outcomes say of one claim; of decisions made at or after ``since`` alone, where it is given."""
        asked: tuple[tuple[str, str], Subject, str] = ((lesson.scope, lesson.scope_key), claim.subject, claim.value)
        some = [one for one in self._decisions if since is None or one.at >= since]
        found = judge(some, support=self._support, only=[asked])
        return found[0].effect if found else None

    def _evidence(self, lesson: Lesson, *, since: datetime | None) -> list[Evidence]:
        """What is new: decisions in scope whose outcome is not noted yet, or was noted otherwise."""
        claim = lesson.claim
        assert claim is not None
        known = self._memory.lesson_evidence(lesson.lesson, self._at)
        found = []
        for one in self._decisions:
            if (since is not None and one.at < since) or not _in_scope(lesson, one):
                continue
            led = (claim.subject, claim.value) in one.led
            told = Evidence(
                decision=one.decision, led=led, ordered=one.ordered, supports=supports(claim, led, one.ordered)
            )
            if known.get(one.decision) != told:
                found.append(told)
        return found

    def _new(self, key: str, one: Tested, claim: Claim, *, text: str, origin: str, status: LessonStatus) -> Lesson:
        return Lesson.model_validate(
            {
                "lesson": key,
                "scope": one.scope[0],
                "scope_key": one.scope[1],
                "text": text or _text(one.scope, claim, one.effect),
                "learnt_at": self._at,
                "expires_at": self._at + self._life,
                "claim": claim,
                "status": status,
                "origin": origin,
                "effect": one.effect,
            }
        )

    def _write(self, lesson: Lesson, evidence: list[Evidence]) -> None:
        self.learnt[lesson.lesson] = (lesson, evidence)


def _in_scope(lesson: Lesson, one: KnownOutcome) -> bool:
    return {"all": True, "cohort": lesson.scope_key == one.cohort, "user": lesson.scope_key == one.user}[lesson.scope]


def _text(scope: tuple[str, str], claim: Claim, effect: LessonEffect) -> str:
    return f"{claim_words(scope, claim)} {effect_words(effect)}"


def _sign(claim: Claim) -> int:
    return 1 if claim.direction == "lead" else -1


def _near(effect: LessonEffect, claim: Claim) -> float:
    """The end of the interval that is nearer to the side which the claim is not on."""
    return effect.low if claim.direction == "lead" else effect.high


def _deviation(effect: LessonEffect) -> float:
    return (effect.high - effect.low) / (2 * INTERVAL_Z)
