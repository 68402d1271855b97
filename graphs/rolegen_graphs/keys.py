"""Natural keys: what identifies a decision wherever it is stored, logged or linked."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from rolegen_errors import InputError


def decision_id(run: str, user: str, at: datetime) -> str:
    """Digest of (run, user, at): the first 32 hex digits of sha256 over their JSON array, with ``at`` in UTC.

    A JSON array keeps the three parts apart, so that no two keys share an encoding; two spellings of one instant
    (other time zones) give one id. Raises ``InputError`` for a naive ``at``.
    """
    if at.tzinfo is None:
        raise InputError(
            "a decision time has no time zone", where=f"user {user!r}, at {at}", fix="pass an aware datetime"
        )
    moment = at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(json.dumps([run, user, moment]).encode("ascii")).hexdigest()[:32]
