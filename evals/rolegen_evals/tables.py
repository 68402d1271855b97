"""Tables of the pages, rendered from the files of results: no figure in a table is typed by hand.

A page holds ``<!-- table: NAME -->``, the table, and ``<!-- /table -->``; ``tables.toml`` beside the results says what stands in it.
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
    """The page with every table made anew from ``results``.

    Raises:
        InputError: a table, a result or a figure is missing.
    """
    tables = _tables(results / TABLES)

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in tables:
            raise InputError(f"no table is called {name!r}", where=str(results / TABLES), fix="describe it there")
        return found["begin"] + markdown(tables[name], results) + found["end"]

    return _BLOCK.sub(block, page)


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
    key = f"{column}.{system}"
    if key not in figures:
        raise InputError(f"the result has no figure {key!r}", where=f"{table.result}.json", fix=f"mend {TABLES}")
    task, metric = column.split(".")
    ends = [figures.get(f"{task}_interval.{metric}_{end}.{system}") for end in ("low", "high")]
    told = f"{figures[key]:.{table.decimals}f}"
    return told if None in ends else f"{told} [{ends[0]:.{table.decimals}f}, {ends[1]:.{table.decimals}f}]"


def _tables(file: Path) -> dict[str, Table]:
    try:
        return {name: Table.model_validate(one) for name, one in tomllib.loads(file.read_text("utf-8")).items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError(f"the tables cannot be read: {error}", where=str(file)) from error
