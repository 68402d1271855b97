"""A real Ray cluster of two nodes on loopback, in a process of its own: sockets of the test process reach no further than its tests.

Run as a program it says its address, then does what it reads: ``kill`` ends the second node as a machine ends that loses its power,
``add`` starts another one, and the end of the input ends everything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CPUS = 2
"""of each node; with one of them Ray Data would wait for ever"""
LOOPBACK = "127.0.0.2"
"""Ray takes 127.0.0.1 for a name of the machine's outer address"""
NOTICE = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
"""a dead node is noticed within seconds instead of half a minute"""


class RayCluster:
    """A handle to the process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._read()

    def kill_second_node(self) -> None:
        """SIGKILL to everything of the second node."""
        self._say("kill")

    def add_node(self) -> None:
        """Start another second node."""
        self._say("add")

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        assert self._read() == word

    def _read(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("> "):
                return line[2:].strip()
        raise AssertionError("the cluster ended by itself")


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """A running cluster; it is gone at the end."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.ray_cluster"],
        cwd=ROOT,
        env={**os.environ, **quiet, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield RayCluster(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(30)
            finally:
                process.kill()


def _serve() -> None:
    from ray.cluster_utils import Cluster

    def tell(word: str) -> None:
        sys.stdout.write(f"> {word}\n")
        sys.stdout.flush()

    options = {
        "node_ip_address": LOOPBACK,
        "num_cpus": CPUS,
        "object_store_memory": 200_000_000,
        "include_dashboard": False,
    }
    cluster = Cluster(initialize_head=True, head_node_args={**options, "_system_config": NOTICE})
    second = cluster.add_node(**options)
    tell(cluster.address)
    for line in sys.stdin:
        word = line.strip()
        if word == "kill":
            for processes in second.all_processes.values():
                for one in processes:
                    os.kill(one.process.pid, signal.SIGKILL)
            cluster.worker_nodes.discard(second)
        elif word == "add":
            second = cluster.add_node(**options)
        tell(word)
    cluster.shutdown()


if __name__ == "__main__":
    _serve()
