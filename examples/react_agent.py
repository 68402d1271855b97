"""RoleGen as tools of a ReAct agent: it asks for a slate, and reports what came of it.

pip install langchain
OPENAI_BASE_URL=… OPENAI_MODEL=… python examples/react_agent.py shop 2011-09-01 "Win customer 12350 back."
"""

from __future__ import annotations

import os
import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langgraph.graph.state import CompiledStateGraph

from rolegen_agent import RoleGen


def agent(chat: BaseChatModel, shop: RoleGen, at: str) -> CompiledStateGraph[Any, Any, Any, Any]:
    """An agent with both of RoleGen's tools."""
    return create_agent(
        chat,
        [shop.as_tool(at), shop.as_feedback_tool()],
        system_prompt="You write to dormant customers of a shop, and you note what they did.",
    )


def main(folder: str, at: str, question: str) -> None:
    """Ask the agent and print its last word."""
    chat = ChatOpenAI(model=os.environ["OPENAI_MODEL"], use_responses_api=False)
    with RoleGen.open(folder) as shop:
        said = agent(chat, shop, at).invoke({"messages": [("user", question)]})["messages"]
    sys.stdout.write(f"{said[-1].text}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
