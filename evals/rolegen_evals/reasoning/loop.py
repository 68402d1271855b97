"""What reasoning is worth in the whole loop: a planted shop, the real product, and LLMs that are good, useless, hostile or broken.

===============================  ========================================================================================
``slate.recall10.SYSTEM``        of users who came back, of all planted shops together: bought items among the ten, divided by min(10, bought);
                                 ``backbone`` is the slate without reasoning, ``evidence`` no LLM, the others LLMs over HTTP
``slate_change.recall10.SYSTEM`` that, less ``backbone``'s, as a share of it; ``slate_low`` and ``slate_high`` its 95 % interval, paired by
                                 user; ``slate_worst``: the same change in the shop where it is smallest
``roles_llm.macro_f1.SYSTEM``    roles after fusion, where the LLM labelled, against the planted ones; ``alone``: before fusion
``broken.finished.FAILURE``      share of users decided on although 30 % of the requests fail so; ``told``: of those in which somebody
                                 else had to answer, the share whose trace says so; ``stood_in``: how many these were
``diversity.RATIO.paths``        category entropy and distinct roles of the chosen paths over those of the backbone's top ten
===============================  ========================================================================================

A decision is taken in the middle of the log for users who have not ordered for a while; what they order by themselves afterwards is the
target. The perfect mind knows the present need, not what will happen. Roles, fusion and failures are those of the first shop.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats
from sklearn.metrics import f1_score

from rolegen_agent import RoleGen
from rolegen_agent.outcomes import first_order_baskets
from rolegen_agent.reasoning import EvidenceReasoner
from rolegen_graphs.ports import RoleEvidence
from rolegen_graphs.words import Decision, Slate

from ..metrics import Interval, Scores, paired_difference, scores
from ..worlds import PLANTED, WORLDS, Knobs, Planted, plant
from ..worlds.log import START
from .fused import fusion_figures
from .scripted import FAILURES, AdversarialMind, Failure, Mind, PerfectMind, ScriptedEndpoint, renumbered

KNOBS = Knobs(breadth=3, pace=3.0)
"""weeks instead of days, as the default windows of a project take it; 216 items"""
FIRST_SEED = 7
DECISION_DAYS = 220
DORMANT_DAYS, HORIZON_DAYS = 30, 60
TRAINING: Mapping[str, object] = {
    "epochs": 4,
    "max_returns": 6_000,
    "max_hints": 600,
    "max_read": 1_500,
    "max_spells": 4_000,
}
PROJECT = """\
[data]
events = "events.parquet"
catalogue = "items.parquet"
[dormancy]
days = {dormant}
[slate]
horizon_days = {horizon}
"""
MINDS: Mapping[str, type[Mind]] = {"perfect": PerfectMind, "random": Mind, "adversarial": AdversarialMind}
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trial:
    """A trained planted shop and the users that are asked about."""

    folder: Path
    planted: Planted
    """known before the decision, with the product's event ids"""
    at: datetime
    users: Sequence[str]
    """dormant ones who came back, then dormant ones who did not"""
    bought: Mapping[str, Sequence[str]]


def prepare(
    folder: Path, *, seed: int, users: int, asked: int, progress: Progress, training: Mapping[str, object] = TRAINING
) -> Trial:
    """Plant a shop, ingest it as a user would, and train; a folder in which that was done is read back."""
    shop = WORLDS["staged"].open(seed, KNOBS)
    planted = plant(shop, users, seed=seed)
    ready = folder / "ready"
    if not ready.exists():
        folder.mkdir(parents=True, exist_ok=True)
        planted.events.drop("event").write_parquet(folder / "events.parquet")
        planted.items.write_parquet(folder / "items.parquet")
        text = PROJECT.format(dormant=DORMANT_DAYS, horizon=HORIZON_DAYS)
        (folder / "rolegen.toml").write_text(text, "utf-8")
    at = START + timedelta(days=DECISION_DAYS)
    with RoleGen.open(folder, overrides={"backbone": training}) as product:
        if not ready.exists():
            product.ingest(progress=progress)
            product.train(at, progress=progress)
            ready.touch()
        dormant = product.dormant(at)["user"].to_list()
        store = pl.read_parquet(product.project.events)
    baskets = first_order_baskets(store, at, HORIZON_DAYS, dormant)
    back = [user for user in dormant if user in baskets]
    chosen = [*back, *(user for user in dormant if user not in baskets)][:asked]
    past = renumbered(planted, store)
    past = replace(past, events=past.events.filter(pl.col("time") < at), needs=past.needs.filter(pl.col("time") < at))
    return Trial(folder, past, at, chosen, {user: baskets[user].items for user in chosen if user in baskets})


def awaken(
    trial: Trial, name: str, users: Sequence[str], more: Mapping[str, Mapping[str, object]]
) -> dict[str, Decision]:
    """The decisions of one system, in a memory of its own."""
    overrides: dict[str, Mapping[str, object]] = {
        "backbone": TRAINING,
        "memory": {"url": f"sqlite:///.rolegen/{name}.sqlite"},
        **more,
    }
    with RoleGen.open(trial.folder, overrides=overrides) as product:
        run = product.awaken(users, trial.at).run
        return {user: product.trace(user, run=run) for user in users}


def llm(url: str, timeout_s: float = 30.0) -> dict[str, dict[str, object]]:
    """The overrides that put the scripted endpoint behind the loop."""
    return {
        "reasoner": {"kind": "llm", "rounds": 1},
        "llm": {"model": "scripted", "base_url": url, "api_key": "none", "timeout_s": timeout_s, "retries": 2},
    }


def loop_figures(
    folder: Path, *, shops: int, users: int, asked: int, broken: int, progress: Progress, model: str | None = None
) -> dict[str, float]:
    """All figures of the module; ``asked`` users of each shop for the slates, ``broken`` for each kind of failure.

    ``model``: a real one, whose endpoint the environment names; its figures are called ``llm``.
    """
    trials, arms = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + shops):
        trials.append(prepare(folder / f"seed-{seed}", seed=seed, users=users, asked=asked, progress=progress))
        arms.append(_arms(trials[-1], model=model, progress=progress))
    trial, first = trials[0], arms[0]
    minds = {name: made for name, made in first.items() if name in MINDS}
    found = fusion_figures(minds, _evidence(trial), dict(trial.planted.roles.iter_rows()))
    found |= _slates(trials, arms) | _roles(trial, first) | _diversity(trial, first["evidence"])
    for done, failure in enumerate(FAILURES):
        progress("failures", done, len(FAILURES))
        found |= _broken(trial, failure, trial.users[:broken])
    progress("failures", len(FAILURES), len(FAILURES))
    return found


def _arms(trial: Trial, *, model: str | None, progress: Progress) -> dict[str, dict[str, Decision]]:
    """What each system decides for the users of one shop."""
    arms = {"evidence": awaken(trial, "evidence", trial.users, {})}
    for done, (name, mind) in enumerate(MINDS.items()):
        progress("minds", done, len(MINDS))
        with ScriptedEndpoint(mind(trial.planted)) as endpoint:
            arms[name] = awaken(trial, name, trial.users, llm(endpoint.url))
    progress("minds", len(MINDS), len(MINDS))
    if model is not None:
        arms["llm"] = awaken(trial, "llm", trial.users, {"reasoner": {"kind": "llm"}, "llm": {"model": model}})
    return arms


def _evidence(trial: Trial) -> RoleEvidence:
    """The log's side of the fusion, as the product has it."""
    with RoleGen.open(trial.folder, overrides={"backbone": TRAINING}) as product:
        artefacts = product.assembly(trial.at).artefacts
    return EvidenceReasoner(artefacts.evidence, artefacts.market)


def _slates(trials: Sequence[Trial], arms: Sequence[Mapping[str, Mapping[str, Decision]]]) -> dict[str, float]:
    judged: dict[str, list[Scores]] = defaultdict(list)
    for trial, made in zip(trials, arms, strict=True):
        back = list(trial.bought)
        slates = {name: {user: _items(decided[user].slate) for user in back} for name, decided in made.items()}
        slates["backbone"] = {user: _items(made["evidence"][user].slate_without_reasoning) for user in back}
        for name, slate in slates.items():
            judged[name].append(scores(slate, trial.bought))
    usual = float(np.concatenate([one.recall for one in judged["backbone"]]).mean())
    found = {
        "slate.users.all": float(sum(len(trial.bought) for trial in trials)),
        "slate.shops.all": float(len(trials)),
    }
    for name, shops in judged.items():
        found[f"slate.recall10.{name}"] = float(np.concatenate([one.recall for one in shops]).mean())
        found[f"slate.hit1.{name}"] = float(np.concatenate([one.hit1 for one in shops]).mean())
        if name != "backbone" and usual:  # a share of nothing says nothing
            change: Interval = paired_difference(_by_user(shops), _by_user(judged["backbone"]))
            found[f"slate_change.recall10.{name}"] = change.value / usual
            found[f"slate_worst.recall10.{name}"] = min(
                float(one.recall.mean() / alone.recall.mean()) - 1
                for one, alone in zip(shops, judged["backbone"], strict=True)
                if alone.recall.any()
            )
            if change.low is not None and change.high is not None:
                found[f"slate_low.recall10.{name}"] = change.low / usual
                found[f"slate_high.recall10.{name}"] = change.high / usual
    return found


def _by_user(shops: Sequence[Scores]) -> dict[str, float]:
    """Users of different shops may have the same name."""
    return {
        f"{number} {user}": value
        for number, score in enumerate(shops)
        for user, value in zip(score.users, score.recall.tolist(), strict=True)
    }


def _roles(trial: Trial, arms: Mapping[str, Mapping[str, Decision]]) -> dict[str, float]:
    known = dict(trial.planted.roles.iter_rows())
    found: dict[str, float] = {}
    for name, decisions in arms.items():
        labels = [
            label for made in decisions.values() for label in made.rounds[-1].reading.labels if label.event in known
        ]
        truth = [known[label.event] for label in labels]
        said = {"macro_f1": [label.role for label in labels]}
        if name != "evidence":
            said["alone"] = [label.parts.llm_role if label.parts else label.role for label in labels]
        for metric, roles in said.items():
            present = sorted(set(truth))
            found[f"roles_llm.{metric}.{name}"] = float(
                f1_score(truth, roles, labels=present, average="macro", zero_division=0.0)
            )
    return found


def _diversity(trial: Trial, decisions: Mapping[str, Decision]) -> dict[str, float]:
    """Paths that were chosen against the same user's top ten: entropy of their categories (nats), distinct roles."""
    goods = trial.planted.shop.goods
    role = {item: PLANTED[code] for item, code in zip(goods.ids, goods.role.tolist(), strict=True)}
    category = {item: goods.categories[code] for item, code in zip(goods.ids, goods.category.tolist(), strict=True)}
    rows: list[tuple[float, float, float, float]] = []
    for made in decisions.values():
        last = made.rounds[-1]
        chosen = {choice.path for choice in last.choices if choice.chosen}
        first = [c for c in last.candidates if c.path in chosen and c.step == 0 and c.item is not None]
        if not first:
            continue
        top = made.slate_without_reasoning.items[: len(first)]
        rows.append(
            (
                _entropy([category[str(c.item)] for c in first]),
                _entropy([category[item.item] for item in top]),
                float(len({c.role for c in first})),
                float(len({role[item.item] for item in top})),
            )
        )
    mean = np.mean(rows, axis=0)
    return {
        "diversity.entropy.paths": float(mean[0]),
        "diversity.entropy.top_k": float(mean[1]),
        "diversity.roles.paths": float(mean[2]),
        "diversity.roles.top_k": float(mean[3]),
        "diversity.entropy_ratio.paths": float(mean[0] / max(mean[1], 1e-9)),
        "diversity.roles_ratio.paths": float(mean[2] / max(mean[3], 1e-9)),
    }


def _broken(trial: Trial, failure: Failure, users: Sequence[str]) -> dict[str, float]:
    with ScriptedEndpoint(PerfectMind(trial.planted), failure=failure) as endpoint:
        made = awaken(
            trial, f"broken-{failure}", users, llm(endpoint.url, timeout_s=1.0 if failure == "timeout" else 30.0)
        )
    answers = [answer for decision in made.values() for done in decision.rounds for answer in done.answers]
    others = [answer for answer in answers if not answer.reasoner.startswith("llm:")]
    return {
        f"broken.finished.{failure}": len(made) / max(len(users), 1),
        f"broken.stood_in.{failure}": float(len(others)),
        f"broken.told.{failure}": float(np.mean([bool(answer.why) for answer in others])) if others else 1.0,
        f"broken.requests_failed.{failure}": float(endpoint.failed),
    }


def _items(slate: Slate) -> list[str]:
    return [item.item for item in slate.items]


def _entropy(names: Sequence[Any]) -> float:
    return float(stats.entropy(list(Counter(names).values()))) if names else 0.0
