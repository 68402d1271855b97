"""The benchmarks by name. Each is a function of folder, data, quick and progress that returns a ``Result``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from rolegen_errors import ProjectError

from .results import Result

Progress = Callable[[str, int, int], None]


class Benchmark(Protocol):
    """What ``rolegen bench NAME`` runs."""

    def __call__(self, *, data: Path | None, quick: bool, progress: Progress) -> Result:
        """``data``: folder of data sets that are not shipped; ``quick``: at most a minute, for the shape only."""
        ...


def demo(*, data: Path | None, quick: bool, progress: Progress) -> Result:
    """The demo's own table, from scratch in a folder of its own."""
    from .demo import run_demo

    with TemporaryDirectory() as folder:
        finished = run_demo(Path(folder), progress=progress, quick=quick)
        finished.shop.close()
        return finished.result("demo")


BENCHMARKS: Mapping[str, Benchmark] = {"demo": demo}


def run(name: str, *, data: Path | None, quick: bool, progress: Progress) -> Result:
    """Run one benchmark.

    Raises:
        ProjectError: there is none of that name.
    """
    if name not in BENCHMARKS:
        raise ProjectError(f"there is no benchmark {name!r}", fix=f"the benchmarks are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name](data=data, quick=quick, progress=progress)
