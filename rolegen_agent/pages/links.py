"""Addresses of pages: one place where each is made, so that everything has one and all of them go on working when mounted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from ..memory.browsing import Digest
from .masking import Mask


class Address(str):
    """An address is printed whole, however long it is."""


@dataclass(frozen=True)
class Links:
    """Links below ``base``; in an export (``included`` is given) only to decisions that are part of it."""

    base: str = ""
    mask: Mask = field(default_factory=Mask)
    included: Collection[str] | None = None

    def decision(self, key: str) -> Address:
        if self.included is not None:
            return Address(f"#d-{key}" if key in self.included else "")
        return Address(f"{self.base}/decisions/{quote(key, safe='', errors='replace')}")

    def user(self, user: str, decision: str) -> Address:
        """A masked page may not name the user: there the page is found by one of the decisions."""
        return self._page("users", of=decision) if self.mask.on else self._page("users", id=user)

    def overview(self, **filters: object) -> Address:
        return self._page("", **filters)

    def lessons(self, lesson: str = "") -> Address:
        return self._page("lessons", id=lesson)

    def prompts(self, name: str = "", version: str = "", hash: str = "") -> Address:
        return self._page("prompts", name=name, version=version, hash=hash)

    def compare(self, a: str = "", b: str = "") -> Address:
        return self._page("compare", a=a, b=b)

    def other(self, line: Digest, other: Digest) -> Address:
        return self.compare(line.decision, other.decision)

    def static(self, name: str) -> Address:
        return Address(f"{self.base}/static/{name}")

    def _page(self, page: str, /, **given: object) -> Address:
        if self.included is not None:
            return Address("")
        query = urlencode({key: value for key, value in given.items() if value not in (None, "")}, errors="replace")
        return Address(f"{self.base}/{page}" + (f"?{query}" if query else ""))
