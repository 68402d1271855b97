"""Processes that train together under ``torchrun``: who takes part, and sums over all of them.

Without ``torchrun`` there is one process and every sum is already complete, so callers need no second code path.
Processes talk over gloo on CPUs and over NCCL on GPUs, one GPU each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from rolegen_errors import ProjectError

PATIENCE = timedelta(hours=24)
"""the first process alone runs the last stages, which may ask a slow reasoner, while the others wait"""

DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Group:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, reports and runs what is not shared out."""
        return self.rank == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes; all must pass the same shapes, dtypes and device."""
        if self.size == 1 or not tensors:
            return
        # One message instead of one for each tensor.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def agree(self, value: int) -> bool:
        """Whether all processes passed the same number below 2**62."""
        if self.size == 1:
            return True
        both = torch.tensor([value, -value], device=_talking())
        dist.all_reduce(both, op=dist.ReduceOp.MAX)
        return both.tolist() == [value, -value]

    def wait(self) -> None:
        """Return once every process has come here."""
        if self.size > 1:
            dist.barrier()


ALONE = Group()


def joined() -> Group:
    """The group that this process has joined, else :data:`ALONE`."""
    if dist.is_available() and dist.is_initialized():
        return Group(dist.get_rank(), dist.get_world_size())
    return ALONE


@contextmanager
def join() -> Iterator[Group]:
    """Join the processes that ``torchrun`` started; without them, or within another ``join``, nothing changes.

    Raises:
        ProjectError: there are several processes and this build of torch has no ``torch.distributed``.
    """
    if joined().size > 1:
        yield joined()
    elif int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
    else:
        if not dist.is_available():
            raise ProjectError(
                "this build of torch cannot train with several processes",
                fix="start without torchrun, or install a torch that has torch.distributed",
            )
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
        try:
            yield joined()
        finally:
            dist.destroy_process_group()


def _talking() -> torch.device:
    """Where tensors must lie to be sent."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def choose_device(name: DeviceName) -> torch.device:
    """``auto`` is a GPU where torch sees one; under ``torchrun`` each process takes its own.

    Raises:
        ProjectError: a GPU was asked for and torch sees none, or fewer than there are processes.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if number >= torch.cuda.device_count():
        raise ProjectError(
            f"process {number} has no GPU: torch sees {torch.cuda.device_count()}",
            fix="set [backbone] device to cpu, start fewer processes, or install a torch built for the GPU",
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
