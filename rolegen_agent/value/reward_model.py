"""Guesses of rewards for the doubly robust estimator: a plain logistic regression that never saw the user whom it guesses for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FOLDS = 3
FEWEST = 5
"""rewards, and as many places without one, below which the mean is all that is guessed"""
_ITEM = [0]
"""the column of item codes"""


def crossfit(
    logged: Floats, reward: Floats, users: Sequence[str], target: Floats, owner: Ints, *, seed: int = 0
) -> tuple[Floats, Floats]:
    """Guesses for what was shown and for what would have been, by models that were fitted on other users.

    Args:
        logged: (R, F) facts of what was shown; column 0 is a code of the item, the others are numbers.
        reward: (R,) 0 or 1.
        users: (R,)
        target: (T, F) the same facts of what would have been shown.
        owner: (T,) the row of ``logged`` whose user each of them is about.

    Returns:
        (R,) and (T,) probabilities of a reward.
    """
    guess, would = np.full(len(logged), reward.mean()), np.full(len(target), reward.mean())
    _, group = np.unique(np.asarray(users, dtype=str), return_inverse=True)
    folds = min(FOLDS, int(group.max()) + 1)
    if folds < 2:
        return guess, would
    for rest, held in GroupKFold(folds, shuffle=True, random_state=seed).split(logged, groups=group):
        asked = np.isin(owner, held)
        share = reward[rest].mean()
        if min(reward[rest].sum(), (1 - reward[rest]).sum()) < FEWEST:
            guess[held], would[asked] = share, share
            continue
        model = _model().fit(logged[rest], reward[rest])
        guess[held] = model.predict_proba(logged[held])[:, 1]
        if asked.any():
            would[asked] = model.predict_proba(target[asked])[:, 1]
    return guess, would


def _model() -> Pipeline:
    # One weight an item, drawn towards none where it was rarely shown; an item that was never shown has none.
    items = OneHotEncoder(handle_unknown="ignore")
    facts = make_column_transformer((items, _ITEM), remainder="passthrough")
    return make_pipeline(facts, LogisticRegression(max_iter=1000))
