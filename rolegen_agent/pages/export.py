"""Decisions as one HTML file that needs nothing outside itself: to keep, to send, to attach to a ticket."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rolegen_errors import InputError

from ..memory import Memory
from .decision import read_decision
from .links import Links
from .masking import Mask
from .security import digest_source
from .site import Site, Titles, nobody
from .static import asset


def write_export(
    path: Path, memory: Memory, users: Sequence[str], *, titles: Titles | None = None, mask: bool = False
) -> int:
    """Write the latest decisions on ``users``; returns how many. An earlier file is replaced only by a complete one.

    Raises:
        InputError: there is no decision on one of them.
    """
    site = Site(memory, titles or nobody, Mask(mask))
    keys = []
    for user in dict.fromkeys(users):
        found = memory.find_latest(user)
        if found is None:
            raise InputError(
                f"there is no decision on user {user[:80]!r}",
                where=memory.url,
                fix="run `rolegen awaken` first; `rolegen dormant` lists users",
            )
        keys.append(found)
    (_, style), (_, script) = asset("pages.css"), asset("pages.js")
    links = Links(mask=site.mask, included=set(keys))
    parts = []
    for key in keys:
        seen = read_decision(memory, key, site.titles)
        site.mask.about(seen.decision.user)
        shown = site.text("export_part.html.jinja", links, seen=seen, trace_link=None, exported=True, title="")
        parts.append((key, site.mask.user(seen.decision.user), seen.decision.at, shown))
    site.mask.about()
    policy = (
        f"default-src 'none'; style-src {digest_source(style)}; script-src {digest_source(script)}; base-uri 'none'"
    )
    whole = site.text(
        "export.html.jinja",
        links,
        parts=parts,
        style=style,
        script=script,
        policy=f"{policy}; form-action 'none'",
        exported=True,
        title="Why these users got these items" if len(parts) > 1 else f"Why {parts[0][1]} got these items",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(whole, "utf-8", newline="\n")
    os.replace(unfinished, path)  # noqa: PTH105  atomic on every platform
    return len(parts)
