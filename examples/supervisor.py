"""RoleGen under a supervisor: one agent brings users back, another one writes, and a chat model directs both.

    pip install langgraph-supervisor
    OPENAI_BASE_URL=… OPENAI_MODEL=… python examples/supervisor.py shop 2011-09-01 "Win customer 12350 back."

The supervisor hands a user over by RoleGen's own tool, which names the user; what it would make of the conversation alone
is no matter of trust then.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt.chat_agent_executor import AgentState
from langgraph_supervisor import create_supervisor

from rolegen_agent import RoleGen
from rolegen_graphs.words import Decision


class Desk(AgentState):
    """The state that all agents of the desk share: their conversation, and what RoleGen needs and finds."""

    user: str
    at: datetime
    decision: Decision


def desk(chat: BaseChatModel, shop: RoleGen, at: str, **compiled: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The supervisor over RoleGen; put your other agents beside it. ``compiled`` goes to ``compile``."""
    return create_supervisor(
        [shop.as_agent(at)],
        model=chat,
        tools=[shop.as_handoff_tool(at)],
        prompt="You direct a shop's agents. Hand a customer over to rolegen, then answer from what it found.",
        state_schema=Desk,
    ).compile(**compiled)


def main(folder: str, at: str, question: str) -> None:
    """Ask the desk and print the conversation."""
    chat = ChatOpenAI(model=os.environ["OPENAI_MODEL"], use_responses_api=False)
    with RoleGen.open(folder) as shop:
        for message in desk(chat, shop, at).invoke({"messages": [("user", question)]})["messages"]:
            sys.stdout.write(f"{message.name or message.type}: {message.text}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
