"""The one language of benchmarks: named figures with the commit and the machine that they were measured on.

The file is ``{"name", "commit", "machine", "seconds", "figures": {"task.metric.system": number}}``.
Task and metric hold no dot; the system is the rest, so that a model's version number may stand in it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from rolegen_errors import InputError


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one benchmark measured.

    Raises ``InputError`` for a key that is not ``task.metric.system`` and for a figure that is no finite number.
    """

    name: str
    commit: str
    machine: str
    seconds: float
    figures: Mapping[str, float]

    def __post_init__(self) -> None:
        for key, figure in self.figures.items():
            if len([part for part in key.split(".", 2) if part]) != 3:
                raise InputError(
                    f"figure {key!r} of benchmark {self.name!r} is not named 'task.metric.system'",
                    fix="name it like 'all.hit1.popularity'",
                )
            if not math.isfinite(figure):
                raise InputError(
                    f"figure {key!r} of benchmark {self.name!r} is {figure}",
                    fix="leave out what could not be measured, and say why in the log",
                )

    def write(self, path: Path) -> None:
        """Write the JSON file; figures keep their order."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def show(self, console: Console | None = None) -> None:
        """Print one table per task: a row for each system, a column for each metric; or the other way round where that is too
        wide to be read."""
        console = console or Console()
        for task in dict.fromkeys(key.split(".", 2)[0] for key in self.figures):
            table = self._table(task)
            wide = Measurement.get(console, console.options.update(width=1_000), table).maximum
            console.print(table if wide <= console.width else self._table(task, turned=True))
        console.print(f"{self.name}: {self.seconds:.1f} s on {self.machine}, commit {self.commit}", style="dim")

    def _table(self, task: str, *, turned: bool = False) -> Table:
        parts = {tuple(key.split(".", 2)): figure for key, figure in self.figures.items()}
        mine = {(metric, system): figure for (name, metric, system), figure in parts.items() if name == task}
        metrics = list(dict.fromkeys(metric for metric, _ in mine))
        systems = list(dict.fromkeys(system for _, system in mine))
        down, across = (metrics, systems) if turned else (systems, metrics)
        table = Table(title=task, title_justify="left", title_style="bold")
        table.add_column("metric" if turned else "system")
        for one in across:
            table.add_column(one, justify="right")
        for row in down:
            cells = [mine.get((row, one) if turned else (one, row)) for one in across]
            table.add_row(row, *("" if cell is None else _shown(cell) for cell in cells))
        return table


def _shown(figure: float) -> str:
    """Four digits, and never an exponent where a number of things is meant."""
    return f"{figure:,.0f}" if abs(figure) >= 1_000 else f"{figure:.4g}"


def commit() -> str:
    """The commit of the checkout that this code runs from, ``+`` when it has local changes; else the version.

    An installed package inside somebody else's repository does not report their commit.
    """
    here = Path(__file__).resolve()
    top = _git(here.parent, "rev-parse", "--show-toplevel")
    if top is None or here != Path(top).resolve() / "evals" / "rolegen_evals" / "results.py":
        return version("rolegen-agent")
    head = _git(here.parent, "rev-parse", "--short=12", "HEAD")
    if head is None:  # a repository without a commit
        return version("rolegen-agent")
    return head + ("+" if _git(Path(top), "status", "--porcelain", "--untracked-files=no") else "")


def machine() -> str:
    """The machine in words that name no host, such as ``2 cores, 24 GiB, CPU`` or ``16 cores, 128 GiB, NVIDIA H200``."""
    import torch  # heavy, and not needed to read or print a result

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    words = [f"{cores} core{'s' if cores > 1 else ''}"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        words.append(f"{round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30)} GiB")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if gpus:
        words.append(gpus[0] if len(gpus) == 1 else f"{len(gpus)} x {gpus[0]}")
    else:
        words.append("CPU")
    return ", ".join(words)


def _git(folder: Path, *arguments: str) -> str | None:
    """The trimmed output of a git command; None when there is no git or no repository here."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
