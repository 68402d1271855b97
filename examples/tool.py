"""RoleGen as a tool of an agent.

    OPENAI_BASE_URL=… OPENAI_MODEL=… python examples/tool.py shop 2011-09-01 12350

asks a chat model to write a line to one customer. The model calls RoleGen's tool for what to offer, as often as it likes
(here at most four times), and answers. Any agent framework that takes LangChain tools can hold the tool instead.
"""

from __future__ import annotations

import os
import sys

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

from rolegen_agent import RoleGen

MOST_TURNS = 4


def converse(chat: BaseChatModel, shop: RoleGen, at: str, question: str) -> list[BaseMessage]:
    """Let the model and the tool take turns until the model answers; returns the conversation."""
    tool = shop.as_tool(at)
    agent = chat.bind_tools([tool])
    messages: list[BaseMessage] = [HumanMessage(question)]
    for _ in range(MOST_TURNS):
        answer = agent.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            break
        for call in answer.tool_calls:
            result = tool.invoke({**call, "type": "tool_call"})
            assert isinstance(result, ToolMessage)
            messages.append(result)
    return messages


def main(folder: str, at: str, user: str) -> None:
    """Ask about one customer and print the last word."""
    chat = ChatOpenAI(model=os.environ["OPENAI_MODEL"], use_responses_api=False)
    with RoleGen.open(folder) as shop:
        said = converse(chat, shop, at, f"Write one line that could bring customer {user} back to our shop.")
    sys.stdout.write(f"{said[-1].text}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
