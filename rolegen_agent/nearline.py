"""Nearline runs: questions go out as files for OpenAI's Batch API, and answers come back as files, a step at a time.

The loop asks step by step, so a run takes several rounds of export, batch and import. An export takes each decision as far
as the remembered answers go: a complete one is recorded as by ``rolegen awaken``, any other one waits, and what it would
ask next is written. When an export writes nothing, everybody is decided. Nothing here opens a connection to a model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rolegen_errors import InputError, ProjectError
from rolegen_prompts import estimate_tokens

from .batch import AwakenReport, awaken
from .llm.nearline import Collector, Result, read_result

if TYPE_CHECKING:
    from threading import Event

    from .assembly import Assembly
    from .llm.prices import Price
    from .memory import Memory

LONGEST_LINE = 16 * 2**20
"""bytes; a longer line is no answer"""
_SHOWN = 5


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote, and how far the run is."""

    run: str
    file: str
    requests: int
    """lines written: distinct requests without an answer"""
    users: int
    earlier: int
    decided: int
    """decisions that became complete and were recorded now"""
    waiting: int
    """decisions that wait for an answer"""
    left: int
    """not decided yet, the waiting ones included"""
    fallbacks: int
    budget_met: str
    """why no more requests were written; empty if all were"""


@dataclass(frozen=True)
class ImportReport:
    """What an import read. ``lines = answered + failed + known + bad``."""

    lines: int
    answered: int
    failed: int
    """lines with an error instead of an answer; the next export asks again"""
    known: int
    """lines whose request had been answered before: nothing changed"""
    bad: int
    """lines left out because they are not understood or belong to no request of this memory"""
    estimated: int
    """answers without usage, whose tokens are estimates"""
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    """None when the model's price is not known"""


def export_batch(
    assembly: Assembly,
    memory: Memory,
    users: Sequence[str],
    at: datetime,
    file: Path,
    *,
    attempts: int,
    price_share: float = 1.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Event | None = None,
) -> ExportReport:
    """Take the decisions on ``users`` as far as memory's answers go, and write what is to be asked next to ``file``.

    Args:
        attempts: batches in which one request may fail before the evidence reasoner stands in for its answer.
        price_share: share of the model's price that a batch costs, for budgets in dollars.

    Raises:
        ProjectError: no LLM is involved, or its requests are not in OpenAI's format.
        InputError: the file cannot be written.
    """
    if assembly.client is None:
        raise ProjectError("without an LLM there is nothing to ask", fix="use `--reasoner llm` or [reasoner] kind")
    collector = Collector(assembly.client, memory, attempts=attempts, price_share=price_share)
    parts = assembly.asking(collector)
    report: AwakenReport = awaken(
        assembly, memory, users, at, workers=1, checkpoints=None, progress=progress, stop=stop, parts=parts
    )
    draft = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="ascii", newline="\n") as target:
            target.writelines(f"{line}\n" for line in collector.lines.values())
        draft.replace(file)
    except OSError as error:
        raise InputError(
            f"the batch cannot be written: {error}",
            where=str(file),
            fix="name another place, and give the command again: what is outstanding is written again",
        ) from error
    return ExportReport(
        run=report.run,
        file=str(file),
        requests=len(collector.lines),
        users=report.wanted,
        earlier=report.earlier,
        decided=report.decided,
        waiting=report.waiting,
        left=report.left,
        fallbacks=report.fallbacks,
        budget_met=report.budget_met,
    )


def import_batch(
    memory: Memory,
    file: Path,
    *,
    price: Price | None,
    price_share: float = 1.0,
    skip_bad_lines: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ImportReport:
    """Read the results of a batch into the call log; reading a file twice changes nothing.

    Args:
        price: of the model, per token online.
        price_share: share of it that a batch costs.
        skip_bad_lines: count bad lines and read the others; else one bad line means that nothing is read.

    Raises:
        InputError: the file cannot be read, or has bad lines.
    """
    bad: list[str] = []
    total = 0
    for number, line in _lines(file):
        total += 1
        try:
            if memory.find_request(read_result(line).custom_id) is None:
                raise InputError("its custom_id belongs to no request of this memory")
        except InputError as error:
            bad.append(f"line {number}: {error.what}")
    if bad and not skip_bad_lines:
        raise InputError(
            f"{len(bad):,} of {total:,} lines are no answers to requests of this project; nothing was read",
            where="\n         ".join([str(file), *bad[:_SHOWN], *(["…"] if len(bad) > _SHOWN else [])]),
            fix="is it the output file of a batch that `rolegen batch export` wrote? --skip-bad-lines reads the others",
        )
    counts = dict.fromkeys(("answered", "failed", "known", "estimated", "input_tokens", "output_tokens"), 0)
    cost = 0.0 if price is not None else None
    for done, (_, line) in enumerate(_lines(file), 1):
        try:
            result = read_result(line)
        except InputError:
            continue  # stands in ``bad``, with its line
        used = _keep(memory, result, price, price_share)
        if used is not None:
            for name, more in used.items():
                counts[name] += more
            if cost is not None and price is not None:
                cost += price_share * price.cost(used.get("input_tokens", 0), used.get("output_tokens", 0))
        progress(done, total)
    return ImportReport(lines=total, bad=len(bad), cost_usd=cost, **counts)


def _keep(memory: Memory, result: Result, price: Price | None, share: float) -> dict[str, int] | None:
    """Record one result and settle its budget; counts of what it was, None where its request is not known."""
    found = memory.find_request(result.custom_id)
    if found is None:
        return None
    call, run = found
    if not call.error:
        return {"known": 1}
    tokens = result.usage or ((call.input_tokens, estimate_tokens(result.raw)) if result.raw else (0, 0))
    settled = call.model_copy(
        update={
            "raw": result.raw,
            "error": result.error,
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
            "cost_usd": None if price is None else share * price.cost(*tokens),
            "at": datetime.now(UTC),
        }
    )
    if not memory.settle_call(settled, run):
        return {"known": 1}  # another import was at the same file
    return {
        "failed" if result.error else "answered": 1,
        "estimated": int(not result.error and result.usage is None),
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
    }


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank; a line that is too long comes as an empty object."""
    try:
        with file.open("rb") as source:
            number = 0
            while line := source.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    while line and not line.endswith(b"\n"):
                        line = source.readline(LONGEST_LINE)
                    yield number, json.dumps("too long")
                elif text := line.decode("utf-8", "replace").strip():
                    yield number, text
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}", where=str(file)) from error
