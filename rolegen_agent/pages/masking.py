"""Masked pages: who a user is does not show, so that a trace can be shown to others.

A user stands under a name that this process makes up and forgets; times of events become months; prompts and answers, which
quote a whole history, are left out. Titles, roles, paths and figures stay, since a trace without them explains nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime

_CURRENT: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("rolegen_masked_users", default=())
_SHORTEST = 3
"""an id of one or two characters stands in other words by chance"""


@dataclass(frozen=True)
class Mask:
    """How pages name users and tell times; ``on`` False leaves everything as it is."""

    on: bool = False
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)

    def user(self, user: str) -> str:
        """The name under which a user stands on pages."""
        if not self.on:
            return user
        return "user-" + hmac.new(self._key, user.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:8]

    def about(self, *users: str) -> None:
        """Say whom the page that is being made is about: their ids are then masked in every text on it."""
        _CURRENT.set(tuple((user, self.user(user)) for user in users if self.on and len(user) >= _SHORTEST))

    @staticmethod
    def text(text: str) -> str:
        """A text without the ids of the page's users."""
        for user, name in _CURRENT.get():
            text = text.replace(user, name)
        return text

    def day(self, at: datetime) -> str:
        """The day of an event, or its month."""
        return at.strftime("%Y-%m" if self.on else "%Y-%m-%d")
