"""What a training is asked for: the settings that all of its stages read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .distributed import DeviceName


@dataclass(frozen=True)
class TrainConfig:
    """What the training loop needs to know; days are whole days."""

    seed: int = 0
    epochs: int = 8
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    horizon_days: int = 90
    dormant_days: int = 90
    history_days: int = 550
    """only returns of the last so many days are trained on: a shop forgets"""
    validation_days: int = 60
    max_returns: int = 24_000
    """the latest returns before the validation window are kept, and as many in it: a bound on training time"""
    max_hints: int = 1_500
    max_read: int = 6_000
    """the latest returns before the validation window whose events are given their roles, and as many in it"""
    max_spells: int = 12_000
    refit: bool = False
    """learn stage 1 once more, from the start and on the kept-out returns too, when those have served their purpose"""
    usual_basket: float | None = None
    """items of a usual basket, in the losses of the pointers (``losses.py``); None: the mean of the training's returns"""
    unknown_item: float = 0.05
    """share of events whose item is hidden, so that "some item" has a meaning in rollouts"""
    silence: float = 0.5
    """share of decisions that learn without the roles of their events in the end; it grows from nothing, so that the key
    events first show the way to the target and are then to be done without"""
    delayed_labels: Literal["weighted", "leave_out"] = "weighted"
    """decisions whose horizon is not over: learnt from with the weights of ``delayed.py``, or left out"""
    candidate_noise: float = 0.25
    """weight of useless and hostile candidates in stage 2"""
    patience: int = 3
    """stop after so many epochs without a better validation loss"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """of stage 1's matrix products; weights, sums and the validation loss stay fp32"""
    compile: bool = False
    """pass stage 1's forward and backward through ``torch.compile``"""
    device: DeviceName = "auto"
    """of stage 1; ``auto`` is a GPU where torch sees one"""
    shards: int | None = None
    """parts of a batch with dropout masks of their own; None: one for each process. See ``taste_training.py``"""
    checkpoint_steps: int = 1_000
    """steps between checkpoints within an epoch; there is one after every epoch anyway"""
