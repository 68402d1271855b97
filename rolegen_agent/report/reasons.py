"""The two sides of a label and the choice of a path in words, the same on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rolegen_graphs.words import Attribution, ItemSpec, Observation, PathChoice, RoleLabel, Round, SlateItem

from .text import bounded, points

PART_WORDS = {
    "decoder": "what usually comes next after such a history",
    "item model": "what is like the things they own",
    "repeat": "they had it before",
    "trend": "what sells now",
    "reasoning": "reasoning put it forward",
}
"""parts of the backbone's scores; those of another recommender keep their own names"""


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


def wish_words(spec: ItemSpec) -> str:
    """What a spec wishes for, but for its role."""
    low, high = spec.price_low, spec.price_high
    if low is not None and high is not None:
        price = f"{low:,.2f} to {high:,.2f}"
    elif high is not None:
        price = f"up to {high:,.2f}"
    elif low is not None:
        price = f"from {low:,.2f}"
    else:
        price = ""
    parts = (bounded(spec.category or "", 80), price, bounded(spec.text, 80))
    return ", ".join(part for part in parts if part)


def place_words(item: SlateItem, last: Round | None) -> str:
    """Why an item stands in a slate: the wish that it was found for, and what its score is mostly made of."""
    told = []
    if item.path is not None and last is not None:
        wished = [one for one in last.candidates if one.path == item.path and one.item == item.item]
        effects = [one for one in last.effects if one.path == item.path]
        wish = wish_words(wished[0].spec) if wished else ""
        told.append(
            f"path {item.path} wanted a {item.role or 'next item'}"
            + (f" ({wish})" if wish else "")
            + (f", expected to change the chance of an order by {points(effects[0].change)} points" if effects else "")
        )
    whole = sum(part for part in item.parts.values() if part > 0)
    if whole > 0:
        name, part = max(item.parts.items(), key=lambda one: one[1])
        told.append(f"{PART_WORDS.get(name, bounded(name, 40))} ({part / whole:.0%} of its score)")
    if shown := showing_words(item):
        told.append(shown)
    return "; ".join(told)


def showing_words(item: SlateItem) -> str:
    """What showing the item to this user brings, where the log tells."""
    if not item.showing:
        return ""
    return f"showing it changes the chance of an order by {points(item.showing)} points, by logged exposures"


def credit_words(credit: Sequence[Attribution], titles: Mapping[str, str]) -> tuple[str, ...]:
    """What an order is owed to, the greatest part first; what no step has to do with stands last."""
    lines = []
    for part in sorted(credit, key=lambda one: (one.step is None, -one.credit)):
        if part.step is None or part.path is None or part.item is None:
            chance = f"probability of an order without them {part.effect:.3f}"
            lines.append(f"{part.credit:+.0%} owed to no step: {chance}")
        else:
            title = bounded(titles.get(part.item, part.item), 44)
            lines.append(f"{part.credit:+.1%} path {part.path}, step {part.step}: {title} ({points(part.effect)})")
    return tuple(lines)
