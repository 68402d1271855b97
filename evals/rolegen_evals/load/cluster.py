"""A PostgreSQL server of one's own for as long as a measurement takes: in a temporary folder, on a port of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rolegen_errors import ProjectError

_PLACES = "/usr/lib/postgresql"
_OWNER = "postgres"
"""who runs the server where we are root, as whom it refuses to run"""


def postgres_programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``, the newest one; None if PostgreSQL's server is not installed."""
    on_path = shutil.which("initdb")
    found = [*Path(_PLACES).glob("*/bin/initdb"), *([Path(on_path)] if on_path else [])]
    newest = max(found, key=lambda file: int(file.parts[-3]) if file.parts[-3].isdigit() else 0, default=None)
    return None if newest is None else newest.parent


@dataclass(frozen=True)
class Cluster:
    """A running server without passwords, on loopback."""

    programs: Path
    data: Path
    port: int

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{_OWNER}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database; returns its address."""
        self._run(
            "psql", "-h", "127.0.0.1", "-p", str(self.port), "-d", "postgres", "-c", f"CREATE DATABASE {database}"
        )
        return self.url(database)

    def start(self, *settings: str) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.data}"
        options += "".join(f" -c {setting}" for setting in settings)
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.data / "log"), "-o", options, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """``fast`` cuts all connections; ``immediate`` is the server's own kill -9."""
        self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", f"--reuid={_OWNER}", f"--regid={_OWNER}", "--clear-groups", *command]
        environment = {**os.environ, "PGUSER": _OWNER}
        # A server inherits its parent's output: read from a file, since a pipe would stay open as long as it runs.
        with (self.data.parent / "told").open("w+b") as told:
            done = subprocess.run(
                command, stdout=told, stderr=told, check=False, env=environment, cwd=self.data.parent, timeout=120
            )
            told.seek(0)
            if done.returncode:
                raise ProjectError(
                    f"{program} failed: {told.read().decode(errors='replace').strip()[-400:]}",
                    where=str(self.data),
                    fix="give the address of a running server instead: ROLEGEN_BENCH_POSTGRES=postgresql://…",
                )


@contextmanager
def own_cluster() -> Iterator[Cluster]:
    """A new server, stopped and removed at the end.

    Raises:
        ProjectError: PostgreSQL's server is not installed, or does not start.
    """
    with TemporaryDirectory(prefix="rolegen-pg-") as folder:
        cluster = _made(Path(folder))
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop("immediate")


@contextmanager
def kept_cluster(folder: Path, *settings: str) -> Iterator[Cluster]:
    """The server whose data lie in ``folder``, made on first use, and stopped in order at the end.

    Raises:
        ProjectError: PostgreSQL's server is not installed, or does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cluster = _made(folder)
    if (cluster.data / "postmaster.pid").exists():  # of a benchmark that was killed
        cluster.stop()
    cluster.start(*settings)
    try:
        yield cluster
    finally:
        cluster.stop()


def _made(folder: Path) -> Cluster:
    programs = postgres_programs()
    if programs is None:
        raise ProjectError(
            "PostgreSQL's server is not installed here",
            fix="install it (Debian: apt install postgresql), or set ROLEGEN_BENCH_POSTGRES=postgresql://…",
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if os.geteuid() == 0:
        shutil.chown(folder, _OWNER, _OWNER)
    cluster = Cluster(programs, folder.resolve() / "data", port)
    if not (cluster.data / "PG_VERSION").exists():
        cluster._run("initdb", "-D", str(cluster.data), "-A", "trust", "-U", _OWNER, "-N", "--no-instructions")
    return cluster
