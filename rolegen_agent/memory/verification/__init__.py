"""Does the memory still say what it must say? Checks that re-derive what can be derived, in one registry each.

:mod:`.of_decisions` looks at one rebuilt decision at a time, :mod:`.of_tables` asks the database for rows that contradict
others, :mod:`.of_feedback` derives credits and propensities, :mod:`.of_lessons` counts, :mod:`.of_digests` derives what lists show,
:mod:`.of_told` looks at what servers were told. A new check is a function below one of the two decorators, in a file that is named here.
"""

from . import of_decisions, of_digests, of_feedback, of_lessons, of_tables, of_told
from .registry import DECISION_CHECKS, TABLE_CHECKS, Difference, Recorded, decision_check, table_check
from .run import Verification, VerificationStore

__all__ = [
    "DECISION_CHECKS",
    "TABLE_CHECKS",
    "Difference",
    "Recorded",
    "Verification",
    "VerificationStore",
    "decision_check",
    "of_decisions",
    "of_digests",
    "of_feedback",
    "of_lessons",
    "of_tables",
    "of_told",
    "table_check",
]
