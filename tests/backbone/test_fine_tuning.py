"""A trained backbone goes on learning: what is new, whom to trust, and nothing from the future."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rolegen_backbone.artefact import TrainedBackbone
from rolegen_backbone.events import DAY, EventLog, seconds
from rolegen_backbone.fine_tuning import Reasoned, TuneConfig, fine_tune
from rolegen_backbone.taste_training import taste_weights
from rolegen_errors import FutureError

from .conftest import CONFIG, CUT, ITEMS, USERS, Row, at_day, hint, item_ids, log_of, shop_rows, silent

LATER = CUT + 60
BEGUN = at_day(CUT)
SHORT = replace(CONFIG, max_spells=300)


def longer() -> EventLog:
    """The planted shop sixty days on: everybody has come back twice for the item of his own."""
    more = [
        Row(f"u{user:02d}", f"i{user * 7 % ITEMS:02d}", CUT + day + user % 20)
        for user in range(USERS)
        for day in (5, 35)
    ]
    return log_of([*shop_rows(), *more], item_ids())


def moved_on(trained: TrainedBackbone, log: EventLog) -> TrainedBackbone:
    return TrainedBackbone(trained.model, trained.space, log, trained.as_of, trained.platt, trained.manifest)


def tuned(
    trained: TrainedBackbone, folder: Path, tune: TuneConfig, reasoned: dict[str, list[Reasoned]] | None = None
) -> TrainedBackbone:
    return fine_tune(
        moved_on(trained, longer()),
        SHORT,
        tune,
        since=BEGUN,
        as_of=at_day(LATER),
        reasoned=reasoned or {},
        folder=folder,
        progress=silent,
    )


def test_the_weights_go_the_asked_part_of_the_way_and_the_old_ones_stay(
    trained: TrainedBackbone, tmp_path: Path
) -> None:
    before = {name: weight.clone() for name, weight in trained.model.state_dict().items()}
    half, whole = (tuned(trained, tmp_path / str(step), TuneConfig(step=step, outcome=False)) for step in (0.5, 1.0))
    assert all(torch.equal(weight, before[name]) for name, weight in trained.model.state_dict().items())
    far = 0.0
    for name, weight in taste_weights(whole.model).items():
        far += float((weight.detach() - before[name]).abs().sum())
        middle = (before[name] + weight) / 2
        assert taste_weights(half.model)[name].detach().numpy() == pytest.approx(middle.detach().numpy(), abs=1e-5)
    assert far > 0
    assert torch.equal(half.model.pool_mean, trained.model.pool_mean), "what the weights were learnt over stays"
    assert half.as_of == at_day(LATER) and half.manifest["tuned"]["returns_learnt"] > USERS
    with pytest.raises(FutureError):
        half.decision("u00", at_day(CUT + 30), hint([]))


def test_parts_that_are_off_change_nothing(trained: TrainedBackbone, tmp_path: Path) -> None:
    off = tuned(trained, tmp_path, TuneConfig(epochs=0, trust=False, outcome=False))
    assert all(torch.equal(weight, trained.model.state_dict()[name]) for name, weight in off.model.state_dict().items())
    assert off.platt == trained.platt and not off.trust


def test_trust_is_learnt_by_reasoner_from_what_really_came(trained: TrainedBackbone, tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def decisions(knows: bool) -> list[Reasoned]:
        """Each user asked four times; one reasoner names what is ordered, another anything."""
        found = []
        for user in range(USERS):
            for day in (CUT, CUT + 10, CUT + 20, CUT + 30):
                ordered = int(random.integers(ITEMS))
                said = [ordered, (ordered + 5) % ITEMS] if knows else random.choice(ITEMS, 2, replace=False).tolist()
                found.append(Reasoned(user, day * DAY, hint(said), np.array([ordered])))
        return found

    learnt = tuned(
        trained,
        tmp_path,
        TuneConfig(epochs=0, outcome=False),
        {"llm:wise": decisions(True), "llm:fool": decisions(False), "llm:new": decisions(True)[:10]},
    )
    assert set(learnt.trust) == {"llm:wise", "llm:fool"}, "ten decisions are too few to tell"
    learnt.save(tmp_path / "kept")
    kept = TrainedBackbone.load(tmp_path / "kept", longer())

    def share(reasoner: str) -> float:
        """What the named item has in the mixture because it was named."""
        model, who = kept.trusting(reasoner), range(0, USERS, 4)
        found = model.rank(
            [model.decision(f"u{user:02d}", at_day(LATER), hint([(user + 9) % ITEMS])) for user in who],
            np.ones(ITEMS, bool),
            size=ITEMS,
        )
        return float(found.parts_BNM[..., -1].sum(dim=1).mean())

    assert share("llm:wise") > 2 * share("llm:fool")
    assert share("llm:wise") > share("evidence") == share("llm:new"), "the others keep what training gave them"
    assert kept.served().trust.keys() == kept.trust.keys()


def test_nothing_from_the_cut_on_is_learnt_from(trained: TrainedBackbone, tmp_path: Path) -> None:
    with pytest.raises(FutureError, match="holds events at or after"):
        fine_tune(
            moved_on(trained, longer()),
            SHORT,
            TuneConfig(),
            since=BEGUN,
            as_of=at_day(CUT + 10),
            reasoned={},
            folder=tmp_path,
            progress=silent,
        )
    future = Reasoned(0, seconds(at_day(LATER)), hint([1]), np.array([1]))
    with pytest.raises(FutureError, match="was to be learnt from"):
        tuned(trained, tmp_path, TuneConfig(epochs=0, outcome=False), {"evidence": [future]})
