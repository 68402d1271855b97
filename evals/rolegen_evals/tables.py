"""Tables and figures of the pages, rendered from the files of results: none of them is typed by hand.

A page holds ``<!-- table: NAME -->``, the table, and ``<!-- /table -->``; ``tables.toml`` beside the results says what stands in it.
Within a sentence stands ``<!-- figure: RESULT KEY FORMAT -->0.25<!-- /figure -->``: a figure as ``format`` writes it (``.2f``, ``+.1%``), with
its interval where the result has one; ``seconds`` is a key too, and ``commit`` and ``machine``, which need no format.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rolegen_errors import InputError

from .results import Result

TABLES = "tables.toml"
_FIGURE = re.compile(
    r"(?P<begin><!-- figure: (?P<result>[\w-]+) (?P<key>\S+)(?: (?P<format>\S+))? -->).*?(?P<end><!-- /figure -->)",
    re.DOTALL,
)
_BLOCK = re.compile(r"(?P<begin><!-- table: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- /table -->)", re.DOTALL)


class Table(BaseModel):
    """What stands in one table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: str
    """name of the file, without ``.json``"""
    corner: str
    """above the names of the rows"""
    columns: Mapping[str, str]
    """``task.metric`` to heading"""
    rows: Mapping[str, str]
    """system to heading"""
    decimals: int = 3


def read_result(file: Path) -> Result:
    """A result as ``Result.write`` wrote it.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return Result(**json.loads(file.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise InputError(
            f"the result cannot be read: {error}", where=str(file), fix="rolegen bench NAME --json FILE"
        ) from error


def rendered(page: str, results: Path) -> str:
    """The page with every table and figure made anew from ``results``.

    Raises:
        InputError: a table, a result or a figure is missing.
    """
    tables = _tables(results / TABLES)

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in tables:
            raise InputError(f"no table is called {name!r}", where=str(results / TABLES), fix="describe it there")
        return found["begin"] + markdown(tables[name], results) + found["end"]

    def figure(found: re.Match[str]) -> str:
        said = _said(results / f"{found['result']}.json", found["key"], found["format"] or ".3f")
        return found["begin"] + said + found["end"]

    return _FIGURE.sub(figure, _BLOCK.sub(block, page))


def markdown(table: Table, results: Path) -> str:
    """One table."""
    figures = read_result(results / f"{table.result}.json").figures
    lines = ["| " + " | ".join([table.corner, *table.columns.values()]) + " |", "|---" * (1 + len(table.columns)) + "|"]
    for system, heading in table.rows.items():
        cells = [_cell(figures, column, system, table) for column in table.columns]
        lines.append("| " + " | ".join([heading, *cells]) + " |")
    return "\n".join(lines).replace("|  |", "| |") + "\n"


def write_tables(pages: Iterable[Path], results: Path) -> list[Path]:
    """Write the tables of the pages; returns those that changed."""
    changed = []
    for page in pages:
        text = page.read_text("utf-8")
        new = rendered(text, results)
        if new != text:
            page.write_text(new, "utf-8")
            changed.append(page)
    return changed


def _cell(figures: Mapping[str, float], column: str, system: str, table: Table) -> str:
    return _told(figures, f"{column}.{system}", f".{table.decimals}f", f"{table.result}.json")


def _said(file: Path, key: str, form: str) -> str:
    result = read_result(file)
    if key == "seconds":
        return format(result.seconds, form)
    return str(getattr(result, key)) if key in ("commit", "machine") else _told(result.figures, key, form, file.name)


def _told(figures: Mapping[str, float], key: str, form: str, where: str) -> str:
    """A figure in a format, and its interval where there is one."""
    if key not in figures:
        raise InputError(f"the result has no figure {key!r}", where=where, fix=f"mend {TABLES}, or the page")
    task, metric, system = key.split(".", 2)
    ends = [figures.get(f"{task}_interval.{metric}_{end}.{system}") for end in ("low", "high")]
    told = format(figures[key], form)
    low, high = (None if end is None else format(end, form) for end in ends)
    return told if low is None or high is None else f"{told} [{low}, {high}]"


def _tables(file: Path) -> dict[str, Table]:
    try:
        return {name: Table.model_validate(one) for name, one in tomllib.loads(file.read_text("utf-8")).items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError(f"the tables cannot be read: {error}", where=str(file)) from error
