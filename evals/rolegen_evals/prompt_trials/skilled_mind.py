"""An LLM that labels events rightly with a known chance, which one sentence of the prompt raises."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rolegen_graphs.fusion import CLASSES
from rolegen_graphs.words import Role

from ..endpoint import Asked
from ..reasoning.scripted import Answer, PerfectMind, label_of
from ..worlds import Planted

SENTENCE = "Before you choose a role, say to yourself which need was active at that very moment."
"""what a prompt must say for the LLM to be at its best"""
CONFIDENCE = 0.8
"""of every label, right or wrong"""


@dataclass(frozen=True)
class Luck:
    """What chance brings in one run, for every event."""

    chance: NDArray[np.float64]
    """(E,) uniform in [0, 1): an event is labelled rightly where the LLM's skill is above it"""
    slip: NDArray[np.int64]
    """(E,) 1 to 8: how many places from the true role a wrong one is"""

    @classmethod
    def draw(cls, events: int, *, seed: int, run: int, lasting: float) -> Luck:
        """Another ``seed`` is another LLM, another ``run`` the same one asked again.

        Args:
            lasting: share of the events on which every run of the LLM has the same luck, whatever the prompt; 0 is the worst
                case for a comparison, in which two runs have nothing in common.
        """
        always, now = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1, run])
        kept = always.random(events) < lasting
        chance = np.where(kept, always.random(events), now.random(events))
        slip = np.where(kept, always.integers(1, len(CLASSES), events), now.integers(1, len(CLASSES), events))
        return cls(chance, slip)

    def roles(self, events: NDArray[np.int64], truth: NDArray[np.int64], skill: float) -> NDArray[np.int64]:
        """The roles (N,) that are given to ``events`` (N,) whose true ones are ``truth``, as places in ``CLASSES``."""
        wrong = (truth + self.slip[events]) % len(CLASSES)
        return np.where(self.chance[events] < skill, truth, wrong)


class SkilledMind(PerfectMind):
    """Labels what the perfect mind labels, with errors; everything else of its answers is as good, with luck of its own.

    ``run`` may be set anew: the same LLM is then asked again, and is lucky elsewhere.
    """

    def __init__(self, planted: Planted, *, usual: float, told: float, seed: int, lasting: float = 0.0) -> None:
        super().__init__(planted)
        self.usual, self.told, self.seed, self.lasting = usual, told, seed, lasting
        self.places = places(planted)
        self.run = 0

    @property
    def run(self) -> int:
        return self._run

    @run.setter
    def run(self, run: int) -> None:
        self._run = run
        self.luck = Luck.draw(len(self.places), seed=self.seed, run=run, lasting=self.lasting)

    def __call__(self, asked: Asked) -> Answer:
        again = random.Random(f"{self.seed} {self.run} {asked.luck.random()}")
        return super().__call__(replace(asked, luck=again))

    def reason(self, asked: Asked) -> Answer:
        answer, events = super().reason(asked), self.planted_events(asked)
        skill = self.told if SENTENCE in asked.prompt else self.usual
        labels = []
        for label in answer["labels"]:
            event = events.get(label["event"])
            role = label["role"] if event is None else self._role(event, skill)
            labels.append(label_of(label["event"], role, CONFIDENCE))
        return {**answer, "labels": labels}

    def items(self, asked: Asked) -> list[int]:
        wanted = super().items(asked)
        others = [item for item in super(PerfectMind, self).items(asked) if item not in wanted]
        return [*wanted, *others][: 2 * asked.paths]

    def _role(self, event: int, skill: float) -> Role:
        place = np.asarray([self.places[event]])
        truth = np.asarray([CLASSES.index(cast("Role", self.role[event]))])
        return CLASSES[int(self.luck.roles(place, truth, skill)[0])]


def places(planted: Planted) -> dict[int, int]:
    """Where the luck of an event stands, by its id."""
    return {event: place for place, (event, _) in enumerate(planted.roles.iter_rows())}
