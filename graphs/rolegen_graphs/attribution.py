"""Which path steps an order is owed to: Shapley values over the steps whose items were shown, by the recommender's rollout.

Within a path the players are its steps (the intervention and what follows it) whose items stood in the slate; where it is
known what the user engaged with or bought, only those. The worth of a group is the probability of an order after showing
its items, in the order of the path; of nobody, the probability without them. A path's part of the order is
split as these probabilities are: what would have been without any step is owed to no step. Several paths share the order
equally, since the rollout tells nothing of paths that are taken together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from .ports import Recommender
from .shapley import coalitions, shapley, shares
from .words import Attribution, Decision, Outcome


class Player(NamedTuple):
    step: int
    item: str


def players_of(decision: Decision, outcome: Outcome) -> dict[int, list[Player]]:
    """By path of the round that made the slate: the steps that can have had a part in the order."""
    if not decision.rounds:
        return {}
    last = decision.rounds[-1]
    used = {choice.path for choice in last.choices if choice.chosen} if last.choices else {p.path for p in last.paths}
    shown = {item.item for item in decision.slate.items}
    if outcome.engaged is not None:
        shown &= {*outcome.engaged, *outcome.items}
    found: dict[int, list[Player]] = {}
    for candidate in sorted(last.candidates, key=lambda one: (one.path, one.step)):
        if candidate.path in used and candidate.item is not None and candidate.item in shown:
            found.setdefault(candidate.path, []).append(Player(candidate.step, candidate.item))
    return found


def attribute(
    decision: Decision, outcome: Outcome, recommender: Recommender, share: float = 1.0
) -> tuple[Attribution, ...]:
    """What the order is owed to; nothing where there was none. The credits add up to ``share``.

    Args:
        share: the decision's part of the order, where others claim it too.
    """
    if outcome.ordered_at is None or share == 0:
        return ()
    paths = players_of(decision, outcome)
    walks = [(path, group) for path, players in paths.items() for group in coalitions(len(players))]
    asked = [(number, [paths[path][one].item for one in group]) for number, (path, group) in enumerate(walks)]
    effects = recommender.rollout(decision.user, decision.at, asked) if asked else ()
    if not effects:
        return (_part(decision, None, None, share, 0.0),)
    none = effects[0].probability_without
    worth: dict[int, dict[tuple[int, ...], float]] = {path: {(): none} for path in paths}
    for (path, group), effect in zip(walks, effects, strict=True):
        worth[path][group] = effect.probability_with
    parts, without = [], 0.0
    for path, players in paths.items():
        values = shapley(len(players), worth[path])
        rest, owed = shares(none, values)
        without += rest / len(paths)
        parts += [
            _part(decision, path, player, share * part / len(paths), value)
            for player, part, value in zip(players, owed, values, strict=True)
        ]
    return (_part(decision, None, None, share * without, none), *parts)


def _part(decision: Decision, path: int | None, player: Player | None, credit: float, effect: float) -> Attribution:
    return Attribution(
        decision=decision.decision,
        path=path,
        step=player.step if player else None,
        item=player.item if player else None,
        credit=credit,
        effect=effect,
    )


def order_shares(decisions: Sequence[tuple[str, datetime, datetime]], ordered_at: datetime) -> dict[str, float]:
    """The part of an order that each decision on its user may claim: the latest whose horizon holds it has all of it.

    Several at that very time (of different runs) share it equally, for nothing says which of them was shown.

    Args:
        decisions: (id, decision time, end of the horizon), of one user.
    """
    holding = [(key, at) for key, at, end in decisions if at <= ordered_at < end]
    latest = max((at for _, at in holding), default=None)
    chosen = [key for key, at in holding if at == latest]
    return {key: 1 / len(chosen) if key in chosen else 0.0 for key, _, _ in decisions}
