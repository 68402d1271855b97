"""Golden renderings of the default prompts: what the model is really sent, for one known observation.

After a wanted change run ``python -m tests.support.golden_prompts`` and read the difference before it is committed.
"""

from __future__ import annotations

from pathlib import Path

from rolegen_errors import ReasonerError
from rolegen_graphs.llm import LlmReasoner
from rolegen_graphs.llm.sections import paths_text, reading_text
from rolegen_graphs.llm.trajectory import render_trajectory
from rolegen_graphs.words import Role, Statistic
from rolegen_prompts import PromptPack
from tests.support.observations import (
    CORRECTION,
    EFFECT,
    LESSON,
    OUTCOMES,
    PAST,
    PATH,
    READING,
    REJECTED,
    SIGNAL,
    SITE,
    PlayedBack,
    make_observation,
)

FOLDER = Path(__file__).parents[1] / "prompts" / "golden"


def golden_renderings() -> dict[str, str]:
    """The messages of every prompt, by the prompt's name, as the reasoner sends them."""
    seen = make_observation(lessons=(LESSON,), past=(PAST,))
    lift = Statistic(name="lift", value=1.82, low=1.21, high=2.7, support=143, neutral=1.0)
    evidence: dict[int, list[tuple[Role, Statistic]]] = {101: [("replenishment", lift)]}
    asker = PlayedBack(*['{"answer": 1}'] * 10)
    reasoner = LlmReasoner(asker, model="golden", statistics=lambda _: evidence)
    for question in (
        lambda: reasoner.reason(seen, (CORRECTION,), site=SITE),
        lambda: reasoner.simulate(seen, READING, (), site=SITE),
        lambda: reasoner.revise(seen, (REJECTED,), site=SITE),
        lambda: reasoner.reflect(seen, READING, (PATH,), (REJECTED,), (EFFECT,), (SIGNAL,), site=SITE),
        lambda: reasoner.learn(OUTCOMES, (("Customers who ... respond to ...", 3),), site=SITE),
    ):
        try:
            question()
        except ReasonerError:
            continue  # the played-back answer is no valid one, so that the repair prompt is rendered too
    shown = {
        "trajectory": render_trajectory(seen.trajectory, tokens=3000).text,
        "reading": reading_text(READING, seen.trajectory),
        "paths": paths_text((PATH,), (REJECTED,), (EFFECT,), seen.trajectory),
    }
    asked = {
        prompt.name: messages for task, messages, _, prompt in asker.asked if prompt.name == task or task == "reflect"
    }
    asked["judge"] = PromptPack.default().get("judge").render(**shown)
    return {
        name: "\n\n".join(f"=== {one.role} ===\n{one.content}" for one in messages) + "\n"
        for name, messages in asked.items()
    }


def main() -> None:
    """Write the golden files anew."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in golden_renderings().items():
        (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
