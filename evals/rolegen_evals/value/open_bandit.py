"""The Open Bandit Dataset: a fashion shop showed items uniformly at random and by Bernoulli Thompson sampling, each with its probabilities.

So the value of each policy can be estimated from the log of the other, and held against what it brought itself (Saito et al.
2021). The small version has 10,000 rows for each policy and campaign, with about 50 clicks: intervals are wide. A row is one item at one of three
positions; its value is the click rate.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from rolegen_agent.value import Estimate, Value, crossfit, estimate_value
from rolegen_errors import InputError

from ..metrics import interval

Floats = npt.NDArray[np.float64]
CAMPAIGNS = ("men", "women")
POLICIES = ("random", "bts")
COLUMNS = ("item_id", "position", "click", "propensity_score")


def open_bandit_values(folder: Path) -> dict[str, tuple[Value, Estimate]]:
    """By ``campaign_policy``: the policy's click rate as estimated from the other one's log, and as it was.

    Raises:
        InputError: a file is missing or has other columns.
    """
    found = {}
    for campaign in CAMPAIGNS:
        logs = {policy: _read(folder / f"{policy}_{campaign}.parquet") for policy in POLICIES}
        items = pl.concat(list(logs.values()))["item_id"].n_unique()
        for policy, other in (("bts", "random"), ("random", "bts")):
            own = interval(logs[policy]["click"].to_numpy().astype(np.float64))
            found[f"{campaign}_{policy}"] = (
                _estimate(logs[other], _action_probabilities(policy, logs[policy], items), items),
                Estimate(value=own.value, low=own.low, high=own.high),
            )
    return found


def _read(file: Path) -> pl.DataFrame:
    if not file.is_file():
        raise InputError(
            "the Open Bandit Dataset is not there",
            where=str(file),
            fix="give its folder: --data DIR, with DIR/open_bandit",
        )
    try:
        return pl.read_parquet(file, columns=list(COLUMNS))
    except pl.exceptions.PolarsError as error:
        raise InputError(f"the file has no such columns: {str(error)[:200]}", where=str(file)) from error


def _action_probabilities(policy: str, log: pl.DataFrame, items: int) -> Floats:
    """(positions, items): uniform, or how often the policy showed each item at each position, a little smoothed.

    Thompson sampling moves while it learns; over these few days its mean is what it is taken for.
    """
    positions = 3
    if policy == "random":
        return np.full((positions, items), 1 / items)
    count = np.zeros((positions, items))
    np.add.at(count, (log["position"].to_numpy() - 1, log["item_id"].to_numpy()), 1.0)
    share: Floats = (count + 1 / items) / (count.sum(axis=1, keepdims=True) + 1)
    return share


def _estimate(log: pl.DataFrame, target: Floats, items: int) -> Value:
    item, place = log["item_id"].to_numpy(), log["position"].to_numpy() - 1
    click = log["click"].to_numpy().astype(np.float64)
    rows = len(log)
    names = [str(n) for n in range(rows)]
    weight = target[place, item] / log["propensity_score"].to_numpy()
    facts = np.column_stack([item, *(place == k for k in range(3))]).astype(np.float64)
    # q(pi) is a mean over all items: each of them is asked about at each row's position.
    every = np.tile(np.arange(items), rows)
    owner = np.repeat(np.arange(rows), items)
    asked = np.column_stack([every, facts[owner, 1:]])
    guess, would = crossfit(facts, click, names, asked, owner)
    expected = (would.reshape(rows, items) * target[place]).sum(axis=1)
    return estimate_value(
        weight[:, None], click[:, None], names, model_logged=guess[:, None], model_target=expected[:, None]
    )
