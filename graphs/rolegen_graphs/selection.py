"""Which of the proposed paths are used: for effect and for diversity, with quotas; nothing here reads a path's prose.

Maximal marginal relevance (Carbonell and Goldstein 1998): the next path is the one with the largest
(1 - diversity) * effect - diversity * likeness, where effect is the lower end of the rollout's interval, scaled to
[0, 1] over the eligible paths, and likeness is that to the most similar path chosen already. Two paths are alike by a
third each: the role of the intervention, the category of the target, the share of common items (Jaccard).

What outcomes taught counts like an effect: where lessons speak of a path (its role, its kind, a category of its items), the
one that says most adds the end of its interval that is nearer to zero. So lessons change the order for every reasoner, by a
number, and no text of theirs is read.

Never used are paths without a grounded item, for they have no effect, and paths whose whole interval lies below zero.
Ties go to the smaller path number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydantic import Field

from .words import Candidate, Claim, Effect, Lesson, Path, PathChoice, Record, Role


class Selection(Record):
    """How many paths are used, how much diversity weighs, and how many may be alike."""

    paths: int = Field(4, ge=1)
    """paths used in a round; the reasoner may propose more"""
    diversity: float = Field(0.5, ge=0, le=1)
    """0 looks at effects alone, 1 at likeness alone once the first path is chosen"""
    per_role: int = Field(2, ge=1)
    """used paths whose interventions have the same role"""
    per_category: int = Field(2, ge=1)
    """used paths with the same target category; a path that names none counts towards none"""


@dataclass(frozen=True)
class _Walk:
    """What decides about an eligible path."""

    path: int
    low: float
    width: float
    role: Role
    category: str | None
    items: frozenset[str]
    taught: str
    """what a lesson added, for the reason"""


def select_paths(
    paths: Sequence[Path],
    candidates: Sequence[Candidate],
    effects: Sequence[Effect],
    selection: Selection,
    lessons: Sequence[Lesson] = (),
) -> tuple[PathChoice, ...]:
    """One choice for each path, in the order of ``paths``.

    Args:
        candidates: what became of the specs; an ``item`` of None grounds nothing.
        effects: from the recommender's rollout, one for each path that has an item.
    """
    measured = {effect.path: effect for effect in effects}
    choices: dict[int, PathChoice] = {}
    eligible: list[_Walk] = []
    for path in paths:
        effect = measured.get(path.path)
        if effect is None:
            choices[path.path] = _left(path.path, "none of its specs became an item, so it has no effect")
        elif effect.high < 0:
            choices[path.path] = _left(path.path, f"its whole interval {_interval(effect)} lies below zero")
        else:
            eligible.append(_walk(path, candidates, effect, lessons))
    choices |= _choose(eligible, selection)
    for walk in eligible:
        if walk.taught:
            choice = choices[walk.path]
            choices[walk.path] = choice.model_copy(update={"reason": f"{choice.reason}; {walk.taught}"})
    return tuple(choices[path.path] for path in paths)


def speaks_of(claim: Claim, path: Path, categories: Collection[str | None]) -> bool:
    """Whether a path that leads to ``categories`` is what a claim says to lead with or to avoid."""
    if claim.subject == "category":
        return claim.value in categories
    return claim.value == (path.intervention.role if claim.subject == "role" else path.kind)


def _taught(path: Path, categories: Collection[str | None], lessons: Sequence[Lesson]) -> tuple[float, str]:
    """What the lesson that says most of a path adds to its effect, and the same in words."""
    best, words = 0.0, ""
    for lesson in lessons:
        claim, effect = lesson.claim, lesson.effect
        if claim is None or effect is None or not speaks_of(claim, path, categories):
            continue
        bound = max(0.0, effect.low) if claim.direction == "lead" else min(0.0, effect.high)
        if abs(bound) > abs(best):
            best, words = bound, f"lesson {lesson.lesson[:8]} adds {bound:+.4f}"
    return best, words


def _choose(eligible: Sequence[_Walk], selection: Selection) -> dict[int, PathChoice]:
    gain = _scaled(eligible)
    choices: dict[int, PathChoice] = {}
    used: list[_Walk] = []
    remaining = sorted(eligible, key=lambda walk: walk.path)
    while remaining:
        # What is full is said at once: a quota never opens again.
        for walk in list(remaining):
            if reason := _full(walk, used, selection):
                remaining.remove(walk)
                _, like = _nearest(walk, used)
                choices[walk.path] = _left(walk.path, reason, gain[walk.path], like)
        if not remaining or len(used) == selection.paths:
            break
        walk = max(remaining, key=lambda one: (_marginal(one, used, gain, selection), -one.path))
        remaining.remove(walk)
        nearest, like = _nearest(walk, used)
        choices[walk.path] = PathChoice(
            path=walk.path,
            chosen=True,
            place=len(used) + 1,
            effect=gain[walk.path],
            likeness=like,
            reason="the best effect" if nearest is None else "the best of effect and likeness to those before it",
        )
        used.append(walk)
    for walk in remaining:
        nearest, like = _nearest(walk, used)
        alike = f", most alike to path {nearest}" if nearest is not None and like > 0 else ""
        reason = f"{selection.paths} paths with more effect or less likeness were chosen before it{alike}"
        choices[walk.path] = _left(walk.path, reason, gain[walk.path], like)
    return choices


def _marginal(walk: _Walk, used: Sequence[_Walk], gain: dict[int, float], selection: Selection) -> float:
    _, like = _nearest(walk, used)
    return round((1 - selection.diversity) * gain[walk.path] - selection.diversity * like, 9)


def _full(walk: _Walk, used: Sequence[_Walk], selection: Selection) -> str:
    """Which quota leaves no room for the path; empty where there is room."""
    roles, categories = Counter(one.role for one in used), Counter(one.category for one in used)
    if roles[walk.role] >= selection.per_role:
        return f"the quota of {selection.per_role} for role {walk.role} is full"
    if walk.category is not None and categories[walk.category] >= selection.per_category:
        return f"the quota of {selection.per_category} for category {walk.category} is full"
    return ""


def _scaled(eligible: Sequence[_Walk]) -> dict[int, float]:
    """Lower ends of the intervals in [0, 1]. Differences that are small beside the intervals stay small: the range is
    at least their mean width."""
    if not eligible:
        return {}
    lows = [walk.low for walk in eligible]
    span = max(max(lows) - min(lows), sum(walk.width for walk in eligible) / len(eligible))
    return {walk.path: round((walk.low - min(lows)) / span, 6) if span > 0 else 0.0 for walk in eligible}


def _nearest(walk: _Walk, used: Sequence[_Walk]) -> tuple[int | None, float]:
    """The chosen path that is most alike, and how much in [0, 1]; (None, 0) before any is chosen."""
    if not used:
        return None, 0.0
    best = max(used, key=lambda other: _likeness(walk, other))  # the one chosen first, where several are
    return best.path, _likeness(walk, best)


def _likeness(one: _Walk, other: _Walk) -> float:
    common = len(one.items & other.items) / max(1, len(one.items | other.items))
    same_category = one.category is not None and one.category == other.category
    return round(((one.role == other.role) + same_category + common) / 3, 6)


def _walk(path: Path, candidates: Sequence[Candidate], effect: Effect, lessons: Sequence[Lesson]) -> _Walk:
    found = sorted((c.step, c.spec.category, c.item) for c in candidates if c.path == path.path and c.item is not None)
    low, high = max(effect.low, -1.0), min(effect.high, 1.0)  # an honest interval may be infinite
    taught, words = _taught(path, {category for _, category, _ in found}, lessons)
    return _Walk(
        path=path.path,
        low=low + taught,
        width=max(0.0, high - low),
        role=path.intervention.role,
        category=found[-1][1] if found else path.specs()[-1].category,
        items=frozenset(item for _, _, item in found if item is not None),
        taught=words,
    )


def _left(path: int, reason: str, effect: float | None = None, likeness: float | None = None) -> PathChoice:
    return PathChoice(path=path, chosen=False, effect=effect, likeness=likeness, reason=reason)


def _interval(effect: Effect) -> str:
    return f"[{effect.low:+.4f}, {effect.high:+.4f}]"
