"""One planted shop: trained, decided on by a teacher, a student distilled, and both asked about later dates.

Day 220: training. Days 220 to 236: the teacher decides on dormant users. Day 240: a student is distilled from that. Days 240, 255 and 270:
teacher and student decide on dormant users who ordered within 60 days, and what they ordered is the target. Everybody serves with the backbone of day 220.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.metrics import f1_score

from rolegen_agent import RoleGen
from rolegen_agent.artefacts import Artefacts
from rolegen_agent.assembly import OwnParts
from rolegen_agent.outcomes import first_order_baskets
from rolegen_graphs import Parts
from rolegen_graphs.ports import Reasoner
from rolegen_graphs.words import CallSite, Decision, Slate

from ..metrics import hit_at_1, recall_at
from ..reasoning.scripted import renumbered
from ..worlds import WORLDS, Knobs, Planted, plant
from ..worlds.log import START
from .teachers import NAME, PlantedReasoner

KNOBS = Knobs(breadth=3, pace=3.0)
"""weeks instead of days, as the default windows of a project take it; 216 items"""
TRAINED, DISTILLED = 220, 240
TAUGHT_ON, ASKED_ON = (220, 228, 236), (240, 255, 270)
"""days of the log"""
DORMANT_DAYS, HORIZON_DAYS = 30, 60
PROJECT = f"""\
[data]
events = "events.parquet"
catalogue = "items.parquet"
[dormancy]
days = {DORMANT_DAYS}
[slate]
horizon_days = {HORIZON_DAYS}
"""
TRAINING: Mapping[str, object] = {
    "epochs": 4,
    "max_returns": 6_000,
    "max_hints": 600,
    "max_read": 1_500,
    "max_spells": 4_000,
}
TIMED = 60
"""decisions that are timed"""
Progress = Callable[[str, int, int], None]
Rows = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    users: int
    taught: int
    """decisions of the teacher for each date"""
    asked: int
    """users who came back that are asked about at each date, at most"""
    training: Mapping[str, object]
    fewest: int = 60


@dataclass(frozen=True)
class Shop:
    """A trained planted shop."""

    folder: Path
    planted: Planted
    size: Size

    def open(self, memory: str, kind: str, own: OwnParts | None = None) -> RoleGen:
        """The product on it, with a memory of its own."""
        overrides = {
            "backbone": self.size.training,
            "memory": {"url": f"sqlite:///.rolegen/{memory}.sqlite"},
            "reasoner": {"kind": kind},
            "student": {"fewest": self.size.fewest},
        }
        return RoleGen.open(self.folder, overrides=overrides, parts=own)


def prepare(folder: Path, world: str, seed: int, size: Size, progress: Progress) -> Shop:
    """Plant, ingest and train; a folder in which that was done is read back."""
    planted = plant(WORLDS[world].open(seed, KNOBS), size.users, seed=seed)
    if not (folder / "rolegen.toml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        planted.events.drop("event").write_parquet(folder / "events.parquet")
        planted.items.write_parquet(folder / "items.parquet")
        (folder / "rolegen.toml").write_text(PROJECT, "utf-8")
    shop = Shop(folder, planted, size)
    with shop.open("memory", "evidence") as product:
        if not product.project.ingest_report.exists():
            product.ingest(progress=progress)
        product.train(day(TRAINED), progress=progress)
        store = pl.read_parquet(product.project.events)
    return replace(shop, planted=renumbered(planted, store))


def day(number: int) -> datetime:
    """A day of the log."""
    return START + timedelta(days=number)


def measure(shop: Shop, teacher: str, progress: Progress) -> dict[str, Rows]:
    """Rows of one teacher and its student: ``asked`` has a row for each decision, ``roles`` for each label, ``facts`` single numbers.

    Users are told by a number of their own, the same in all columns.
    """
    own = _planted(shop.planted) if teacher == NAME else None
    with shop.open(teacher, "evidence", own) as product:
        for done, when in enumerate(TAUGHT_ON):
            progress("teach", done, len(TAUGHT_ON))
            users = product.dormant(day(when))["user"].sort().sample(fraction=1.0, shuffle=True, seed=when).to_list()
            product.awaken(users[: shop.size.taught], day(when))
        progress("teach", len(TAUGHT_ON), len(TAUGHT_ON))
        report = product.distil(day(DISTILLED), teacher=teacher, progress=progress)
        asked = {when: _returned(product, when, shop.size.asked) for when in ASKED_ON}
        taught = {when: _decided(product, list(baskets), when) for when, baskets in asked.items()}
        calls = product.memory.usage().calls
        teacher_ms = _milliseconds(product, asked)
    with shop.open(f"student-{teacher}", "student") as product:
        learnt = {when: _decided(product, list(baskets), when) for when, baskets in asked.items()}
        calls = product.memory.usage().calls - calls
        student_ms = _milliseconds(product, asked)
        name = product.assembly(day(ASKED_ON[0])).parts.reasoner.name
    rows: Rows = {
        key: []
        for key in (
            "user",
            "hit1.alone",
            "hit1.teacher",
            "hit1.student",
            "recall10.alone",
            "recall10.teacher",
            "recall10.student",
        )
    }
    number = {user: float(k) for k, user in enumerate(sorted({user for baskets in asked.values() for user in baskets}))}
    for when, baskets in asked.items():
        for user, basket in baskets.items():
            one, other = taught[when][user], learnt[when][user]
            rows["user"].append(number[user])
            for system, slate in (
                ("alone", one.slate_without_reasoning),
                ("teacher", one.slate),
                ("student", other.slate),
            ):
                items = _items(slate)
                rows[f"hit1.{system}"].append(hit_at_1(items, basket))
                rows[f"recall10.{system}"].append(recall_at(items, basket, 10))
    pairs = [(taught[when][user], learnt[when][user]) for when in ASKED_ON for user in asked[when]]
    facts = {
        **_agreement(pairs, dict(shop.planted.roles.iter_rows())),
        **{f"report.{key}": float(value) for key, value in report.manifest["report"].items() if value is not None},
        "cost.llm_calls": float(calls),
        "cost.ms.teacher": teacher_ms,
        "cost.ms.student": student_ms,
        "alone.same": float(
            np.mean([_items(a.slate_without_reasoning) == _items(b.slate_without_reasoning) for a, b in pairs])
        ),
        "answered.student": float(np.mean([b.reasoner == name for _, b in pairs])),
    }
    return {"asked": rows, "facts": {key: [value] for key, value in facts.items()}}


def _planted(planted: Planted) -> OwnParts:
    """The planted teacher in the place of the project's reasoner."""

    def own(parts: Parts, learnt: Artefacts) -> Parts:
        known = replace(planted, needs=planted.needs.filter(pl.col("time") < learnt.at))
        return replace(parts, reasoner=PlantedReasoner(known), fallback=None)

    return own


def _returned(product: RoleGen, when: int, most: int) -> dict[str, Sequence[str]]:
    """What dormant users ordered first within the horizon."""
    users = product.dormant(day(when))["user"].sort().to_list()
    baskets = first_order_baskets(pl.read_parquet(product.project.events), day(when), HORIZON_DAYS, users)
    return {user: baskets[user].items for user in list(baskets)[:most]}


def _decided(product: RoleGen, users: Sequence[str], when: int) -> dict[str, Decision]:
    run = product.awaken(users, day(when)).run
    return {user: product.trace(user, run=run) for user in users}


def _milliseconds(product: RoleGen, asked: Mapping[int, Mapping[str, object]]) -> float:
    """Processor time of one decision's labels and paths, milliseconds; nothing else of the loop."""
    when = ASKED_ON[0]
    parts = product.assembly(day(when)).parts
    reasoner: Reasoner = parts.reasoner
    seen = [parts.observer.observe(user, day(when)) for user in list(asked[when])[:TIMED]]
    site = CallSite(decision="timed", round=1, node="reason")
    started = time.process_time()
    for one in seen:
        reasoner.simulate(one, reasoner.reason(one, (), site=site), (), site=site)
    return 1000 * (time.process_time() - started) / max(len(seen), 1)


def _agreement(pairs: Sequence[tuple[Decision, Decision]], truth: Mapping[int, str]) -> dict[str, float]:
    """Roles: of events that both labelled, and each against the truth; paths: common items of the candidates."""
    same: list[float] = []
    common: list[float] = []
    said: dict[str, list[tuple[str, str]]] = {"teacher": [], "student": []}
    for one, other in pairs:
        theirs = {label.event: label.role for label in one.rounds[-1].reading.labels}
        ours = {label.event: label.role for label in other.rounds[-1].reading.labels}
        same += [float(ours[event] == role) for event, role in theirs.items() if event in ours]
        for name, labels in (("teacher", theirs), ("student", ours)):
            said[name] += [(truth[event], role) for event, role in labels.items() if event in truth]
        items = [{c.item for c in made.rounds[-1].candidates if c.item is not None} for made in (one, other)]
        if items[0] | items[1]:
            common.append(len(items[0] & items[1]) / len(items[0] | items[1]))
    found = {"roles.agreement": float(np.mean(same)) if same else 0.0, "candidates.jaccard": float(np.mean(common))}
    for name, claims in said.items():
        if claims:
            right, claimed = zip(*claims, strict=True)
            present = sorted(set(right))
            found[f"roles.macro_f1.{name}"] = float(
                f1_score(right, claimed, labels=present, average="macro", zero_division=0.0)
            )
    return found


def _items(slate: Slate) -> list[str]:
    return [item.item for item in slate.items]
