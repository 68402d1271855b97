"""A trained backbone on disk and in use: build, save, load, rank and roll out.

The folder holds ``backbone.safetensors`` (weights), ``content.safetensors`` (item embedding), ``semantic_ids.*``,
``items.parquet`` (the catalogue as of the cut) and ``backbone.json`` (sizes, training report, the cut). Nothing is
pickled. Everything in it was learnt strictly before ``as_of``; using it for an earlier decision is refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors.torch import load_file, save_file

from rolegen_errors import FutureError, InputError, ProjectError

from .decoding import Decoded, beam_search
from .embedding import item_embedding
from .events import DAY, Baskets, EventLog, seconds
from .examples import Collator, Decision, Hint
from .features import Features
from .model import Backbone, BackboneConfig
from .rollout import Rollout, intervention_behaviour, rollout
from .tokenizer import SemanticIds
from .training import Hints, Progress, TrainConfig, train
from .trie import Trie

FORMAT = 1


@dataclass(frozen=True)
class Sizes:
    """The user's choices about the model's size."""

    width: int = 64
    layers: int = 2
    history: int = 64
    levels: int = 3
    codebook: int = 64
    use_decoder: bool = True
    use_pool: bool = True


class TrainedBackbone:
    """A backbone with the log that it reads decisions from. Safe to share between threads."""

    def __init__(
        self, model: Backbone, items: pl.DataFrame, log: EventLog, as_of: datetime, platt: tuple[float, float]
    ) -> None:
        self.model, self.items, self.log, self.as_of, self.platt = model.eval(), items, log, as_of, platt
        self.features = Features(log, items["price"].cast(pl.Float32).fill_null(float("nan")).to_numpy())
        self.collate = Collator(log, model.config.history)
        self._alive: tuple[bytes, list[torch.Tensor]] | None = None
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
        progress: Progress,
    ) -> TrainedBackbone:
        """Train from scratch on a log that ends before ``as_of`` and save to ``folder``; resumes a training stopped there.

        Args:
            items: ``item, title, category, price`` of all items first seen before ``as_of``, sorted by item.
            roles: number of role codes that hints may carry.
        """
        if len(log) and int(log.time.max()) >= seconds(as_of):
            raise FutureError(f"the log holds events at or after {as_of.isoformat()}", fix="read it with until=as_of")
        folder.mkdir(parents=True, exist_ok=True)
        price = items["price"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        content = item_embedding(
            items["title"].fill_null("").to_list(),
            items["category"].to_list(),
            price,
            Baskets.of(log),
            seed=config.seed,
        )
        ids = SemanticIds.fit(content, levels=sizes.levels, codebook=sizes.codebook, seed=config.seed)
        choices = asdict(sizes)
        del choices["levels"], choices["codebook"]
        shape = BackboneConfig(items=len(items), content=content.shape[1], sizes=ids.sizes, roles=roles, **choices)
        torch.manual_seed(config.seed)
        model = Backbone(shape, torch.from_numpy(content), torch.from_numpy(ids.codes), Trie(ids.codes, ids.sizes))
        self = cls(model, items, log, as_of, (1.0, 0.0))
        report = train(
            model, log, self.features, config, folder, last_day=seconds(as_of) // DAY, hints=hints, progress=progress
        )
        self.platt = report.platt
        (folder / "backbone.json").unlink(missing_ok=True)  # an earlier training's, over files that change now
        ids.save(folder)
        items.write_parquet(folder / "items.parquet")
        save_file({"content": torch.from_numpy(content)}, folder / "content.safetensors")
        save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "backbone.safetensors")
        manifest = {
            "format": FORMAT,
            "as_of": as_of.isoformat(),
            "model": shape.to_json(),
            "sizes": asdict(sizes),
            "training": asdict(config),
            "report": report.to_json(),
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        part = folder / "backbone.json.part"
        part.write_text(json.dumps(manifest, indent=1))
        part.replace(folder / "backbone.json")  # written last: its presence says that training ended
        for name in ("resume.safetensors", "best.safetensors"):
            (folder / name).unlink(missing_ok=True)
        model.eval()
        return self

    @classmethod
    def load(cls, folder: Path, log: EventLog) -> TrainedBackbone:
        """Read what :meth:`fit` saved; ``log`` may go on after the training's cut, but over the same items.

        Raises:
            ProjectError: no finished training, one of a format that this version does not read, or of other items.
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
        items = pl.read_parquet(folder / "items.parquet")
        if log.items.tolist() != items["item"].to_list():
            raise ProjectError(
                "the log was read over other items than the backbone was trained on",
                where=str(folder / "items.parquet"),
                fix="read the log with the items of that file, or run `rolegen train` again",
            )
        ids = SemanticIds.load(folder)
        content = load_file(folder / "content.safetensors")["content"]
        model = Backbone(
            BackboneConfig.from_json(manifest["model"]),
            content,
            torch.from_numpy(ids.codes),
            Trie(ids.codes, ids.sizes),
        )
        model.load_state_dict(load_file(folder / "backbone.safetensors"), strict=True)
        slope, intercept = manifest["report"]["platt"]
        return cls(
            model,
            items,
            log,
            datetime.fromisoformat(manifest["as_of"]),
            (slope, intercept),
        )

    def decision(self, user: str, at: datetime, hint: Hint) -> Decision:
        """What the model may see of a user at a time.

        Raises:
            FutureError: ``at`` lies before the training's cut.
            InputError: the user has no event, or ``at`` has no time zone.
        """
        second = seconds(at) // DAY * DAY
        if at < self.as_of:
            raise FutureError(
                f"the backbone was trained on events up to {self.as_of.isoformat()}, the decision is at {at.isoformat()}",
                fix=f"run `rolegen train --at {at.date().isoformat()}`",
            )
        index = self.log.user_index(user)
        if index is None:
            raise InputError(
                f"user {user!r} has no event in the log", fix="`rolegen dormant` lists users that can be decided on"
            )
        seen = self.log.rows(index, second)
        if seen.start == seen.stop:
            raise InputError(f"user {user!r} has no event before {at.date()}", fix="decide at a later date")
        return Decision(index, second, self.features.pool(index, second, hint.item if len(hint.item) else None), hint)

    @torch.no_grad()
    def rank(
        self, decisions: Sequence[Decision], available: npt.NDArray[np.bool_], *, size: int, beam: int = 50
    ) -> Decoded:
        """The best ``size`` available items of each decision; ``available`` is (I,)."""
        batch = self.collate.batch(decisions)
        encoded = self.model.encode(batch)
        mixture = self.model.mix(batch, encoded)
        # Stock changes far less often than decisions come; the pair is replaced whole, so threads need no lock.
        key, known = np.packbits(available).tobytes(), self._alive
        alive = known[1] if known and known[0] == key else self.model.trie.alive(available)
        self._alive = (key, alive)
        return beam_search(
            self.model,
            batch,
            encoded,
            mixture,
            alive=alive,
            available=torch.from_numpy(available),
            size=size,
            beam=beam,
        )

    def roll(self, decision: Decision, paths: Sequence[Sequence[int]]) -> list[Rollout]:
        """The effect of each path of item indices for one decision."""
        return rollout(
            self.model,
            self.collate,
            self.platt,
            self._shown,
            user=decision.user,
            at=decision.at,
            feature=decision.pool.user,
            paths=paths,
        )
