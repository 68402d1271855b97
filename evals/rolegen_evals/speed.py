"""``rolegen bench speed``: what an answer costs, beside Hugging Face T5 and beside a plain item model.

Everything is measured in one run, on the same threads: our model and T5 with the same number of weights, the same history
(items a user) and the same beam. They do not read the same number of tokens: T5 reads the flattened semantic ids, as TIGER
does, so 20 events are 80 tokens for it and 21 vectors for us. That is part of our design and of its gain. Weights are random:
speed does not depend on what they have learnt.

Systems take turns within a round, and the best round of each counts, so that what else the machine does hurts all alike.

============================  =================================================================================
``beamK.users_per_s.SYSTEM``  from events to ten items; ``_mixture``: with pointers over a pool of 200 items
``beamK.times_t5.SYSTEM``     that, divided by the better of T5 in float32 and in bfloat16
``beamK.valid.SYSTEM``        share of slate places that hold an item of the catalogue, in stock, once
``flops_dD.share.SYSTEM``     operations that must be done (``speed_shop.must_do_flops``), per second, divided by those of a
                              square matrix product of the same type in the same run, with width D
``alone.ms.SYSTEM``           one user at beam 50, median
``small.exact.SYSTEM``        share of slates that equal exhaustive scoring; ``small.overlap10``: shared with float32
``catalogue_N``, ``history_N``  milliseconds a user at beam 50, beside ``dense``: a score for every item, the plain item model
``growth``                    exponent of cost in history (1: linear), and cost in 1,000,000 over cost in 1,000 items
``memory.gib.SYSTEM``         peak memory of a fresh process that answers over 1,000,000 items
``training.sequences_per_s``  forward, backward and step at 1 M weights, one target for each history of 20
============================  =================================================================================
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rolegen_backbone.serving import prepare

from .results import Result, commit, machine
from .speed_shop import (
    POOL,
    SLATE,
    Server,
    Shape,
    T5Peer,
    backbone,
    batch_of,
    branching_codes,
    drawn_codes,
    must_do_flops,
    parameters,
)

TYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
HISTORY = 20
SMALL = Shape(width=128, layers=2, decoder_layers=1)
"""about 1 M weights, with one decoder layer as the backbone has by default"""
Progress = Callable[[str, int, int], None]


def bench_speed(*, quick: bool, progress: Progress) -> Result:
    """See the module. ``quick`` takes smaller batches and catalogues: for the shape only."""
    started = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    users = 16 if quick else 256 if device.type == "cuda" else 64
    rounds = 2 if quick else 5
    figures: dict[str, float] = {
        "setting.threads.all": float(torch.get_num_threads()),
        "setting.users.all": float(users),
    }
    parts: list[tuple[str, Callable[[], dict[str, float]]]] = [
        ("beside T5", lambda: beside_t5(device, users, rounds, beams=(10,) if quick else (10, 50))),
        (
            "share of the matrix rate",
            lambda: matrix_share(device, users, rounds, (256,) if quick else (256, 512, 1024)),
        ),
        ("one user", lambda: alone(device, 10 if quick else 100)),
        ("exactness", lambda: exactness(device)),
        (
            "catalogue",
            lambda: over_catalogues(device, users, rounds, (10**3, 10**4) if quick else (10**3, 10**4, 10**5, 10**6)),
        ),
        ("history", lambda: over_histories(device, users, rounds, (8, 32) if quick else (8, 16, 32, 64, 128))),
        ("memory", lambda: {} if quick or device.type == "cuda" else memory()),
        ("training", lambda: training(device, rounds)),
    ]
    for number, (name, measure) in enumerate(parts):
        progress(name, number, len(parts))
        figures |= measure()
    progress("speed", len(parts), len(parts))
    return Result(
        name="speed",
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures=figures,
    )


def best_seconds(systems: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, float]:
    """The shortest time of each system over rounds in which they take turns, after one unmeasured call each."""
    best = dict.fromkeys(systems, float("inf"))
    for number in range(rounds + 1):
        for name, call in systems.items():
            seconds = _seconds(call, device)
            if number:
                best[name] = min(best[name], seconds)
    return best


def beside_t5(device: torch.device, users: int, rounds: int, beams: tuple[int, ...]) -> dict[str, float]:
    """Users per second at equal weights, history and beam over 10,000 items, a tenth of which is out of stock for us."""
    codes, sizes = drawn_codes(10_000)
    model = backbone(codes, sizes, Shape())
    stock = np.random.default_rng(2).random(len(codes)) < 0.9
    batch = batch_of(len(codes), users, HISTORY, device, pool=POOL)
    figures = {"parameters.number.rolegen": float(parameters(model))}
    ours = {name: Server.of(prepare(model, dtype=t, device=device), available=stock) for name, t in TYPES.items()}
    peers = {name: T5Peer(codes, sizes, t, device) for name, t in TYPES.items()}
    figures["parameters.number.t5"] = float(parameters(peers["fp32"].model))
    readers = {name: peer.reader(batch) for name, peer in peers.items()}
    for beam in beams:
        task = f"beam{beam}"
        calls: dict[str, Callable[[], Any]] = {}
        for name in TYPES:
            calls[f"rolegen_{name}"] = partial(ours[name].slate, batch, beam)
            calls[f"rolegen_{name}_mixture"] = partial(ours[name].slate, batch, beam, mixture=True)
        fast = best_seconds(calls, rounds, device)
        slow = best_seconds(
            {f"t5_{name}": partial(readers[name], beam) for name in TYPES},
            max(1, rounds // 3),
            device,
        )
        # Once more after T5: what slowed the machine down in between shall not flatter either side.
        fast = {name: min(fast[name], again) for name, again in best_seconds(calls, rounds, device).items()}
        speed = {name: users / seconds for name, seconds in (fast | slow).items()}
        figures |= {f"{task}.users_per_s.{name}": found for name, found in speed.items()}
        peer = max(speed[f"t5_{name}"] for name in TYPES)
        figures |= {f"{task}.times_t5.{name}": speed[name] / peer for name in calls}
        for name, call in calls.items():
            figures[f"{task}.valid.{name}"] = _valid(call().item_BN.tolist(), stock)
        figures[f"{task}.valid.t5_fp32"] = _valid(readers["fp32"](beam), np.ones(len(codes), bool))
    return figures


def matrix_share(device: torch.device, users: int, rounds: int, widths: tuple[int, ...]) -> dict[str, float]:
    """Operations that must be done, per second, over those of a plain matrix product."""
    codes, sizes = branching_codes()
    batch = batch_of(len(codes), users, HISTORY, device)
    figures: dict[str, float] = {}
    side = 8192 if device.type == "cuda" else 2048
    for width in widths:
        shape = Shape(width=width)
        model = backbone(codes, sizes, shape)
        must = users * must_do_flops(shape, events=HISTORY, beam=50, fan=(256, 256, 2, 2))
        for name, dtype in TYPES.items():
            server = Server.of(prepare(model, dtype=dtype, device=device))
            square = torch.randn(side, side, device=device, dtype=dtype)
            seconds = best_seconds(
                {
                    "ours": partial(server.slate, batch, 50),
                    "product": partial(torch.matmul, square, square),
                },
                2 * rounds,
                device,
            )
            rate = 2 * side**3 / seconds["product"]
            figures[f"flops_d{width}.gflops_per_s.product_{name}"] = rate / 1e9
            figures[f"flops_d{width}.gflops_per_s.rolegen_{name}"] = must / seconds["ours"] / 1e9
            figures[f"flops_d{width}.share.rolegen_{name}"] = must / seconds["ours"] / rate
    return figures


def alone(device: torch.device, calls: int) -> dict[str, float]:
    """Milliseconds for one user at beam 50 over 10,000 items, median."""
    codes, sizes = drawn_codes(10_000)
    model = backbone(codes, sizes, Shape())
    batch = batch_of(len(codes), 1, HISTORY, device, pool=POOL)
    figures: dict[str, float] = {}
    for name, dtype in TYPES.items():
        server = Server.of(prepare(model, dtype=dtype, device=device))
        for suffix, mixture in (("", False), ("_mixture", True)):
            times = [_seconds(partial(server.slate, batch, 50, mixture=mixture), device) for _ in range(calls + 3)][3:]
            figures[f"alone.ms.rolegen_{name}{suffix}"] = 1000 * statistics.median(times)
    return figures


def exactness(device: torch.device) -> dict[str, float]:
    """Beam search as wide as a catalogue of 200 items against scoring them all; bfloat16 slates against float32 ones."""
    codes, sizes = drawn_codes(200)
    model = backbone(codes, sizes, Shape()).to(device)
    users = 16
    batch = batch_of(200, users, HISTORY, device)
    plain = Server.of(prepare(model)).slate(batch, 200)
    with torch.inference_mode():
        every = torch.arange(200, device=device).expand(users, 200)
        score = model.decode_targets(model.encode(batch), every)
    # Compared are the probabilities, since two items of equal probability may stand in either order.
    agrees = (plain.log_probability_BN - score.topk(SLATE).values).abs().amax(dim=1) < 1e-3
    narrow = Server.of(prepare(model, dtype=torch.bfloat16)).slate(batch, 200)
    shared = (plain.item_BN.unsqueeze(2) == narrow.item_BN.unsqueeze(1)).any(dim=2).float().mean()
    return {"small.exact.rolegen_fp32": float(agrees.float().mean()), "small.overlap10.rolegen_bf16": float(shared)}


def over_catalogues(device: torch.device, users: int, rounds: int, sizes: tuple[int, ...]) -> dict[str, float]:
    """Milliseconds a user at beam 50 while the catalogue grows; ``dense`` scores every item."""
    figures: dict[str, float] = {}
    for items in sizes:
        model = backbone(*drawn_codes(items), Shape(), dense=True)
        server = Server.of(prepare(model, dtype=torch.bfloat16, device=device))
        batch = batch_of(items, users, HISTORY, device)
        seconds = best_seconds(
            {
                "rolegen_bf16": partial(server.slate, batch, 50),
                "dense_bf16": partial(server.dense, batch),
            },
            rounds,
            device,
        )
        figures |= {f"catalogue_{items}.ms_per_user.{name}": 1000 * found / users for name, found in seconds.items()}
    for name in ("rolegen_bf16", "dense_bf16"):
        first, last = (figures[f"catalogue_{items}.ms_per_user.{name}"] for items in (sizes[0], sizes[-1]))
        figures[f"growth.catalogue_ratio.{name}"] = last / first
    return figures


def over_histories(device: torch.device, users: int, rounds: int, events: tuple[int, ...]) -> dict[str, float]:
    """Milliseconds a user at beam 50 while the history grows."""
    codes, sizes = drawn_codes(10_000)
    server = Server.of(prepare(backbone(codes, sizes, Shape()), dtype=torch.bfloat16, device=device))
    calls = {
        f"history_{count}": partial(server.slate, batch_of(len(codes), users, count, device), 50) for count in events
    }
    seconds = best_seconds(calls, rounds, device)
    figures = {f"{task}.ms_per_user.rolegen_bf16": 1000 * found / users for task, found in seconds.items()}
    slope = np.polyfit(np.log(events), np.log([seconds[f"history_{count}"] for count in events]), 1)[0]
    return figures | {"growth.history_exponent.rolegen_bf16": float(slope)}


def memory(items: int = 10**6) -> dict[str, float]:
    """Peak memory in GiB of a process that builds the model and answers for 64 users over ``items`` items."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = {name: pool.submit(peak_gib, name, items).result() for name in ("bf16",)}
    return {f"memory.gib.rolegen_{name}": gib for name, gib in found.items()}


def peak_gib(name: str, items: int) -> float:
    """Answer in this process and return its peak resident memory."""
    server = Server.of(prepare(backbone(*drawn_codes(items), Shape(), dense=True), dtype=TYPES[name]))
    batch = batch_of(items, 64, HISTORY, torch.device("cpu"))
    server.slate(batch, 50)
    server.dense(batch)
    return _peak_bytes() / 2**30


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # ``ru_maxrss`` of a child begins on Linux with what its parent held when it was started; this does not.
        high = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM"))
        return int(high.split()[1]) * 1024
    import resource  # Unix only, as is the figure

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def training(device: torch.device, rounds: int) -> dict[str, float]:
    """Sequences per second: the decoder's loss on one target for each history, gradients and a step of AdamW."""
    codes, sizes = drawn_codes(10_000)
    model = backbone(codes, sizes, SMALL).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)  # as the training loop has it
    users = 256
    batch = batch_of(len(codes), users, HISTORY, device)
    target = torch.arange(users, device=device).unsqueeze(1)

    def step(dtype: torch.dtype) -> None:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = -model.decode_targets(model.encode(batch), target).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    seconds = best_seconds({name: partial(step, dtype) for name, dtype in TYPES.items()}, 2 * rounds, device)
    figures = {f"training.sequences_per_s.{name}": users / found for name, found in seconds.items()}
    return figures | {"parameters.number.training": float(parameters(model))}


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _valid(slates: Sequence[Sequence[int | None]], stock: npt.NDArray[np.bool_]) -> float:
    """Share of places that hold an item in stock which the slate does not hold before."""
    good = 0
    for row in slates:
        good += len({item for item in row if item is not None and item >= 0 and stock[item]})
    return good / (len(slates) * SLATE)
