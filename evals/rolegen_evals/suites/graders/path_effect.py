r"""Effect of the paths by rollout: the mean estimated change of conversion of the chosen paths.

The backbone's estimate, never the model's word; -1 to 1, more is better. None where no path was chosen.
"""

from __future__ import annotations

from .grade import Graded, Grader


def grade(graded: Graded) -> float | None:
    last = graded.decision.rounds[-1]
    chosen = {choice.path for choice in last.choices if choice.chosen}
    changes = [effect.change for effect in last.effects if effect.path in chosen]
    return sum(changes) / len(changes) if changes else None


GRADER = Grader("path_effect", grade, better=1, low=-1.0)
