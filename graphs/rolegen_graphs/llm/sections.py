"""The other parts of a prompt as text: lessons, past decisions, corrections, the reading, paths and findings.

Each line is one record; every text in it is cleaned and bounded, so that a record cannot pose as several. Events are
called by their numbers in the trajectory; one that it does not list is not named.
"""

from __future__ import annotations

from collections.abc import Sequence

from rolegen_prompts import inline

from ..words import (
    Candidate,
    Correction,
    Effect,
    Intent,
    ItemSpec,
    Lesson,
    PastDecision,
    Path,
    Reading,
    Signal,
    Trajectory,
)
from .trajectory import Numbers, statistic_text

_TEXT = 400
_LESSONS = 12
_PAST = 8


def lessons_text(lessons: Sequence[Lesson]) -> str:
    """In the order given, which is that of retrieval where all were judged; else the strongest balance of evidence first.
    The rest is counted."""
    judged = all(one.effect is not None for one in lessons)
    ranked: Sequence[Lesson] = lessons
    if not judged:
        ranked = sorted(lessons, key=lambda one: (one.evidence_against - one.evidence_for, one.lesson))
    lines = [lesson_text(one) for one in ranked[:_LESSONS]]
    return _lines(lines, len(ranked) - _LESSONS, "weaker lessons")


def lesson_text(lesson: Lesson) -> str:
    """One lesson on one line, with what outcomes say of it; its text comes from strangers and is cleaned and bounded."""
    told = f"{lesson.evidence_for} outcomes for it, {lesson.evidence_against} against"
    if (effect := lesson.effect) is not None:
        # Counts of agreement say little where orders are rare; the difference is what a reader needs.
        change, low, high = (f"{value * 100:+.1f}" for value in (effect.change, effect.low, effect.high))
        told = f"{change} points of orders where led with, {low} to {high}, {effect.led + effect.others} outcomes"
    return f"- ({lesson.scope}; {told}) {inline(lesson.text, _TEXT)}"


def past_text(past: Sequence[PastDecision]) -> str:
    """The latest past decisions; items are counted, not named."""
    came = {True: "the customer ordered", False: "no order followed", None: "the outcome is still open"}
    ranked = sorted(past, key=lambda one: one.at, reverse=True)
    lines = [f"- {one.at:%Y-%m-%d}: {len(one.items)} items shown, {came[one.ordered]}" for one in ranked[:_PAST]]
    return _lines(lines, len(ranked) - _PAST, "earlier decisions")


def corrections_text(corrections: Sequence[Correction], trajectory: Trajectory) -> str:
    """One correction a line, with the path or event it speaks of."""
    numbers = Numbers(trajectory)
    return "\n".join(
        f"- {one.kind}{_about(one.path, one.event, numbers)}: {inline(one.detail, _TEXT)}" for one in corrections
    )


def reading_text(reading: Reading, trajectory: Trajectory) -> str:
    """The labels in time order, and the intent now."""
    titles, numbers = {event.event: event.title for event in trajectory.events}, Numbers(trajectory)
    lines = []
    for label in reading.labels:
        told = f" | log: {statistic_text(label.statistic)}" if label.statistic else ""
        lines.append(
            f'[{numbers.of(label.event)}] {label.role} ({label.confidence:.2f}) "{inline(titles.get(label.event, ""))}" | '
            f"before: {intent_text(label.intent_before)}; after: {intent_text(label.intent_after)} | {inline(label.why, _TEXT)}{told}"
        )
    return "\n".join([*lines, f"intent now: {intent_text(reading.intent)}"])


def intent_text(intent: Intent) -> str:
    """``deciding in Kitchen (a set of mugs)``."""
    where = f" in {inline(intent.category)}" if intent.category else ""
    need = f" ({inline(intent.need, 120)})" if intent.need else ""
    return f"{intent.stage}{where}{need}"


def spec_text(spec: ItemSpec) -> str:
    """``bridge in Kitchen, 2.50 to 4.00: "enamel mug"``."""
    where = f" in {inline(spec.category)}" if spec.category else ""
    band = ""
    if spec.price_low is not None or spec.price_high is not None:
        low = "0" if spec.price_low is None else f"{spec.price_low:.2f}"
        band = f", {low} to {spec.price_high:.2f}" if spec.price_high is not None else f", from {low}"
    return f'{spec.role}{where}{band}: "{inline(spec.text, 120)}"'


def rejected_text(rejected: Sequence[Candidate]) -> str:
    """The rejected specs, numbered from 1, each with its reason."""
    return "\n".join(
        f"{number}. {spec_text(one.spec)} | rejected: {inline(one.reason, 200)}"
        for number, one in enumerate(rejected, start=1)
    )


def paths_text(
    paths: Sequence[Path], candidates: Sequence[Candidate], effects: Sequence[Effect], trajectory: Trajectory
) -> str:
    """Each path with the fate of its specs and its measured change."""
    numbers = Numbers(trajectory)
    fates = {(one.path, one.step): one for one in candidates}
    measured = {one.path: one for one in effects}
    lines: list[str] = []
    for path in paths:
        replaced = f" of event [{numbers.of(path.replaces)}]" if path.replaces is not None else ""
        lines.append(f"path {path.path}: {path.operation}{replaced}: {inline(path.why, _TEXT)}")
        for step, spec in enumerate(path.specs()):
            fate = fates.get((path.path, step))
            told = f"{fate.fate}: {inline(fate.title or fate.reason, 120)}" if fate else "not grounded"
            lines.append(f"  {step}. {spec_text(spec)} | {told}")
        effect = measured.get(path.path)
        lines.append(
            "  change of conversion: "
            + (f"{effect.change:+.4f} [{effect.low:+.4f}, {effect.high:+.4f}]" if effect else "not measured")
        )
    return "\n".join(lines)


def outcomes_text(rows: Sequence[tuple[str, str]]) -> str:
    """The table of outcomes, numbered from 1: what decisions led with, and what came of it."""
    return "\n".join(
        f"{number}. {inline(what, 120)} | {inline(told, _TEXT)}" for number, (what, told) in enumerate(rows, start=1)
    )


def proposals_text(proposed: Sequence[tuple[str, int]]) -> str:
    """What reflection proposed, and how often."""
    return "\n".join(f"- ({times} times) {inline(text, _TEXT)}" for text, times in proposed)


def signals_text(signals: Sequence[Signal], trajectory: Trajectory) -> str:
    """One finding a line."""
    numbers = Numbers(trajectory)
    return "\n".join(
        f"- {one.kind}{_about(one.path, one.event, numbers)}: {inline(one.detail, _TEXT)}" for one in signals
    )


def _about(path: int | None, event: int | None, numbers: Numbers) -> str:
    told = [f"path {path}"] if path is not None else []
    told += [f"event [{number}]"] if event is not None and (number := numbers.of(event)) is not None else []
    return f" ({', '.join(told)})" if told else ""


def _lines(lines: list[str], more: int, what: str) -> str:
    return "\n".join([*lines, f"({more} {what} not shown)"] if more > 0 else lines)
