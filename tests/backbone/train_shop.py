"""Train the planted shop in a process of its own: ``python -m tests.backbone.train_shop FOLDER CONFIG_AS_JSON``.

Says on stdout which stage and step it has reached, so that whoever started it can kill it there.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from rolegen_backbone.distributed import join

from .conftest import CONFIG, fit


def _say(stage: str, done: int, _total: int) -> None:
    sys.stdout.write(f"{stage} {done}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with join() as group:
        fit(Path(sys.argv[1]), config=replace(CONFIG, **json.loads(sys.argv[2])), progress=_say)
        _say(f"process {group.rank} of", group.size, 0)
