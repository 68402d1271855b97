"""Try settings on the validation targets: ``python -m rolegen_evals.beauty.tune DIR [knn | sasrec | rolegen ...]``.

Test targets are not looked at. Every trial is written to ``tuned.json`` beside this file with its recall and NDCG, and one
that stands there is not run again: delete it to try it anew, which a change of code calls for. What has the best recall@10
is to be the default in ``neighbours.py`` and ``networks.py``, where a person writes it. Each network gets as many trials as
the other; of ours the dense part alone is judged, which carries most of the mixture.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from rolegen_errors import InputError

from .neighbours import Neighbours, knn_slates
from .networks import OURS, SASREC, dense_slates, fit_ours, fit_sasrec
from .protocol import METRICS, Beauty, Ints, judge

TUNED = Path(__file__).with_name("tuned.json")
KNN: list[dict[str, Any]] = [
    {"idf_power": power, "shrink": shrink, "decay": decay}
    for power, shrink, decay in product([0.5, 1.0], [0.0, 5.0, 20.0], [0.5, 0.65, 0.8])
]
NETWORK: list[dict[str, Any]] = [
    {},
    {"dropout": 0.35},
    {"layers": 2},
    {"epochs": 16},
    {"negatives": "other"},
    {"learning_rate": 1e-3, "epochs": 20},
]
"""changes of what a network was at first, whose epochs :data:`TRIALS` names; the *other* way of training is the whole
catalogue for SASRec, 1,024 negatives for ours"""


def _knn(data: Beauty, settings: Mapping[str, Any]) -> Ints:
    return knn_slates(data.train, data.known("validation"), data.items, Neighbours(**settings), masked=True)


def _network(data: Beauty, name: str, settings: Mapping[str, Any]) -> Ints:
    recipe = SASREC if name == "sasrec" else OURS
    sizes = {key: value for key, value in settings.items() if key in ("dropout", "layers")}
    training = {key: value for key, value in settings.items() if key not in sizes}
    if "negatives" in training:
        training["negatives"] = 0 if recipe.training.negatives else 1024
    recipe = replace(recipe, **sizes, training=replace(recipe.training, **training))
    with TemporaryDirectory() as folder:
        if name == "sasrec":
            model = fit_sasrec(data, recipe, folder=Path(folder), progress=_say_nothing)
        else:
            model = fit_ours(data, recipe, folder=Path(folder), progress=_say_nothing).model
    return dense_slates(model, data.known("validation"), masked=True)


Trial = Callable[[Beauty, Mapping[str, Any]], Ints]
TRIALS: Mapping[str, tuple[list[dict[str, Any]], Trial]] = {
    "knn": (KNN, _knn),
    "sasrec": (
        [{"epochs": 12} | change for change in NETWORK],
        lambda data, settings: _network(data, "sasrec", settings),
    ),
    "rolegen": (
        [{"epochs": 9} | change for change in NETWORK],
        lambda data, settings: _network(data, "rolegen", settings),
    ),
}


def tune(name: str, data: Beauty, console: Console) -> None:
    """Run what ``tuned.json`` does not hold yet of one system, and write it after every trial."""
    wanted, trial = TRIALS[name]
    for settings in wanted:
        known = json.loads(TUNED.read_text("utf-8")) if TUNED.exists() else {}
        tried = known.get(name, [])
        if any(one["settings"] == settings for one in tried):
            continue
        started = time.process_time()
        found = judge(trial(data, settings), data.target("validation"))
        figures = {metric: round(float(found[metric].mean()), 4) for metric in METRICS}
        seconds = round(time.process_time() - started)
        tried = [*tried, {"settings": settings, "validation": figures, "processor_seconds": seconds}]
        TUNED.write_text(json.dumps(known | {name: tried}, indent=1) + "\n", encoding="utf-8")
        console.print(f"{name} {settings} {figures} {seconds} s", markup=False, soft_wrap=True)


def main(arguments: list[str]) -> None:
    """Tune the named systems, or all; a stopped run goes on."""
    if not arguments:
        raise InputError("the folder of the data is missing", fix="python -m rolegen_evals.beauty.tune DIR")
    names = arguments[1:] or list(TRIALS)
    if strange := [name for name in names if name not in TRIALS]:
        raise InputError(f"there is no system {strange[0]!r} to tune", fix=f"the systems are {', '.join(TRIALS)}")
    data, console = Beauty.read(Path(arguments[0])), Console(highlight=False)
    for name in names:
        tune(name, data, console)


def _say_nothing(stage: str, done: int, total: int) -> None:
    """No progress is shown."""


if __name__ == "__main__":
    main(sys.argv[1:])
