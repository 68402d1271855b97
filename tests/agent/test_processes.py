"""Workers of a batch in several processes end with the command that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CALLER = """
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from os import getpid
from rolegen_agent.parenthood import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as pool:
        print(pool.submit(getpid).result(), flush=True)
        time.sleep(60)
"""


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A dead one that nobody has collected yet still has its number.
    return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text("utf-8")


def test_a_worker_whose_command_was_killed_ends_too(tmp_path: Path) -> None:
    script = tmp_path / "caller.py"
    script.write_text(CALLER, "utf-8")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        worker = int(caller.stdout.readline())
        assert alive(worker)
        caller.send_signal(signal.SIGKILL)
        end = time.monotonic() + 60
        while alive(worker):
            assert time.monotonic() < end, "it waits for work that will never come"
            time.sleep(0.01)
