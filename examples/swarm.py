"""RoleGen in a swarm: a clerk talks with a colleague, hands a customer over to RoleGen, and goes on with what it found.

pip install langchain langgraph-swarm
OPENAI_BASE_URL=… OPENAI_MODEL=… python examples/swarm.py shop 2011-09-01 "Win customer 12350 back."
"""

from __future__ import annotations

import os
import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langgraph.graph.state import CompiledStateGraph
from langgraph_swarm import SwarmState, create_swarm

from rolegen_agent import RoleGen
from rolegen_graphs.words import Decision


class Floor(SwarmState):
    """What the agents of the swarm share."""

    user: str
    decision: Decision


def swarm(chat: BaseChatModel, shop: RoleGen, at: str, **compiled: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
    """A clerk and RoleGen, which gives the word back to the clerk. ``compiled`` goes to ``compile``."""
    clerk = create_agent(
        chat, [shop.as_handoff_tool(at)], name="clerk", system_prompt="You are a clerk. Write from what rolegen finds."
    )
    rolegen = shop.as_agent(at, back_to="clerk")
    made = create_swarm([clerk, rolegen], default_active_agent="clerk", state_schema=Floor)
    return made.compile(**compiled)


def main(folder: str, at: str, question: str) -> None:
    """Ask the clerk and print the conversation."""
    chat = ChatOpenAI(model=os.environ["OPENAI_MODEL"], use_responses_api=False)
    with RoleGen.open(folder) as shop:
        for message in swarm(chat, shop, at).invoke({"messages": [("user", question)]})["messages"]:
            sys.stdout.write(f"{message.name or message.type}: {message.text}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
