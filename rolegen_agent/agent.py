"""RoleGen as an agent among agents: a graph over messages, and the tool that hands a user over to it.

The parent's state is mapped by name and nothing else is touched: ``user`` and, if it is there, ``at`` come in; ``decision``
and one message with its summary go out. A supervisor, a swarm or a graph of your own may hold the agent; how is shown in
``examples/supervisor.py`` and ``examples/swarm.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, ToolException
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState
from langgraph.runtime import Runtime
from langgraph.types import Command
from pydantic import BaseModel, Field

from rolegen_errors import InputError
from rolegen_graphs.words import Decision  # LangGraph reads the types of a state at run time

from .project import moment, today
from .tool import summary

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

HANDOFF_KEY = "__handoff_destination"
"""metadata by which langgraph-supervisor and langgraph-swarm know a handoff tool (0.0.31 and 0.1.0)"""


class AgentState(MessagesState, total=False):
    """What the agent shares with its parent; a parent that is to hand users over has ``user`` in its own state."""

    user: str
    """id as in the log"""
    at: datetime | str | None
    """decision time; without one the context's, then the one that the agent was made with, then today's midnight in UTC"""
    decision: Decision
    """set by the agent"""


@dataclass(frozen=True, kw_only=True)
class AgentContext:
    """LangGraph's context, for what is the same for a whole run. A parent's own context may just have the same names."""

    at: datetime | str | None = None


class Decider(Protocol):
    """Gives the compiled decision graph of a time."""

    def __call__(self, at: datetime) -> CompiledStateGraph[Any, Any, Any, Any]: ...


def awaken_agent(
    decider: Decider, *, name: str = "rolegen", at: datetime | str | None = None, back_to: str | None = None
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The agent, compiled without a checkpointer: a parent's holds for it, and its interrupts and streams bubble through.

    Args:
        back_to: node of the parent that goes on afterwards, as in a swarm; None ends the agent's turn.
    """

    def awaken(state: AgentState, runtime: Runtime[AgentContext]) -> dict[str, object]:
        user = state.get("user")
        if not user:
            raise InputError(
                f"the agent {name!r} was asked without a user",
                fix="put `user` into the parent's state, or hand over by the tool of `as_handoff_tool`",
            )
        when = moment(state.get("at") or _of(runtime.context) or at or today())
        decision: Decision = decider(when).invoke({"user": user, "at": when})["decision"]
        told = json.dumps(summary(decision), ensure_ascii=False)
        return {"decision": decision, "messages": [AIMessage(told, name=name)]}

    def hand_back(state: AgentState) -> Command[Any]:
        # The parent takes over the state as its own reducers merge it: the message has an id by now and is not doubled.
        update = {**cast("dict[str, Any]", state), "active_agent": back_to}
        return Command(graph=Command.PARENT, goto=back_to or END, update=update)

    graph = StateGraph(AgentState, context_schema=AgentContext)
    graph.add_node("awaken", awaken)
    graph.add_edge(START, "awaken")
    if back_to is not None:
        graph.add_node("hand_back", hand_back)
        graph.add_edge("awaken", "hand_back")
    else:
        graph.add_edge("awaken", END)
    return graph.compile(name=name)


class HandoffInput(BaseModel):
    """What the agent that hands over passes, and what LangGraph adds."""

    user: str = Field(description="id of the dormant user, as in the shop's log")
    state: Annotated[Any, InjectedState]
    tool_call_id: Annotated[str, InjectedToolCallId]


def handoff_tool(check: Callable[[str], object], *, agent: str = "rolegen") -> BaseTool:
    """``transfer_to_AGENT``: puts the user into the parent's state and lets the agent go on.

    Args:
        check: raises ``InputError`` for a user on whom nothing can be decided; the model that asked can then mend it.
    """
    name = f"transfer_to_{agent}"

    def transfer(user: str, state: Any, tool_call_id: str) -> Command[Any]:
        try:
            check(user)
        except InputError as error:
            raise ToolException(str(error)) from error
        # A node that leaves its graph loses what it has not returned: the conversation so far goes along.
        said = state["messages"] if isinstance(state, Mapping) else state.messages
        done = ToolMessage(f"handed user {user} over to {agent}", name=name, tool_call_id=tool_call_id)
        update = {"messages": [*said, done], "user": user, "active_agent": agent}
        return Command(graph=Command.PARENT, goto=agent, update=update)

    made = StructuredTool.from_function(
        transfer,
        name=name,
        description=(
            "Hand a dormant user of the shop over to the recommender, which answers with a slate of real items that could "
            "bring the user back, their roles and the user's intent."
        ),
        args_schema=HandoffInput,
        handle_tool_error=True,  # an unknown user is the model's to mend; it is marked as an error, not as a result
    )
    made.metadata = {HANDOFF_KEY: agent}
    return made


def _of(context: object) -> datetime | str | None:
    """``at`` of a context of any kind: a dataclass, a model, a mapping, or none."""
    found = context.get("at") if isinstance(context, Mapping) else getattr(context, "at", None)
    return found if isinstance(found, datetime | str) else None
