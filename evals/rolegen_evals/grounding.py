"""``rolegen bench grounding``: milliseconds a spec, recall against the exact search, building time and memory, by catalogue size.

Each size is built in one process and asked in another that finds it built, as a decision does.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rolegen_agent.evidence import Market
from rolegen_agent.grounding import Similarity, TextCatalogue, open_similarity
from rolegen_agent.grounding.similarity import Ints
from rolegen_graphs.words import ItemSpec, Observation, Trajectory

from .grounding_shop import AT, HashedWords, grown, sales, wishes
from .results import Result, commit, machine

SIZES, QUICK = (1_000, 10_000, 50_000, 100_000, 1_000_000), (1_000, 10_000, 100_000)
WISHES, FEW = 100, 30
"""specs of each kind"""
WARM = 5
Progress = Callable[[str, int, int], None]


class Unindexed:
    """The same similarity without its index: the exact search that the index is measured by."""

    indexed = False

    def __init__(self, whole: Similarity) -> None:
        self.threshold, self.few = whole.threshold, whole.few
        self.prepare, self.of, self.near = whole.prepare, whole.of, whole.near

    def nearest(self, text: str, allowed: Ints, category: int | None, among: int) -> Ints | None:
        """Nothing: there is no index."""
        return None


def bench_grounding(*, quick: bool, progress: Progress) -> Result:
    """All sizes by TF-IDF, and by a stand-in for a sentence encoder at the largest."""
    started = time.perf_counter()
    sizes, count = (QUICK, FEW) if quick else (SIZES, WISHES)
    plan = [("tfidf", size) for size in sizes] + [("embeddings", sizes[-2]), ("embeddings", sizes[-1])]
    if quick:
        plan.pop()
    figures: dict[str, float] = {}
    for done, (encoder, size) in enumerate(plan):
        progress("grounding", done, len(plan))
        figures |= measured(encoder, size, count)
    progress("grounding", len(plan), len(plan))
    return Result(
        name="grounding",
        commit=commit(),
        machine=machine(),
        seconds=time.perf_counter() - started,
        figures=dict(sorted(figures.items(), key=lambda one: one[0].startswith("cost."))),
    )


def measured(encoder: str, size: int, count: int) -> dict[str, float]:
    """The figures of one catalogue, named ``tfidf_1000.ms.full`` and ``cost.build_s.tfidf_1000``."""
    found: dict[str, float] = {}
    with TemporaryDirectory() as store:
        for part in (built, asked):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                found |= pool.submit(part, encoder, size, count, Path(store)).result()
    return found


def built(encoder: str, size: int, count: int, store: Path) -> dict[str, float]:
    """Build what compares titles and leave it in the store."""
    items = grown(size)
    market = Market(sales(items), items)
    started = time.perf_counter()
    _similarity(market, encoder, store)
    seconds = time.perf_counter() - started
    disk = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    name = f"{encoder}_{size}"
    return {
        f"cost.build_s.{name}": seconds,
        f"cost.build_gib.{name}": peak_gib(),
        f"cost.disk_gib.{name}": disk / 2**30,
    }


def asked(encoder: str, size: int, count: int, store: Path) -> dict[str, float]:
    """Ground every wish by itself, then look up what the exact search would have had."""
    items = grown(size)
    market = Market(sales(items), items)
    started = time.perf_counter()
    similarity = _similarity(market, encoder, store)
    opened = time.perf_counter() - started
    catalogue = TextCatalogue(items, market, similarity=similarity)
    exact = TextCatalogue(items, market, similarity=Unindexed(_similarity(market, encoder, store)))  # caches of its own
    seen = observation(AT)
    for specs in wishes(items, WARM, seed=9).values():
        for spec in specs:
            catalogue.ground([(0, 0, spec)], seen)
    name = f"{encoder}_{size}"
    figures: dict[str, float] = {}
    all_ms: list[tuple[float, float]] = []
    kinds = wishes(items, count)
    times = {kind: [_ms(catalogue, spec, seen) for spec in specs] for kind, specs in kinds.items()}
    used = peak_gib()  # before the exact search reads all there is
    for kind, specs in kinds.items():
        exact_ms = [_ms(exact, spec, seen) for spec in specs]
        pairs = [(best(exact, spec, 10), best(catalogue, spec, 10)) for spec in specs]
        figures |= {
            **_times(name, kind, times[kind]),
            f"{name}.exact_ms.{kind}": float(np.mean([wall for wall, _ in exact_ms])),
            f"{name}.recall1.{kind}": recall(pairs, 1),
            f"{name}.recall10.{kind}": recall(pairs, 10),
        }
        all_ms += times[kind]
    figures |= _times(name, "all", all_ms)
    return figures | {f"cost.open_s.{name}": opened, f"cost.answer_gib.{name}": used}


def best(catalogue: TextCatalogue, spec: ItemSpec, count: int) -> list[int]:
    """Codes of the best items of the first step at which there are any."""
    choice = catalogue.choice(AT)
    steps: Iterator[list[int]] = (
        [code for code, _ in islice(choice.ranked(spec, step), count)] for step in choice.steps(spec)
    )
    return next((found for found in steps if found), [])


def recall(pairs: Sequence[tuple[list[int], list[int]]], size: int) -> float:
    """Mean share of the exact search's best ``size`` that were found; finding nothing where there is nothing is right."""
    shares = [
        len(set(exact[:size]) & set(found[:size])) / len(exact[:size]) if exact else float(not found)
        for exact, found in pairs
    ]
    return float(np.mean(shares))


def observation(at: datetime) -> Observation:
    """A user of whom nothing is known but the time."""
    return Observation(
        trajectory=Trajectory(
            user="u", at=at, events=(), total_events=0, orders=0, days_since_last=0, dormant_because="", cohort=""
        )
    )


def peak_gib() -> float:
    """Peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes there, KiB elsewhere


def _similarity(market: Market, encoder: str, store: Path) -> Similarity:
    return open_similarity(market, encoder=HashedWords() if encoder == "embeddings" else None, store=store)


def _ms(catalogue: TextCatalogue, spec: ItemSpec, seen: Observation) -> tuple[float, float]:
    """Milliseconds that passed, and those that the processor worked: on a busy machine the latter tell more."""
    started, worked = time.perf_counter(), time.process_time()
    catalogue.ground([(0, 0, spec)], seen)
    return 1000 * (time.perf_counter() - started), 1000 * (time.process_time() - worked)


def _times(name: str, kind: str, times: Sequence[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = np.array(times).T
    return {
        f"{name}.ms.{kind}": float(wall.mean()),
        f"{name}.p95_ms.{kind}": float(np.quantile(wall, 0.95)),
        f"{name}.cpu_ms.{kind}": float(cpu.mean()),
        f"{name}.cpu_p95_ms.{kind}": float(np.quantile(cpu, 0.95)),
    }
