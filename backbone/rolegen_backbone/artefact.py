"""A trained backbone on disk and in use: build, save, load, extend, rank and roll out.

The folder holds ``backbone.safetensors`` (weights), ``content.safetensors`` (item embedding) and ``item_encoder.*`` (the
map behind it), ``semantic_ids.*``, ``items.parquet`` (the catalogue as of the cut) and ``backbone.json`` (sizes, training
report, the cut); ``trust-*.safetensors`` what a reasoner's real candidates taught. Nothing is pickled. Everything in it was learnt strictly before ``as_of``; using it for an earlier decision is refused.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors.torch import load_file, save_file

from rolegen_errors import FutureError, InputError, ProjectError

from .bonus import raised
from .decoding import Decoded, beam_search
from .distributed import joined
from .diversity import DEPTH, diversified, rarity
from .events import DAY, Baskets, EventLog, Floats, Ints, seconds
from .examples import Change, Collator, Decision, Hint
from .features import ITEM_FEATURES, Features, Pool
from .item_space import ItemSpace
from .model import Backbone, BackboneConfig
from .rollout import Question, Rollout, intervention_behaviour, rollout
from .serving import prepare
from .since import Told, followed, midnight_after
from .text_encoder import TextEncoder
from .training import Hints, Progress, TrainConfig, train
from .trie import Trie

FORMAT = 2
SOLD = ITEM_FEATURES.index("popularity_28d")
"""what an item's rarity is read from"""


@dataclass(frozen=True)
class Sizes:
    """The user's choices about the model's size."""

    width: int = 64
    layers: int = 2
    history: int = 64
    levels: int = 3
    codebook: int = 64
    quantiser: str = "balanced"
    """one of ``quantisers.QUANTISERS``"""
    use_decoder: bool = True
    use_dense: bool = False
    use_own: bool = True
    use_market: bool = True
    use_prefix: bool = True


class TrainedBackbone:
    """A backbone with the log that it reads decisions from. Safe to share between threads."""

    def __init__(
        self,
        model: Backbone,
        space: ItemSpace,
        log: EventLog,
        as_of: datetime,
        platt: tuple[float, float],
        manifest: Mapping[str, Any],
        trust: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    ) -> None:
        """``manifest`` is what ``backbone.json`` says of the training; a training under way has none yet.

        ``trust`` holds the weights of the candidate part by reasoner, for those whose real candidates were learnt from.
        """
        self.trust = dict(trust or {})
        self.model, self.space, self.log, self.as_of, self.platt = model.eval(), space, log, as_of, platt
        self.items, self.manifest = space.items, manifest
        price = self.items["price"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        self.features = Features(log, price, space.text)
        self.collate = Collator(log, model.config.history)
        self._category = self.items["category"].cast(pl.String).fill_null("").rank("dense").cast(pl.Int64).to_numpy()
        self._alive: list[tuple[bytes, list[torch.Tensor]]] = []
        """open prefixes of the last stock, shared with views of the same backbone"""
        self._shown = intervention_behaviour(log)

    @classmethod
    def fit(
        cls,
        items: pl.DataFrame,
        log: EventLog,
        *,
        as_of: datetime,
        sizes: Sizes,
        config: TrainConfig,
        roles: int,
        folder: Path,
        hints: Hints,
        readings: Hints | None = None,
        progress: Progress,
        encoder: TextEncoder | None = None,
    ) -> TrainedBackbone:
        """Train from scratch on a log that ends before ``as_of`` and save to ``folder``; resumes a training stopped there.

        Under ``torchrun``, every process calls this within :func:`~rolegen_backbone.distributed.join`, with the same folder.

        Args:
            items: ``item, title, category, price`` of all items first seen before ``as_of``, sorted by item.
            roles: number of role codes that hints may carry.
            hints: reasoned candidates and roles of events; asked for kept-out returns.
            readings: roles of events alone, for the first stage too; nothing where they are not known.
            encoder: embeds the items' texts in place of TF-IDF; any ``Embeddings`` of langchain-core will do.
        """
        if len(log) and int(log.time.max()) >= seconds(as_of):
            raise FutureError(f"the log holds events at or after {as_of.isoformat()}", fix="read it with until=as_of")
        folder.mkdir(parents=True, exist_ok=True)
        space = ItemSpace.fit(
            items,
            Baskets.of(log),
            levels=sizes.levels,
            codebook=sizes.codebook,
            quantiser=sizes.quantiser,
            encoder=encoder,
            seed=config.seed,
        )
        choices = asdict(sizes)
        del choices["levels"], choices["codebook"], choices["quantiser"]
        shape = BackboneConfig(
            items=len(items), content=space.content.shape[1], sizes=space.ids.sizes, roles=roles, **choices
        )
        torch.manual_seed(config.seed)
        model = _model(shape, space)
        self = cls(model, space, log, as_of, (1.0, 0.0), {})
        group = joined()
        report = train(
            model,
            log,
            self.features,
            config,
            folder,
            last_day=seconds(as_of) // DAY,
            hints=hints,
            readings=readings,
            progress=progress,
        )
        if report is None:  # the first process ends the training and saves it
            group.wait()
            return cls.load(folder, log, encoder=encoder)
        self.platt = report.platt
        self.manifest = {
            "format": FORMAT,
            "as_of": as_of.isoformat(),
            "model": shape.to_json(),
            "sizes": asdict(sizes),
            "training": asdict(config),
            "report": report.to_json(),
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        self.save(folder)
        for name in ("resume.safetensors", "best.safetensors"):
            (folder / name).unlink(missing_ok=True)
        if config.refit:
            shutil.rmtree(folder / "refit")
        model.eval()
        group.wait()
        return self

    def save(self, folder: Path) -> None:
        """Write everything to ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "backbone.json").unlink(missing_ok=True)  # an earlier training's, over files that change now
        self.space.save(folder)
        weights = {name: t.contiguous() for name, t in self.model.state_dict().items()}
        save_file(weights, folder / "backbone.safetensors")
        names = {reasoner: f"trust-{number}.safetensors" for number, reasoner in enumerate(sorted(self.trust))}
        for reasoner, name in names.items():
            save_file({key: t.contiguous() for key, t in self.trust[reasoner].items()}, folder / name)
        part = folder / "backbone.json.part"
        part.write_text(json.dumps({**self.manifest, "trust": names}, indent=1))
        part.replace(folder / "backbone.json")  # written last: its presence says that training ended

    @classmethod
    def load(cls, folder: Path, log: EventLog, *, encoder: TextEncoder | None = None) -> TrainedBackbone:
        """Read what :meth:`save` wrote; ``log`` may go on after the training's cut, but over the same items.

        Args:
            encoder: the text encoder of the training, if it was not TF-IDF; only needed to :meth:`extend`.

        Raises:
            ProjectError: no finished training, one of a format that this version does not read, or of other items or
                texts.
        """
        path = folder / "backbone.json"
        if not path.exists():
            raise ProjectError("there is no trained backbone", where=str(folder), fix="run `rolegen train --at DATE`")
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise ProjectError(
                f"the backbone has format {manifest['format']}, this version reads {FORMAT}",
                where=str(path),
                fix="run `rolegen train` again",
            )
        space = ItemSpace.load(folder, encoder)
        if log.items.tolist() != space.items["item"].to_list():
            raise ProjectError(
                "the log was read over other items than the backbone was trained on",
                where=str(folder / "items.parquet"),
                fix="read the log with the items of that file, or run `rolegen train` again",
            )
        model = _model(BackboneConfig.from_json(manifest["model"]), space)
        model.load_state_dict(load_file(folder / "backbone.safetensors"), strict=True)
        slope, intercept = manifest["report"]["platt"]
        trust = {reasoner: load_file(folder / name) for reasoner, name in manifest.get("trust", {}).items()}
        return cls(model, space, log, datetime.fromisoformat(manifest["as_of"]), (slope, intercept), manifest, trust)

    def extend(self, items: pl.DataFrame, log: EventLog, *, until: datetime | None = None) -> TrainedBackbone:
        """The same weights over a larger catalogue: items that appeared after the training can be ranked too.

        Every item keeps its id and embedding; new ones are embedded by the stored map and get free ids near their place.

        Args:
            items: ``item, title, category, price`` of all items, old and new, sorted by item.
            log: over the same items; it may go on after the training's cut.
            until: learn from which baskets strictly before it held the new items; without it they are as good as unsold.
                Decisions before it are refused from then on.

        Raises:
            InputError: ``items`` lacks one of the training, is not sorted, or is not what ``log`` was read over.
            ProjectError: no id is free near a new item, or its text needs an encoder that is not at hand.
        """
        if log.items.tolist() != items["item"].to_list():
            raise InputError("the log was read over other items", fix="read it with the items that are passed")
        day = None if until is None else seconds(until) // DAY
        space, source = self.space.extend(items, Baskets.of(log), before_day=day)
        model = _model(replace(self.model.config, items=len(items)), space)
        model.load_state_dict(_spread(self.model.state_dict(), model.state_dict(), source), strict=True)
        as_of = self.as_of if until is None else max(self.as_of, until)
        manifest = {**self.manifest, "as_of": as_of.isoformat(), "model": model.config.to_json()}
        return TrainedBackbone(model, space, log, as_of, self.platt, manifest, self.trust)

    def trusting(self, reasoner: str) -> TrainedBackbone:
        """The same backbone with what was learnt of this reasoner's candidates; itself where nothing was."""
        if reasoner not in self.trust:
            return self
        model = copy.deepcopy(self.model)
        model.load_state_dict({**model.state_dict(), **self.trust[reasoner]})
        return self._with(model)

    def served(self) -> TrainedBackbone:
        """The same backbone with what never changes between decisions computed once (``serving.py``)."""
        return self._with(prepare(self.model))

    def _with(self, model: Backbone) -> TrainedBackbone:
        """Another model over the same items and log: what was counted of them is counted once."""
        other = copy.copy(self)
        other.model = model.eval()
        return other

    def decision(self, user: str, at: datetime, hint: Hint) -> Decision:
        """What the model may see of a user at a time.

        Raises:
            FutureError: ``at`` lies before the training's cut.
            InputError: the user has no event, or ``at`` has no time zone.
        """
        second = seconds(at) // DAY * DAY
        self._refuse_past(at)
        index = self.log.user_index(user)
        if index is None:
            raise InputError(
                f"user {user!r} has no event in the log", fix="`rolegen dormant` lists users that can be decided on"
            )
        seen = self.log.rows(index, second)
        if seen.start == seen.stop:
            raise InputError(f"user {user!r} has no event before {at.date()}", fix="decide at a later date")
        return self._decision(index, second, hint)

    def decisions_since(
        self, told: Sequence[Told], hints: Sequence[Hint], at: datetime
    ) -> tuple[TrainedBackbone, list[Decision]]:
        """Decisions on users of whom more was told than the log knows, and the backbone that ranks them: see ``since.py``.

        A user of whom nothing was told is seen as by :meth:`decision` at ``at``; any other one as of the midnight after
        the last told event, with the market of ``at``.

        Args:
            told: what the caller lets the decision see; one for each of ``hints``.
            at: what the log was read for: its own events from then on are not seen.

        Raises:
            FutureError: ``at`` lies before the training's cut.
            InputError: neither the log nor what was told has an event of a user.
        """
        day = seconds(at) // DAY
        self._refuse_past(at)
        view = copy.copy(self)
        view.log = followed(self.log, told, day * DAY)
        view.features = self.features.reading(view.log, day)
        view.collate = Collator(view.log, self.model.config.history)
        decisions: list[Decision] = []
        pools: dict[int, Pool] = {}
        for index, (one, hint) in enumerate(zip(told, hints, strict=True)):
            if view.log.start[index] == view.log.start[index + 1]:
                raise InputError(f"user {one.user!r} has no event", fix="show what is popular")
            last = max(day * DAY, midnight_after(int(one.time[-1]) + 1)) if len(one) else day * DAY
            if id(one) in pools and not len(hint.item):
                # The same user with candidates and without, as the guard wants it: counting costs more than ranking.
                decisions.append(Decision(index, last, pools[id(one)].own(), hint))
            else:
                decisions.append(view._decision(index, last, hint))
                pools[id(one)] = decisions[-1].pool
        return view, decisions

    def _decision(self, index: int, second: int, hint: Hint) -> Decision:
        return Decision(index, second, self.features.pool(index, second, hint.item if len(hint.item) else None), hint)

    def _refuse_past(self, at: datetime) -> None:
        if at < self.as_of:
            raise FutureError(
                f"the backbone was trained on events up to {self.as_of.isoformat()}, the decision is at {at.isoformat()}",
                fix=f"run `rolegen train --at {at.date().isoformat()}`",
            )

    @torch.no_grad()
    def rank(
        self,
        decisions: Sequence[Decision],
        available: npt.NDArray[np.bool_],
        *,
        size: int,
        beam: int = 50,
        without: Sequence[Ints] | None = None,
        diversity: float = 0.0,
        bonus: Floats | None = None,
    ) -> Decoded:
        """The best ``size`` available items of each decision.

        Args:
            available: (I,) items in stock.
            beam: prefixes that the search keeps; more where more items are wanted.
            without: for each decision items that must not come out, by whatever rule: such as all that the user owns.
            diversity: 0 for the most probable items, best first; above, the weight of :func:`~.diversity.diversified`.
            bonus: (B, I) nats that are added to each item's log probability in the order alone, see ``bonus.py``.
        """
        batch = self.collate.batch(decisions)
        encoded = self.model.encode(batch)
        mixture = self.model.mix(batch, encoded)
        # Stock changes far less often than decisions come; the pair is replaced whole, so threads need no lock.
        key, known = np.packbits(available).tobytes(), list(self._alive)
        alive = known[0][1] if known and known[0][0] == key else self.model.trie.alive(available)
        self._alive[:] = [(key, alive)]
        # A rule of one user's own would cost a table of open prefixes each; a longer search costs less, and is as exact.
        wanted = max(size, DEPTH) if diversity or bonus is not None else size
        longer = min(wanted + max((len(items) for items in without or ()), default=0), max(int(available.sum()), 1))
        found = beam_search(
            self.model,
            encoded,
            mixture,
            alive=alive,
            available=torch.from_numpy(available),
            size=longer,
            beam=beam,
        )
        found = found if without is None else found.without(without, wanted)
        gain = None
        if bonus is not None:
            gained, allowed = torch.from_numpy(bonus).float(), torch.from_numpy(available).expand(len(decisions), -1)
            if without is not None:
                allowed = allowed.clone()
                for row, items in enumerate(without):
                    allowed[row, torch.from_numpy(items)] = False
            found, gain = raised(
                self.model, batch, encoded, found, gained, allowed, max(size, DEPTH) if diversity else size
            )
        return self._diversified(found, decisions, size, diversity, gain) if diversity else found

    def _diversified(
        self, found: Decoded, decisions: Sequence[Decision], size: int, weight: float, bonus: torch.Tensor | None
    ) -> Decoded:
        item = found.item_BN.clamp(min=0).cpu().numpy()
        days = [self.features.market_day(decision.at) for decision in decisions]
        rare = {day: rarity(self.features.clock.at(day)[0][:, SOLD]) for day in set(days)}
        device = found.item_BN.device
        return diversified(
            found,
            torch.from_numpy(np.stack([rare[day][row] for day, row in zip(days, item, strict=True)])).to(device),
            torch.from_numpy(self._category[item]).to(device),
            size=size,
            weight=weight,
            bonus_BN=bonus,
        )

    def roll(
        self, decision: Decision, paths: Sequence[Sequence[int]], changes: Sequence[Change | None] = ()
    ) -> list[Rollout]:
        """The effect of each path of item indices for one decision, and of what each of them changes of the past."""
        return self.roll_many([decision], [paths], [changes])[0]

    def roll_many(
        self,
        decisions: Sequence[Decision],
        paths: Sequence[Sequence[Sequence[int]]],
        changes: Sequence[Sequence[Change | None]] | None = None,
    ) -> list[list[Rollout]]:
        """The effect of each path of each decision, computed together; ``paths[n]`` are those of ``decisions[n]``."""
        questions = [
            Question(user=decision.user, at=decision.at, feature=decision.pool.user, paths=walks, changes=past)
            for decision, walks, past in zip(decisions, paths, changes or [()] * len(decisions), strict=True)
        ]
        return rollout(self.model, self.collate, self.platt, self._shown, questions)


def _model(config: BackboneConfig, space: ItemSpace) -> Backbone:
    """An untrained model over the items of ``space``."""
    codes = space.ids.codes
    model = Backbone(config, torch.from_numpy(space.content), torch.from_numpy(codes), Trie(codes, space.ids.sizes))
    model.content[0] = torch.from_numpy(space.some_item)  # of the training, also where items were added since
    return model


def _spread(
    weights: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], source: Ints
) -> dict[str, torch.Tensor]:
    """The weights of a model in the shapes of one over more items.

    Only what has a row for each item, and perhaps one before them for the unknown item, has another shape there. An old
    item takes its row along, a new one gets the mean over the old ones.

    Args:
        source: (I,) old position of each item, -1 for new ones.
    """
    spread, place = {}, torch.from_numpy(source)
    for name, old in weights.items():
        if old.shape != wanted[name].shape:
            ahead = len(wanted[name]) - len(source)
            rows = torch.cat([old[ahead:], old[ahead:].mean(dim=0, keepdim=True)])
            old = torch.cat([old[:ahead], rows[place]])  # place -1 is the last row, the mean
        spread[name] = old
    return spread
