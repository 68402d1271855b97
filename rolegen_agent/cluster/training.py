"""Train on a Ray cluster: Ray Train starts the processes, and they run the training that ``torchrun`` runs.

A worker that dies takes its group with it; Ray starts the group again, and the training goes on from its own checkpoint in the
project's folder, as it does under ``torchrun``. Role evidence is then read by tasks (see ``evidence.py``).
"""

from __future__ import annotations

import time
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from rolegen_errors import ProjectError, RoleGenError

from ..artefacts import before, begin, learn_evidence, train
from ..facade import Progress, RoleGen
from ..project import moment
from .connection import Nodes, Site, again, connected, gist, plain, require_shared_memory
from .desk import LOOK_S, Desk, Word
from .evidence import users_on_ray

FAILURES = 3
"""times that a group of workers is started again"""


def train_on_ray(
    shop: RoleGen,
    at: datetime | str,
    *,
    address: str,
    progress: Progress,
    force: bool = False,
    workers: int | None = None,
) -> Path:
    """As :meth:`RoleGen.train`, by workers on the nodes of the cluster at ``address``, see :func:`connected`.

    With the same ``[backbone] batch`` and ``shards`` the loss curve is that of one process.

    Args:
        workers: processes of the training; None takes one for each GPU of the cluster, or where it has none each node.

    Raises:
        RoleGenError: what a training raises.
        ProjectError: the nodes do not share the project or the memory; or a training failed again and again.
    """
    when, project = moment(at), shop.project.require_store()
    site = Site.of(shop)
    folder = begin(project, when, force=force)
    with connected(address) as nodes:
        require_shared_memory(shop, nodes)
        if not (folder / "backbone" / "backbone.json").exists():
            on_gpus = project.settings.backbone.device != "cpu" and nodes.gpus > 0
            _fit(site, when, nodes, on_gpus, workers or (nodes.gpus if on_gpus else nodes.count), progress)
        if not (folder / "evidence" / "manifest.json").exists():
            events, items = before(project, when)
            reader = users_on_ray(project.events, nodes, lambda done, total: progress("evidence", done, total))
            learn_evidence(project, events, items, when, folder / "evidence", reader=reader)
    return shop.remember_training(folder, when)


def _fit(site: Site, at: datetime, nodes: Nodes, on_gpus: bool, workers: int, progress: Progress) -> None:
    """The backbone, fitted by a group of workers."""
    import ray
    from ray.exceptions import RayError
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    from rolegen_backbone.distributed import PATIENCE

    desk = Desk.on(nodes)
    trainer = TorchTrainer(
        # Not by ``train_loop_config``, which Ray writes into its own records.
        partial(_learn, ray.put(site), at, desk),
        torch_config=TorchConfig(timeout_s=int(PATIENCE.total_seconds())),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=on_gpus,
            resources_per_worker={"CPU": 1, "GPU": 1} if on_gpus else {"CPU": 1},
            placement_strategy="SPREAD",
        ),
        run_config=RunConfig(
            name=f"{at:%Y-%m-%d}-{time.time_ns()}",
            storage_path=str(site.root / ".rolegen" / "ray"),
            failure_config=FailureConfig(max_failures=FAILURES),
        ),
    )

    def look(words: dict[str, Word]) -> None:
        for word in words.values():
            progress(*word)

    with desk.watched(look, Event()):
        try:
            trainer.fit()
        except (TrainingFailedError, RayError) as error:
            cause = desk.error()
            if cause is not None:
                raise again(cause) from None
            raise ProjectError(
                f"the training on the cluster failed: {gist(error)}",
                fix="install the same rolegen-agent with its extra ray on every node; the same command goes on from the last checkpoint",
            ) from error


def _learn(site: Any, at: datetime, desk: Desk) -> None:
    """What each worker runs, in the process group that Ray Train has made."""
    import ray

    known = desk.error()
    if known is not None:  # Ray starts a failed group again, also where that cannot help
        raise again(known)
    opened: Site = ray.get(site)
    try:
        with opened.open() as shop:
            train(shop.project, at, progress=_Words(desk), evidence=False)
    except RoleGenError as error:
        desk.fail(plain(error))
        raise


class _Words:
    """Progress of the first worker, told to the desk a few times a second."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._stage, self._told = desk, "", 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage or done == total or now - self._told > LOOK_S:
            self._stage, self._told = stage, now
            self._desk.tell("train", stage, done, total)
