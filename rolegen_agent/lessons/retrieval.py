"""Which lessons a decision gets: the nearest in scope, within a token budget, and for some decisions none.

A lesson is near where its words (TF-IDF of its text and claim) are those of the situation: cohort, why the user is dormant,
and the categories of the history, the latest of which count most. A lesson about the user is nearer than one about the
cohort, and that than one about everybody; equals go by what outcomes say at least.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rolegen_graphs.llm.sections import lesson_text
from rolegen_graphs.words import Lesson, Trajectory
from rolegen_prompts import estimate_tokens

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

SCOPE = {"user": 0.5, "cohort": 0.25, "all": 0.0}
"""added to the cosine"""
LATEST = 12
"""events of a history whose categories describe the situation"""
_TEXT = 2000  # a longer lesson is no nearer for it


class Retrieval:
    """Chooses among the lessons in scope.

    Args:
        tokens: estimated tokens of the chosen lessons together, as a prompt shows them.
        withheld: share of decisions that get none, drawn by user and time: the same decision always fares alike.
        use: False gives nobody any.
    """

    def __init__(self, *, tokens: int = 400, withheld: float = 0.1, use: bool = True) -> None:
        self._tokens, self._withheld, self._use = tokens, withheld, use

    def choose(self, trajectory: Trajectory, lessons: Sequence[Lesson]) -> tuple[tuple[Lesson, ...], bool]:
        """The chosen lessons, nearest first, and whether there were some that are withheld."""
        if not lessons or not self._use:
            return (), False
        if _lot(trajectory) < self._withheld:
            return (), True
        near = _similarity(trajectory, lessons)
        ranked = sorted(
            range(len(lessons)),
            key=lambda row: (
                -round(SCOPE[lessons[row].scope] + float(near[row]), 6),
                -_surety(lessons[row]),
                lessons[row].lesson,
            ),
        )
        chosen: list[Lesson] = []
        spent = 0
        for row in ranked:
            cost = estimate_tokens(lesson_text(lessons[row]) + "\n")
            if spent + cost <= self._tokens:
                chosen.append(lessons[row])
                spent += cost
        return tuple(chosen), False


def _lot(trajectory: Trajectory) -> float:
    """In [0, 1), the same for the same user and time."""
    key = f"{trajectory.at.timestamp()} {trajectory.user}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64


def _surety(lesson: Lesson) -> float:
    """What outcomes say at least, on the claimed side."""
    if lesson.effect is None or lesson.claim is None:
        return 0.0
    return lesson.effect.low if lesson.claim.direction == "lead" else -lesson.effect.high


def _similarity(trajectory: Trajectory, lessons: Sequence[Lesson]) -> npt.NDArray[np.float64]:
    encoder, encoded = _encoded(tuple(_words(lesson) for lesson in lessons))
    if encoder is None or encoded is None:
        return np.zeros(len(lessons))
    latest = [event.category for event in trajectory.events[-LATEST:]]
    query = encoder.transform([" ".join([trajectory.cohort, trajectory.dormant_because[:_TEXT], *latest])])
    near: npt.NDArray[np.float64] = np.asarray((encoded @ query.T).todense(), dtype=np.float64).ravel()
    return near


def _words(lesson: Lesson) -> str:
    claim = f"{lesson.claim.subject} {lesson.claim.value} " if lesson.claim else ""
    return f"{claim}{lesson.scope_key if lesson.scope == 'cohort' else ''} {lesson.text[:_TEXT]}"


@lru_cache(maxsize=64)
def _encoded(texts: tuple[str, ...]) -> tuple[TfidfVectorizer | None, csr_matrix | None]:
    """Lessons in scope are the same for all users of a cohort, and fitting them anew would cost more than the rest."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    encoder = TfidfVectorizer(sublinear_tf=True)
    try:
        return encoder, encoder.fit_transform(texts)
    except ValueError:  # no text has a word: nothing is near
        return None, None
