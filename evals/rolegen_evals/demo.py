"""The main job on the bundled log, from raw rows to a judged slate for every dormant customer.

Everything is decided as of one date in the log; what customers did afterwards is read only when all slates are in the
memory. All figures are computed from what the memory holds, so they can be computed from it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import polars as pl

from rolegen_agent.facade import RoleGen
from rolegen_agent.outcomes import outcomes_of
from rolegen_agent.processes import awaken_in_processes
from rolegen_agent.project import write_project_file
from rolegen_agent.report.words import Fact, Figure, Metric, Report, System, reasoner_words
from rolegen_graphs.keys import decision_id
from rolegen_graphs.words import Outcome, Slate, SlateItem

from .baselines import frequency, popularity
from .metrics import Interval, category_coverage, interval, paired_difference, scores
from .results import Result, commit, machine

if TYPE_CHECKING:
    from rolegen_agent.batch import AwakenReport
    from rolegen_agent.ingest.report import IngestReport
    from rolegen_graphs.words import Decision

AT = datetime(2011, 9, 1, tzinfo=UTC)
"""A date in the log's test period (from 2011-06-01): nothing was tuned on what follows it."""
QUICK = {"epochs": 1, "max_returns": 1_500, "max_hints": 150, "max_read": 150, "max_spells": 2_000}
"""[backbone] of ``--quick``"""
SYSTEMS: Mapping[str, str] = {
    "rolegen": "RoleGen (backbone with reasoning)",
    "backbone": "backbone without reasoning",
    "frequency": "personal purchase frequency",
    "popularity": "popularity of the last 28 days",
}
METRICS: Mapping[str, tuple[str, str]] = {
    "hit1": ("hit@1", "share of customers who bought the first item of their slate"),
    "recall10": ("recall@10", "bought items among the ten, divided by min(10, items bought)"),
    "ndcg10": ("NDCG@10", "the same, with hits at the top counting more"),
    "category_coverage": ("category coverage", "categories that appear in any slate, of all categories"),
}
ATTRIBUTION = (
    "Data: Online Retail II, Daqing Chen (2012), UCI Machine Learning Repository, doi 10.24432/C5CG6D, CC BY 4.0"
)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DemoRun:
    """What the main job left behind."""

    shop: RoleGen
    at: datetime
    ingested: IngestReport
    dormant: pl.DataFrame
    awakened: AwakenReport
    outcomes: Mapping[str, Outcome]
    """by decision id"""
    figures: Mapping[str, Interval]
    """``returned.<metric>.<system>``"""
    differences: Mapping[str, Interval]
    """``<metric>.<system>``: RoleGen minus the system, paired by customer"""
    seconds: float

    def result(self, name: str = "demo") -> Result:
        """The figures in the one language of benchmarks."""
        named = {**self.figures, **{f"ahead.{key}": found for key, found in self.differences.items()}}
        values = {key: found.value for key, found in named.items()}
        for key, found in named.items():
            task, metric, system = key.split(".", 2)
            if found.low is not None and found.high is not None:
                values |= {f"{task}_interval.{metric}_low.{system}": found.low}
                values |= {f"{task}_interval.{metric}_high.{system}": found.high}
        values["returned.customers.all"] = float(sum(o.ordered_at is not None for o in self.outcomes.values()))
        return Result(name=name, commit=commit(), machine=machine(), seconds=round(self.seconds, 1), figures=values)

    @property
    def reasoner(self) -> str:
        """Who answered: what all decisions say, or ``mixed``."""
        rows = self.shop.memory.decisions(run=self.awakened.run, limit=max(1, self.awakened.wanted))
        names = {row.reasoner for row in rows}
        return names.pop() if len(names) == 1 else "mixed"

    def stories(self, count: int) -> list[Decision]:
        """Customers whose story can be told to its end: they came back, their labels show several roles, the slate hit."""
        baskets = {key: set(o.items) for key, o in self.outcomes.items() if o.ordered_at is not None}
        slates = self.shop.memory.slates(self.awakened.run, "rolegen")
        hits = sorted(baskets, key=lambda key: (-len(baskets[key] & set(slates[key])), key))
        candidates = [self.shop.memory.get(key) for key in hits[: 20 * count]]
        candidates.sort(key=lambda d: -len({label.role for label in d.rounds[-1].reading.labels}))
        return candidates[:count]


def run_demo(
    folder: Path, *, progress: Progress, quick: bool = False, stop: Event | None = None, at: datetime = AT
) -> DemoRun:
    """Run the main job in ``folder``; what an earlier run finished is not done again.

    ``quick`` trains one epoch and takes every twentieth dormant customer: for the shape of the result, not its figures.
    """
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "rolegen.toml").exists():
        write_project_file(folder, preset="online_retail_ii", currency="GBP")
    shop = RoleGen.open(folder, overrides={"backbone": QUICK} if quick else None)

    def watched(stage: str, done: int, total: int) -> None:
        """A batch of decisions ends by itself when asked to; ingestion and training are left here and resumed later."""
        progress(stage, done, total)
        if stop is not None and stop.is_set():
            raise KeyboardInterrupt

    ingested = shop.ingest(progress=watched)
    shop.train(at, progress=watched)
    dormant = shop.dormant(at)
    users = dormant["user"].to_list()[:: 20 if quick else 1]
    awakened = awaken_in_processes(shop, users, at, progress=progress, stop=stop or Event())
    if awakened.stopped:
        raise KeyboardInterrupt
    memory, run = shop.memory, awakened.run
    # The run may hold more than the demo asked for: somebody awakened others in the same project.
    decision_of = {user: decision_id(run, user, at) for user in users}
    _record_baselines(shop, at, run, decision_of, progress)
    # Only now, with every slate stored, is the time after the decision looked at.
    later = pl.scan_parquet(shop.project.events).filter(pl.col("time") >= at).collect()
    horizon = shop.project.settings.slate.horizon_days
    memory.record_outcomes(outcomes_of(later, decision_of, at, horizon, ingested.last))
    outcomes = {key: outcome for key, outcome in memory.outcomes(run).items() if key in set(decision_of.values())}
    figures, differences = judge(shop, run, at, outcomes)
    return DemoRun(
        shop=shop,
        at=at,
        ingested=ingested,
        dormant=dormant,
        awakened=awakened,
        outcomes=outcomes,
        figures=figures,
        differences=differences,
        seconds=time.perf_counter() - started,
    )


def judge(
    shop: RoleGen, run: str, at: datetime, outcomes: Mapping[str, Outcome]
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Figures and paired differences of the decisions in ``outcomes`` whose customers came back, from the memory alone."""
    memory = shop.memory
    baskets = {key: o.items for key, o in outcomes.items() if o.ordered_at is not None}
    items = shop.assembly(at).artefacts.items
    category_of = dict(zip(items["item"].to_list(), items["category"].to_list(), strict=True))
    figures: dict[str, Interval] = {}
    per_user: dict[tuple[str, str], dict[str, float]] = {}
    for system in SYSTEMS:
        slates = {key: slate for key, slate in memory.slates(run, system).items() if key in outcomes}
        measured = scores({key: slates[key] for key in baskets}, baskets)
        for metric, values in zip(("hit1", "recall10", "ndcg10"), measured.columns().values(), strict=True):
            figures[f"returned.{metric}.{system}"] = interval(values)
            per_user[metric, system] = dict(zip(measured.users, values.tolist(), strict=True))
        covered = category_coverage(list(slates.values()), category_of)
        figures[f"returned.category_coverage.{system}"] = Interval(
            value=covered, low=None, high=None, users=len(slates)
        )
    differences = {
        f"{metric}.{system}": paired_difference(per_user[metric, "rolegen"], values)
        for (metric, system), values in per_user.items()
        if system != "rolegen"
    }
    return figures, differences


def make_report(demo: DemoRun) -> Report:
    """The page: the run, the table, and every customer; those who came back and were served well stand first."""
    from rolegen_agent.report import customer_section

    memory, run = demo.shop.memory, demo.awakened.run
    titles = dict(pl.read_parquet(demo.shop.project.items, columns=["item", "title"]).iter_rows())
    first = [decision.decision for decision in demo.stories(3)]
    back = [key for key, outcome in demo.outcomes.items() if outcome.ordered_at is not None]
    order = dict.fromkeys([*first, *sorted(back), *sorted(demo.outcomes)])
    customers = [
        customer_section(memory.get(key), demo.outcomes[key], titles, memory.attributions(decision=key))
        for key in order
    ]
    horizon = demo.shop.project.settings.slate.horizon_days
    return Report(
        title="RoleGen: dormant customers of an online gift shop",
        lede=(
            f"{len(demo.outcomes):,} customers had not ordered for at least 90 days on {demo.at.date()}. For each, RoleGen "
            "read what their purchases meant, imagined paths back, and ranked ten items, knowing nothing of what followed. "
            f"{len(back):,} came back within {horizon} days."
        ),
        reasoner=reasoner_words(demo.reasoner),
        facts=[
            Fact(label="Decision date", value=str(demo.at.date())),
            Fact(label="Horizon", value=f"{horizon} days"),
            Fact(
                label="Log",
                value=f"{demo.ingested.kept:,} events, {demo.ingested.users:,} customers, {demo.ingested.items:,} items",
            ),
            Fact(label="Run", value=run),
            Fact(label="Commit and machine", value=f"{commit()}, {machine()}"),
        ],
        metrics=[Metric(key=key, label=label, meaning=meaning) for key, (label, meaning) in METRICS.items()],
        systems=[
            System(
                name=name,
                ours=system == "rolegen",
                figures={
                    metric: Figure(value=found.value, low=found.low, high=found.high)
                    for metric in METRICS
                    for found in (demo.figures[f"returned.{metric}.{system}"],)
                },
            )
            for system, name in SYSTEMS.items()
        ],
        figures_caption=f"over the {len(back):,} customers who came back; full catalogue; 95 % bootstrap intervals",
        notes=[
            _difference(demo, metric, system) for system in ("backbone", "frequency") for metric in ("hit1", "recall10")
        ],
        customers=customers,
        commands=next_commands(demo),
        attribution=ATTRIBUTION,
    )


def next_commands(demo: DemoRun) -> list[str]:
    """Three commands worth trying next."""
    folder = demo.shop.project.root.name
    example = demo.stories(1)
    user = example[0].user if example else "USER"
    return [
        f"rolegen explain {user} --project {folder}",
        f"rolegen dormant --at 2011-11-01 --project {folder}",
        f"OPENAI_BASE_URL=http://127.0.0.1:11434/v1 OPENAI_MODEL=… rolegen awaken --reasoner llm --at {demo.at.date()} --limit 20 --project {folder}",
    ]


def _difference(demo: DemoRun, metric: str, system: str) -> str:
    found = demo.differences[f"{metric}.{system}"]
    bounds = f" [{found.low:+.4f}, {found.high:+.4f}]" if found.low is not None and found.high is not None else ""
    return f"{METRICS[metric][0]}: RoleGen minus {SYSTEMS[system]} {found.value:+.4f}{bounds}, paired by customer"


def _record_baselines(
    shop: RoleGen, at: datetime, run: str, decision_of: Mapping[str, str], progress: Progress
) -> None:
    """Slates of both baselines, from the same events and the same available items, into the memory."""
    assembly = shop.assembly(at)
    size = shop.project.settings.slate.size
    items = assembly.artefacts.items
    catalogue = assembly.parts.catalogue
    ids: list[str] = items["item"].to_list()
    in_stock = getattr(catalogue, "in_stock")(at)  # noqa: B009
    available = [item for item, on_sale in zip(ids, in_stock.tolist(), strict=True) if on_sale]
    title = dict(zip(ids, items["title"].to_list(), strict=True))
    category = dict(zip(ids, items["category"].to_list(), strict=True))
    users = list(decision_of)
    made = {
        "popularity": popularity(assembly.artefacts.events, at, users, size, available=available),
        "frequency": frequency(assembly.artefacts.events, at, users, size, available=available),
    }
    for done, (policy, slates) in enumerate(made.items()):
        progress("baselines", done, len(made))
        shop.memory.record_slates(
            (decision_of[user], policy, _slate(slate, title, category)) for user, slate in slates.items()
        )
    progress("baselines", len(made), len(made))


def _slate(items: Sequence[str], title: Mapping[str, str], category: Mapping[str, str]) -> Slate:
    return Slate(
        items=tuple(
            SlateItem(rank=rank, item=item, title=title[item], category=category[item], score=1.0 / rank)
            for rank, item in enumerate(items, start=1)
        )
    )
