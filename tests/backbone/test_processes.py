"""Training in real processes: killed by the system, and shared out by torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"epochs": 2, "shards": 2, "checkpoint_steps": 3}
"""two shards: what two processes would cut a batch into"""


def command(folder: Path, launcher: list[str]) -> list[str]:
    return [sys.executable, *launcher, "-m", "tests.backbone.train_shop", str(folder), json.dumps(SETTINGS)]


def environment() -> dict[str, str]:
    # gloo looks up the host's name otherwise, which need not lead to the loopback.
    return os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}


def train_apart(folder: Path, *launcher: str) -> str:
    done = subprocess.run(
        command(folder, list(launcher)), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "backbone.safetensors")


def report(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "backbone.json").read_text())
    return manifest["report"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that one process ran to its end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train_apart(folder)
    return folder


@pytest.mark.parametrize(
    ("moment", "again_from"), [("train 8", 7), ("candidates 2", None)], ids=["within an epoch", "in a later stage"]
)
def test_kill_9_and_the_same_command_give_the_same_model(
    undisturbed: Path, tmp_path: Path, moment: str, again_from: int | None
) -> None:
    with subprocess.Popen(
        command(tmp_path, []), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == moment:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "backbone.json").exists()
    said = train_apart(tmp_path).splitlines()
    later = next(number for number, line in enumerate(said) if line.startswith("candidates "))
    steps = [int(line.split()[1]) for line in said[:later] if line.startswith("train ")]
    # It went on from the last checkpoint (or from one more, if the kill came late) and did not begin again.
    assert steps[0] >= again_from if again_from else not steps, steps
    mine, theirs = weights(tmp_path), weights(undisturbed)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert report(tmp_path) == report(undisturbed)


def test_two_processes_learn_what_one_learns_from_the_same_batches(undisturbed: Path, tmp_path: Path) -> None:
    said = train_apart(tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert {"process 0 of 2", "process 1 of 2"} <= set(said.splitlines())
    one, two = (np.array(report(folder)["curve"]) for folder in (undisturbed, tmp_path))
    assert one.shape == (SETTINGS["epochs"], 2)
    assert two == pytest.approx(one, abs=1e-5)
    mine, theirs = weights(tmp_path), weights(undisturbed)
    for name, tensor in theirs.items():
        if not name.startswith(
            ("gate", "candidate", "role_in", "outcome")
        ):  # of the stages that start from these weights
            assert torch.allclose(mine[name], tensor, atol=1e-4), name
