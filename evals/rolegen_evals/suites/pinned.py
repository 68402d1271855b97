"""An observer that knows one case: what a decision on it may see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rolegen_errors import InputError
from rolegen_graphs.words import Observation


@dataclass(frozen=True)
class Pinned:
    """Answers for the user and time of its observation alone."""

    seen: Observation

    def observe(self, user: str, at: datetime) -> Observation:
        if (user, at) != (self.seen.trajectory.user, self.seen.trajectory.at):
            raise InputError("the case is of another decision", where=f"user {user}, at {at.isoformat()}")
        return self.seen
