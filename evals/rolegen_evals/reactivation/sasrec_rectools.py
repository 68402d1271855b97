"""Run by ``sasrec.py`` in an interpreter that has RecTools: ``python sasrec_rectools.py FOLDER``.

Reads ``order.json`` and the histories beside it, trains on ``train.csv``, writes ``slates.json``: one object for each ask,
from user to item ids, best first. It imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: Path) -> None:
    """Train, then answer every ask from the history of its own date."""
    import pandas as pd
    import torch
    from pytorch_lightning import Trainer, seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel
    from rectools.models.nn.transformers.lightning import TransformerLightningModule

    class Packed(TransformerLightningModule):  # type: ignore[misc]
        """RecTools' full softmax, counted only where there is a target.

        Its own also scores the padding, and takes the softmax along an axis that is not the last: twice the time.
        """

        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
            model, target = self.torch_model, batch["y"] != 0
            items = model.item_model.get_all_embeddings()
            logits = model.similarity_module(model.encode_sessions(batch, items)[target], items)
            loss = torch.nn.functional.cross_entropy(logits, batch["y"][target])
            self.log(self.train_loss_name, loss, on_step=False, on_epoch=True)
            return loss

    order = json.loads((folder / "order.json").read_text("utf-8"))
    settings = dict(order["settings"])
    epochs = settings.pop("epochs")
    seed_everything(order["seed"], workers=True)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid that writes every tensor twice

    def trainer() -> Any:
        return Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            deterministic=True,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def history(name: str) -> Any:
        frame = pd.read_csv(folder / name, dtype={"user_id": str, "item_id": str}, parse_dates=["datetime"])
        return Dataset.construct(frame)

    model = SASRecModel(
        **settings,
        n_heads=2,
        loss="softmax",
        lightning_module_type=Packed,
        get_trainer_func=trainer,
        recommend_torch_device="cpu",
        verbose=0,
    )
    model.fit(history("train.csv"))
    answers = []
    for ask in order["asks"]:
        found = model.recommend(
            users=ask["users"],
            dataset=history(ask["past"]),
            k=order["size"],
            filter_viewed=ask["new"],
            on_unsupported_targets="ignore",  # who only bought what is newer than the model gets an empty slate, a miss
        )
        found = found.sort_values([Columns.User, Columns.Rank])
        answers.append({str(user): list(map(str, rows)) for user, rows in found.groupby(Columns.User)[Columns.Item]})
    (folder / "slates.json").write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
