"""A small real shop: one customer in ten of the bundled log, ingested and trained once, and copied by whoever changes it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import torch

from rolegen_agent.cli import main, show
from rolegen_agent.facade import RoleGen
from rolegen_agent.ingest import bundled_log

AT = "2011-09-01"
LOG = "log.parquet"
PROJECT = f"""\
[data]
preset = "online_retail_ii"
events = "{LOG}"
currency = "GBP"
[backbone]
epochs = 1
width = 16
layers = 1
history = 16
codebook = 16
max_read = 300
max_spells = 1000
"""


def write_project(folder: Path, log: pl.DataFrame, more: str = "") -> Path:
    """A project folder over ``log`` (columns of the bundled one), with a model so small that it learns in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    log.write_parquet(folder / LOG)
    (folder / "rolegen.toml").write_text(PROJECT + more, "utf-8")
    return folder


def small_log(one_in: int = 10) -> pl.DataFrame:
    """The bundled log of one customer in ``one_in``, with its original columns."""
    return pl.scan_parquet(bundled_log()).filter(pl.col("CustomerID") % one_in == 0).collect()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained project. It is shared by all tests and all workers: read it, never write to it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the workers of one run share it
    folder = base / "shop"
    with (base / "shop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            torch.set_num_threads(1)  # sums in another order differ in their last bits, and with them the model
            with RoleGen.open(write_project(folder, small_log())) as shop:
                shop.ingest()
                shop.train(AT)
            (folder / "ready").touch()
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained project to do anything to."""
    return Path(shutil.copytree(trained, tmp_path / "shop"))


@pytest.fixture
def shop(project: Path) -> Iterator[RoleGen]:
    """That copy, opened."""
    with RoleGen.open(project) as opened:
        yield opened


class Command:
    """Runs ``rolegen`` as a user does, in a folder and with an environment of its own."""

    def __init__(self, python: str, folder: Path) -> None:
        self.program = [str(Path(python).parent / "rolegen")]
        self.folder = folder

    def __call__(
        self, *arguments: str, environment: Mapping[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.program, *arguments],
            cwd=self.folder,
            env=self._environment(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    @contextmanager
    def started(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
        """The command under way; it is killed at the end of the block if it still runs."""
        process = subprocess.Popen(
            [*self.program, *arguments],
            cwd=self.folder,
            env=self._environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)

    @staticmethod
    def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
        # A fixed width keeps sentences on one line, so that a test can look for them.
        return {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **(more or {})}


@pytest.fixture
def rolegen(python: str, tmp_path: Path) -> Command:
    """The command line, started in the test's folder."""
    return Command(python, tmp_path)


@dataclass
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class Line:
    """The same command line without a process of its own, for the many cases in which starting one is all that it costs."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._capture, self._monkeypatch = folder, capture, monkeypatch
        monkeypatch.chdir(folder)
        for console in (show.out, show.err):
            monkeypatch.setattr(console, "_width", 200)

    def __call__(self, *arguments: str) -> Done:
        self._capture.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["rolegen", *arguments])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        told = self._capture.readouterr()
        return Done(code, told.out, told.err)


@pytest.fixture
def line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Line:
    """The command line within this process, in the test's folder."""
    return Line(tmp_path, capsys, monkeypatch)


def users_at(folder: Path, count: int) -> Sequence[str]:
    """The first ``count`` dormant users of the shop."""
    with RoleGen.open(folder) as shop:
        return [str(user) for user in shop.dormant(AT)["user"].head(count).to_list()]
