"""The two sides of a label and the choice of a path in words, the same on the page and in the terminal."""

from __future__ import annotations

from rolegen_graphs.words import Observation, PathChoice, RoleLabel

from .text import bounded


def parts_words(label: RoleLabel) -> str:
    """Both sides of a fused label, the same wherever a person reads it; empty where one reasoner answered alone."""
    if (parts := label.parts) is None:
        return ""
    log = "the log says nothing"
    if parts.log_role is not None:
        cases = f"{parts.support:,} observation{'' if parts.support == 1 else 's'}"
        log = f"the log {parts.log_role} {parts.log_probability:.0%} from {cases}, weight {parts.log_weight:.2f}"
    return f"the LLM said {parts.llm_role} {parts.llm_confidence:.0%}; {log}"


def choice_words(choice: PathChoice) -> str:
    """Why a path was used, or not.

    >>> choice_words(PathChoice(path=1, chosen=True, place=1, reason="the best effect"))
    'used, 1st choice: the best effect'
    """
    if choice.place is None:
        return f"not used: {bounded(choice.reason, 160)}"
    ending = {1: "st", 2: "nd", 3: "rd"}.get(choice.place, "th")  # there are never twenty paths
    return f"used, {choice.place}{ending} choice: {bounded(choice.reason, 160)}"


def lesson_words(seen: Observation) -> tuple[str, ...]:
    """Which lessons a decision was shown, in which version; or that it got none on purpose. Texts are bounded and clean."""
    if seen.lessons_withheld:
        return ("no lessons: withheld from this decision, so that outcomes can go on judging them",)
    return tuple(
        f"lesson {bounded(one.lesson, 16)} of {one.learnt_at:%Y-%m-%d} "
        f"({one.evidence_for:,} outcomes for it, {one.evidence_against:,} against): {bounded(one.text, 200)}"
        for one in seen.lessons
    )
