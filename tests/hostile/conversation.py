"""What a model was sent, taken apart: the instructions, the fenced data, and the grammar that each record must keep."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from rolegen_graphs.words import ROLES

_FENCED = re.compile(r"^<<<([a-z_]+)\n(.*?)\n\1>>>$", re.MULTILINE | re.DOTALL)
_ROLE = "|".join(ROLES)
_DAY = r"\d{4}-\d\d-\d\d"
_NUMBER = r"-?[\d.]+(?:e[+-]?\d+)?"
_STATISTIC = rf"[a-z_.]+ {_NUMBER} \[{_NUMBER}, {_NUMBER}\] n=\d+, no effect = {_NUMBER}, (?:effect|association)"
_INTENT = r"(?:none|browsing|comparing|deciding|satisfied)(?: in [^|]*)?(?: \([^|]*\))?"
_SPEC = rf'(?:{_ROLE})(?: in [^|"]*)?(?:, (?:from )?[\d.]+(?: to [\d.]+)?)?: "[^"|]*"'
_EVENT = re.compile(
    rf'  \[(\d+)\] (?:expose|view|cart|order|refund), {_NUMBER}(?: x \d+\.\d\d)? \| [^|"]+ \| "[^"|]*"'
    rf"(?: \| (?:{_ROLE}): {_STATISTIC}(?:; (?:{_ROLE}): {_STATISTIC})*)?"
)
_MORE = re.compile(r"  and (\d+) more: .+")
_FOLD = re.compile(rf"{_DAY}(?: to {_DAY})?(?:, \d+ visits)?: (\d+) events: .+")
_HEAD = re.compile(
    r"(\d+) events in the log: (\d+) shown with an id, (\d+) folded(?: \(\d+ of them with evidence\))?, "
    r"(\d+) left out; \d+ order days"
)
LINES: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "categories": r".+",
        "lessons": r"- \((?:user|cohort|all); \d+ outcomes for it, \d+ against\) .+|\(none\)",
        "past_decisions": rf"- {_DAY}: \d+ items shown, .+|\(none\)",
        "corrections": r"- [a-z_]+(?: \([^)]*\))?: .+|\(none\)",
        "findings": r"- [a-z_]+(?: \([^)]*\))?: .+",
        "reading": rf'\[\d+\] (?:{_ROLE}) \([01]\.\d\d\) "[^"|]*" \| before: {_INTENT}; after: {_INTENT} \| [^|]*'
        rf"(?: \| log: {_STATISTIC})?|intent now: {_INTENT}",
        "paths": rf"path \d+: (?:insert|replace|remove)(?: of event \[\d+\])?: .*|  \d\. {_SPEC} \| [^|]*"
        r"|  change of conversion: (?:[+-][\d.]+ \[[+-][\d.]+, [+-][\d.]+\]|not measured)",
        "rejected": rf"\d+\. {_SPEC} \| rejected: [^|]*",
        "problems": r"- .+|not (?:valid|usable) JSON: .+",
    }.items()
}
"""what each line of a block may look like: a text that forges a record or breaks one in two fails here"""


def fences(content: str) -> dict[str, list[str]]:
    """The lines of each block of data, by its name."""
    return {name: data.split("\n") for name, data in _FENCED.findall(content)}


def skeleton(content: str) -> str:
    """What is said outside the data: the instructions, with the name of each block in its place."""
    return _FENCED.sub(r"(\1)", content)


def disturbing(text: str) -> set[str]:
    """Characters that no quoted data may hold: those of fences, tags and code blocks, and all that is no visible sign."""
    return {char for char in text if char in "<>`" or (unicodedata.category(char)[0] == "C" and char != "\n")}


def events_of(lines: list[str], total: int) -> list[int]:
    """The event ids of a rendered history; every line has its form, and the counts add up to ``total``."""
    assert lines[0].startswith("decision time ") and lines[1].startswith("dormant because: ")
    head = _HEAD.fullmatch(lines[2])
    assert head, lines[2]
    shown: list[int] = []
    folded = 0
    for line in lines[3:]:
        if event := _EVENT.fullmatch(line):
            shown.append(int(event[1]))
        elif counted := _MORE.fullmatch(line) or _FOLD.fullmatch(line):
            folded += int(counted[1])
        else:
            assert re.fullmatch(rf"{_DAY}(?: \d\d:\d\d)? \(\d+ days before\)", line), f"no record: {line!r}"
    assert [int(number) for number in head.groups()] == [total, len(shown), folded, total - len(shown) - folded]
    return shown


def messages(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(speaker, content) of each turn of a request."""
    return [(one["role"], one["content"]) for one in body["messages"]]
