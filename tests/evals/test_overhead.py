"""The ways that the overhead of the subgraph compares decide alike; else it would compare different work."""

from __future__ import annotations

from rolegen_evals.load.overhead import by_hand, subgraph_cost
from rolegen_evals.load.shop import AT, SLATE, MadeUpUsers, PlainReasoner, Ranker, Shelf, user_name
from rolegen_graphs import LoopSettings, Parts, create_decision_graph


def test_nodes_called_by_hand_decide_as_the_graph_does() -> None:
    parts = Parts(observer=MadeUpUsers(None), reasoner=PlainReasoner(), catalogue=Shelf(), recommender=Ranker())
    settings = LoopSettings(run="overhead", slate_size=SLATE)
    graph, hand = create_decision_graph(parts, settings=settings).compile(), by_hand(parts, settings)
    for user in map(user_name, range(3)):
        assert hand(user) == graph.invoke({"user": user, "at": AT})["decision"]


def test_its_figures_have_names() -> None:
    figures = subgraph_cost(users=3)
    assert set(figures) == {
        "subgraph.ms_per_decision.by_hand",
        "subgraph.ms_per_decision.graph",
        "subgraph.ms_per_decision.subgraph",
        "subgraph.overhead_ms.graph",
        "subgraph.overhead_ms.subgraph",
    }
