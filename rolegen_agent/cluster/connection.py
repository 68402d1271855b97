"""Joining a Ray cluster, and what a worker on another node needs to open the same project.

Ray keeps its own books of what it runs, and shows them on its dashboard and in its logs. Settings, and secrets among them, go
to the workers as an object of the cluster's memory, never as an argument or as a runtime environment.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rolegen_errors
from rolegen_errors import MissingExtraError, ProjectError, RoleGenError

if TYPE_CHECKING:
    from ..facade import RoleGen

LOCAL = "local"
"""the address of a cluster that is made of this machine, for the time of the command"""
Told = dict[str, str | None]
"""an error as plain values, see :func:`plain`"""
LOOPBACK = "127.0.0.2"
"""Ray takes 127.0.0.1 for a name of the machine's outer address"""
_OURS = ("ROLEGEN_", "OPENAI_", "OTEL_", "OPENINFERENCE_")
"""beginnings of the environment variables that say how a project is opened"""


@dataclass(frozen=True)
class Nodes:
    """What a cluster had when it was joined."""

    count: int
    cpus: int
    gpus: int
    here: str
    """id of the node on which the command runs"""


@contextmanager
def connected(address: str) -> Iterator[Nodes]:
    """Join the cluster at ``address`` for the block: ``local``, ``auto`` (the one that runs on this machine) or host:port.

    A program that has joined a cluster already stays in it, whatever the address.

    Raises:
        MissingExtraError: the extra ``ray`` is not installed.
        ProjectError: there is no cluster at that address, or it runs another version.
    """
    ray = require_ray()
    mine = not ray.is_initialized()
    with ExitStack() as stack:
        if mine:
            # Ray tells on stdout what becomes of its nodes, where a command's result belongs and nothing else.
            stack.enter_context(redirect_stdout(sys.stderr))
            _join(ray, address)
            stack.callback(ray.shutdown)
        total = ray.cluster_resources()
        yield Nodes(
            count=sum(node["Alive"] for node in ray.nodes()),
            cpus=int(total.get("CPU", 0)),
            gpus=int(total.get("GPU", 0)),
            here=ray.get_runtime_context().get_node_id(),
        )


def require_ray() -> Any:
    """The module ``ray``.

    Raises:
        MissingExtraError: it is not installed, or not with its parts for data and training.
    """
    try:
        import pyarrow  # noqa: F401
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingExtraError("ray", "ray") from error
    return ray


def _join(ray: Any, address: str) -> None:
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.WARNING}
    if address == LOCAL:
        # It lives as long as the command: nobody else may join it, and nobody is told that it was there.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"include_dashboard": False}
        if sys.platform == "linux":
            options["_node_ip_address"] = LOOPBACK
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ProjectError(
            f"the Ray cluster cannot be joined: {str(error).strip().partition(chr(10))[0]}",
            where=f"--ray {address}",
            fix="run this on a node of the cluster (`ray start --address=HOST:PORT`) with the versions of Ray and Python that "
            "it has, or use --ray local",
        ) from error


@dataclass(frozen=True)
class Site:
    """How the command opened its project, for workers to do the same."""

    root: Path
    overrides: Mapping[str, Mapping[str, object]]
    environment: Mapping[str, str]

    @classmethod
    def of(cls, shop: RoleGen) -> Site:
        """That of an opened project.

        Raises:
            ProjectError: it was given a chat model or parts that exist only in this process.
        """
        if not shop.spreads:
            raise ProjectError(
                "a chat model or parts that were handed over exist only in this process",
                fix="name them in rolegen.toml, [llm] and [parts] own, so that workers can make their own",
            )
        environment = {name: value for name, value in os.environ.items() if name.startswith(_OURS)}
        return cls(shop.project.root, shop.overrides or {}, environment)

    def open(self) -> RoleGen:
        """The project, in a worker. What the command's environment said outranks that of the node.

        Raises:
            ProjectError: this node does not see the project's folder.
        """
        from ..facade import RoleGen

        os.environ.update(self.environment)
        if not self.root.is_dir():
            raise unshared(self.root)
        return RoleGen.open(self.root, overrides=self.overrides)


def unshared(folder: Path) -> ProjectError:
    """The error of a node that does not see what the command sees."""
    return ProjectError(
        "a node of the cluster does not see the project's folder as the command sees it",
        where=f"{folder} on node {os.uname().nodename}",
        fix="put the project (rolegen.toml, .rolegen/, prompts) on a file system that all nodes mount at the same path",
    )


def require_shared_memory(shop: RoleGen, nodes: Nodes) -> None:
    """Refuse a memory that several nodes cannot write to.

    Raises:
        ProjectError: it is a SQLite file, and the cluster has more than one node.
    """
    if nodes.count > 1 and shop.project.memory_url.startswith("sqlite"):
        raise ProjectError(
            f"{nodes.count} nodes cannot write to one SQLite memory: its locks do not reach over a network",
            where=f"{shop.project.file}, [memory] url",
            fix="set ROLEGEN_MEMORY__URL=postgresql://… (pip install 'rolegen-agent[postgres]'), then `rolegen memory upgrade`",
        )


def plain(error: RoleGenError) -> Told:
    """An error as plain values, to be raised again where the command runs; Ray would wrap it in its own traceback."""
    return {"kind": type(error).__name__, "what": error.what, "where": error.where, "fix": error.fix}


def again(told: Told) -> RoleGenError:
    """The error that ``plain`` took apart; one of a kind that has a shape of its own comes back as its nearest relative."""
    kind = getattr(rolegen_errors, told["kind"] or "", RoleGenError)
    if kind is MissingExtraError:
        kind = ProjectError
    found: RoleGenError = kind(told["what"] or "", where=told["where"], fix=told["fix"])
    return found


def gist(error: BaseException) -> str:
    """What happened in a worker, in a line: Ray puts its own words and the worker's traceback around it."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"[:400]
    return str(error).strip().splitlines()[-1][:400] if str(error).strip() else type(error).__name__
