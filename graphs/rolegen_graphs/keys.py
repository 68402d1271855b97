"""Natural keys: what identifies a decision wherever it is stored, logged or linked."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime


def decision_id(run: str, user: str, at: datetime) -> str:
    """32 hexadecimal digits for (run, user, at): the same decision has the same id on every machine and every day."""
    text = json.dumps([run, user, at.astimezone(UTC).isoformat()], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
