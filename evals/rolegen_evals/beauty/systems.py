"""The systems of the run, and how what they have finished is kept.

A system answers with one or more sets of slates by ``(task, name)``. Each answer is a JSON file in the work folder, named
by a digest of data, split, settings and code; what is there is not computed again. A network's training is resumed too.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..reactivation.systems import code_of, plain
from .hybrid import (
    NEAR,
    NeighbourPointer,
    calibrate,
    gate_shares,
    mixture_slates,
    semantic_slates,
)
from .neighbours import PLAIN, Neighbours, knn_slates
from .networks import OURS, SASREC, Progress, Recipe, dense_slates, fit_ours, fit_sasrec
from .protocol import Beauty, Ints, Split

BACKBONE = tuple(
    f"rolegen_backbone.{name}"
    for name in (
        "model",
        "next_item_training",
        "item_cross_entropy",
        "decoding",
        "trie",
        "tokenizer",
        "quantisers",
        "embedding",
        "text_encoder",
    )
)
"""modules that decide what a network answers"""


@dataclass(frozen=True)
class Answer:
    """Slates by task and system, and what else is worth a figure."""

    slates: Mapping[tuple[str, str], Ints]
    facts: Mapping[str, float]
    seconds: float = 0.0


Run = Callable[[Beauty, Split, int, Path, Progress], Answer]
"""data, split, seed, folder of this training alone, progress"""


@dataclass(frozen=True)
class System:
    """One entry of the line-up."""

    name: str
    run: Run
    settings: Mapping[str, Any]
    modules: tuple[str, ...]
    random: bool = True
    """whether another seed gives another answer"""


def lineup(*, quick: bool = False) -> list[System]:
    """All systems; with ``quick`` networks that learn hardly anything."""
    ours, sasrec = OURS, SASREC
    if quick:
        short = {"epochs": 1, "warm_up": 5}
        ours = replace(ours, width=32, codebook=32, training=replace(ours.training, **short))
        sasrec = replace(sasrec, width=32, training=replace(sasrec.training, **short))
    shared = (*BACKBONE, "rolegen_evals.beauty.networks", "rolegen_evals.beauty.protocol")
    own = ("rolegen_evals.beauty.hybrid", "rolegen_evals.beauty.neighbours", "rolegen_evals.beauty.systems")
    return [
        _knn("knn", Neighbours()),
        _knn("knn_plain", PLAIN),
        System("sasrec", _sasrec(sasrec), {"recipe": sasrec}, shared),
        System("rolegen", _ours(ours), {"recipe": ours, "near": NEAR}, (*shared, *own)),
    ]


def answer(system: System, data: Beauty, split: Split, *, seed: int, work: Path, progress: Progress) -> Answer:
    """What ``system`` answers, read back if it was finished before."""
    told = (digest_of(data), plain(system.settings), str(seed), code_of(system.modules))
    training = f"{system.name}-{seed}-{_digest(*told)}"  # both splits learn from the same part
    file = work / "slates" / f"{system.name}-{seed}-{_digest(split, *told)}.json"
    if not file.exists():
        started = time.perf_counter()
        found = system.run(data, split, seed, work / "systems" / training, progress)
        kept = {
            "seconds": time.perf_counter() - started,
            "facts": found.facts,
            "slates": [[*key, slates.tolist()] for key, slates in found.slates.items()],
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(kept), encoding="utf-8")
        part.replace(file)
    read = json.loads(file.read_text("utf-8"))
    progress(system.name, 1, 1)
    slates = {(task, one): np.array(rows, np.int64) for task, one, rows in read["slates"]}
    return Answer(slates, read["facts"], read["seconds"])


def digest_of(data: Beauty) -> str:
    """A digest of histories and titles."""
    found = hashlib.sha256(json.dumps(list(data.titles)).encode())
    for own in data.histories:
        found.update(own.tobytes() + b"|")
    return found.hexdigest()


def _digest(*told: str) -> str:
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


def _knn(name: str, how: Neighbours) -> System:
    def run(data: Beauty, split: Split, seed: int, folder: Path, progress: Progress) -> Answer:
        slates = {
            (task, name): knn_slates(data.train, data.known(split), data.items, how, masked=task != "unmasked")
            for task in (split, "unmasked")
        }
        return Answer(slates, {})

    modules = ("rolegen_evals.beauty.neighbours", "rolegen_evals.beauty.protocol")
    return System(name, run, {"how": how}, modules, random=False)


def _sasrec(recipe: Recipe) -> Run:
    def run(data: Beauty, split: Split, seed: int, folder: Path, progress: Progress) -> Answer:
        model = fit_sasrec(data, recipe.seeded(seed), folder=folder, progress=_told("sasrec", progress))
        known = data.known(split)
        slates = {
            (task, "sasrec"): dense_slates(model, known, masked=task != "unmasked") for task in (split, "unmasked")
        }
        return Answer(slates, {})

    return run


def _ours(recipe: Recipe) -> Run:
    def run(data: Beauty, split: Split, seed: int, folder: Path, progress: Progress) -> Answer:
        told = _told("rolegen", progress)
        fitted = fit_ours(data, recipe.seeded(seed), folder=folder, progress=told)
        model, known = fitted.model, data.known(split)
        slates: dict[tuple[str, str], Ints] = {
            (split, "rolegen_dense"): dense_slates(model, known, masked=True),
            (split, "rolegen_semantic"): semantic_slates(model, known, told),
        }
        pointer = NeighbourPointer(data, fitted)
        temperature, evidence = calibrate(model, pointer, data)
        share = gate_shares(model, pointer, evidence, known, split)
        slates[split, "rolegen"] = mixture_slates(model, pointer, share, known, told)
        decoder, dense, near = share.exp().mean(dim=0).tolist()
        facts = {"temperature": temperature, "decoder": decoder, "dense": dense, "neighbours": near}
        return Answer(slates, facts)

    return run


def _told(name: str, progress: Progress) -> Progress:
    return lambda stage, done, total: progress(f"{name}: {stage}", done, total)
