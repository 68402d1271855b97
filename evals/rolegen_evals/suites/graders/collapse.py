r"""Path diversity: how far the proposed paths differ, as opposed to collapse.

Normalised entropy of the pairs (role of the intervention, category of the target) over the :math:`n` proposed paths:
:math:`-\sum_k p_k \ln p_k / \ln n`; 0 when all paths are the same, 1 when each is another one; more is better. None with
fewer than two paths.
"""

from __future__ import annotations

import math
from collections import Counter

from scipy.stats import entropy

from .grade import Graded, Grader


def grade(graded: Graded) -> float | None:
    paths = graded.decision.rounds[-1].paths
    if len(paths) < 2:
        return None
    kinds = Counter((path.intervention.role, path.specs()[-1].category) for path in paths)
    return float(entropy(list(kinds.values()))) / math.log(len(paths))


GRADER = Grader("path_diversity", grade, better=1)
