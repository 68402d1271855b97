"""A few dozen decisions by the real loop, of which ``copies.py`` makes as many as are wanted."""

from __future__ import annotations

import json

from sqlalchemy import Connection, select

from rolegen_agent.batch import awaken
from rolegen_agent.memory import Memory
from rolegen_agent.memory.models import DecisionRow
from rolegen_errors import ProjectError

from ..endpoint import CHAT, Asked, Endpoint, Heard, Reply, completion, models
from ..load.shop import AT, mind, open_shop, user_name

RUNS = {"evidence": "2011-09-01/evidence/original", "llm": "2011-09-01/llm:scripted/original"}
"""the two runs of originals by who reasons"""
USERS = {"evidence": 40, "llm": 16}


def make_originals(memory: Memory) -> None:
    """Decide on made-up users, without an LLM and with one over real HTTP; what is there already is not made again."""

    def respond(heard: Heard) -> Reply:
        if heard.path != CHAT:
            return Reply(models("scripted"))
        return Reply(completion(heard, json.dumps(mind(Asked.of(heard.body)))))

    with Endpoint(respond) as endpoint:
        for kind, run in RUNS.items():
            shop = open_shop(memory, run, endpoint=endpoint.url if kind == "llm" else None)
            awaken(shop, memory, [user_name(n) for n in range(USERS[kind])], AT, workers=2, checkpoints=None)


def originals(connection: Connection) -> dict[str, list[tuple[str, str]]]:
    """Key and user of each original by who reasoned."""
    found: dict[str, list[tuple[str, str]]] = {}
    for kind, run in RUNS.items():
        query = select(DecisionRow.decision, DecisionRow.user_id).where(DecisionRow.run == run)
        found[kind] = [(key, user) for key, user in connection.execute(query.order_by(DecisionRow.decision))]
        if len(found[kind]) != USERS[kind]:
            raise ProjectError(
                f"{len(found[kind])} original decisions of {USERS[kind]} are there", fix="delete the work folder"
            )
    return found
