"""Checkpoints of a training: one safetensors file that either is whole or is not there.

Weights and optimiser are tensors; where the training stands is JSON in the same file's header, so that the two cannot
come from different moments. A file is written beside its place and renamed, which a kill cannot tear.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rolegen_errors import ProjectError


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a module's state, all or nothing."""
    _save({name: tensor.detach() for name, tensor in model.state_dict().items()}, path, {})


def save_checkpoint(
    model: nn.Module, optimiser: torch.optim.Optimizer, path: Path, *, wanted: str, progress: dict[str, Any]
) -> None:
    """Write weights, optimiser state and ``progress`` (plain JSON values); ``wanted`` says which training it is."""
    tensors = {f"model.{name}": tensor.detach() for name, tensor in model.state_dict().items()}
    for number, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    _save(tensors, path, {"resume": json.dumps({"wanted": wanted, "progress": progress})})


def load_checkpoint(
    model: nn.Module, optimiser: torch.optim.Optimizer, path: Path, *, wanted: str
) -> dict[str, Any] | None:
    """Put weights and optimiser back and return ``progress``; None when there is no checkpoint.

    Raises:
        ProjectError: the training that stopped here had other settings or another log.
    """
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        found = json.loads(file.metadata()["resume"])
    if found.get("wanted") != wanted:
        raise ProjectError(
            "a training with other settings or on another log stopped here and cannot be resumed with these",
            where=str(path),
            fix="empty the folder (`rolegen train --force` does), or go on with the settings that it was begun with",
        )
    tensors = load_file(path)
    model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, number, slot = name.split(".", 2)
            state.setdefault(int(number), {})[slot] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    progress: dict[str, Any] = found["progress"]
    return progress


def _save(tensors: dict[str, Tensor], path: Path, header: dict[str, str]) -> None:
    part = path.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata=header)
    part.replace(path)
