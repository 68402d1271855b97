"""``rolegen bench all``: every benchmark into one folder of results. What was measured at this commit is not measured again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from rolegen_errors import InputError, RoleGenError

from .bench import BENCHMARKS, Order, run
from .results import commit
from .tables import read_result

NEED_DATA = ("beauty",)
"""benchmarks on data that is not shipped"""


@dataclass
class Regenerated:
    """What became of each benchmark."""

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """measured at this commit before"""
    failed: dict[str, str] = field(default_factory=dict)
    """why"""


def run_all(
    order: Order, results: Path, *, only: Collection[str] = (), tell: Callable[[str], None] = lambda said: None
) -> Regenerated:
    """Run each benchmark with the data folder, size and progress of ``order``, and write ``results/NAME.json``.

    One that fails does not stop the others. A commit with local changes is never taken for done.

    Raises:
        InputError: ``only`` names a benchmark that does not exist.
    """
    unknown = sorted(set(only) - set(BENCHMARKS))
    if unknown:
        raise InputError(f"there is no benchmark {', '.join(unknown)}", fix=f"choose from {', '.join(BENCHMARKS)}")
    found, here = Regenerated(), commit()
    for name in BENCHMARKS:
        file = results / f"{name}.json"
        if only and name not in only:
            continue
        if not here.endswith("+") and file.is_file() and here.startswith(read_result(file).commit):
            found.kept.append(name)
            continue
        if name in NEED_DATA and order.data is None:
            found.failed[name] = "needs --data DIR"
            continue
        tell(name)
        try:
            run(name, replace(order, work=None)).write(file)
        except RoleGenError as error:
            found.failed[name] = str(error)
        else:
            found.written.append(name)
    return found
