"""RoleGen as one node of a graph of your own, with a state of your own.

    python examples/subgraph.py shop 2011-09-01

takes a project folder in which ``rolegen train --at DATE`` has run, picks the longest silent customer, and writes the
subject of a letter. The nodes around RoleGen are plain functions; put yours in their place.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from rolegen_agent import RoleGen
from rolegen_agent.project import moment
from rolegen_graphs.words import Decision


class Campaign(TypedDict, total=False):
    """The state of this graph. ``user``, ``at`` and ``decision`` are shared with RoleGen; the rest is none of its business."""

    budget: float
    user: str
    at: datetime
    decision: Decision
    subject: str


def campaign(shop: RoleGen, at: str) -> StateGraph[Campaign]:
    """choose → awaken (RoleGen) → write."""

    def choose(state: Campaign) -> Campaign:
        longest = shop.dormant(at).sort("days", "user", descending=[True, False])
        return {"user": longest["user"][0], "at": moment(at)}

    def write(state: Campaign) -> Campaign:
        decision = state["decision"]
        first = next((item for item in decision.slate.items if item.role), decision.slate.items[0])
        return {"subject": f"{first.title} is waiting for you ({first.role or 'popular with you'})"}

    graph = StateGraph(Campaign)
    graph.add_node("choose", choose)
    graph.add_node("awaken", shop.graph(at).compile())
    graph.add_node("write", write)
    graph.add_edge(START, "choose")
    graph.add_edge("choose", "awaken")
    graph.add_edge("awaken", "write")
    graph.add_edge("write", END)
    return graph


def main(folder: str, at: str) -> None:
    """Run the campaign and show each step as it is taken, those inside of RoleGen indented."""
    with RoleGen.open(folder) as shop:
        graph = campaign(shop, at).compile()
        for inside, step in graph.stream({"budget": 1.0}, stream_mode="updates", subgraphs=True):
            for node, update in step.items():
                sys.stdout.write(f"{'  ' if inside else ''}{node}\n")
                if node == "write":
                    sys.stdout.write(f"subject: {update['subject']}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
