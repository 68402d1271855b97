"""The grounding benchmark: a catalogue as shops have them, wishes of each kind, and recall counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from rolegen_agent.evidence import Market
from rolegen_agent.grounding import TextCatalogue
from rolegen_evals.grounding import asked, best, built, observation, recall
from rolegen_evals.grounding_shop import AT, HashedWords, grown, sales, wishes
from rolegen_evals.results import Result
from rolegen_graphs.words import ItemSpec


def test_a_grown_catalogue_has_distinct_titles_zipf_categories_and_seventy_percent_in_stock() -> None:
    items = grown(20_000)
    assert items["title"].n_unique() == items["item"].n_unique() == 20_000
    sizes = items["category"].value_counts().sort("count", descending=True)["count"].to_list()
    assert sizes[0] > 5 * sizes[9] * 0.8 and sizes[0] < 0.4 * sum(sizes)
    assert abs(items.select(pl.col("available").mean()).item() - 0.7) < 0.02
    assert items["price"].min() > 0  # type: ignore[operator]
    assert grown(500).equals(grown(500))


def test_wishes_are_of_the_kind_that_their_name_says() -> None:
    items = grown(2_000)
    titles = dict(items.select(pl.col("title").str.to_lowercase(), "available").iter_rows())
    made = wishes(items, 20)
    assert all(len(specs) == 20 for specs in made.values())
    assert all(spec.category is None and spec.price_low is None for kind in ("text", "garbled") for spec in made[kind])
    assert all(not titles[spec.text.lower()] for spec in made["sold_out"])
    assert sum(spec.text in titles for spec in made["garbled"]) == 0
    assert all(spec.price_low is not None and spec.price_high is not None for spec in made["full"])


def test_recall_is_the_share_of_the_exact_best_that_were_found() -> None:
    assert recall([([1, 2, 3], [1, 3, 9]), ([4], [5])], 1) == 0.5
    assert recall([([1, 2, 3], [1, 3, 9]), ([4], [5])], 10) == (2 / 3 + 0) / 2
    assert recall([([], []), ([], [1])], 1) == 0.5, "finding nothing where there is nothing is right"


def test_the_best_are_those_of_the_first_step_that_has_any() -> None:
    items = grown(300)
    catalogue = TextCatalogue(items, Market(sales(items, 500), items))
    row = items.filter("available").row(0, named=True)
    elsewhere = ItemSpec(role="target", text=row["title"], category="no such place")
    found = best(catalogue, elsewhere, 3)
    assert catalogue.ground([(0, 0, elsewhere)], observation(AT))[0].fate == "mapped"
    assert items["item"].sort()[found[0]] == row["item"] and len(found) <= 3


def test_the_figures_are_complete_and_named_as_results_are(tmp_path: Path) -> None:
    figures = built("embeddings", 300, 2, tmp_path) | asked("embeddings", 300, 2, tmp_path)
    assert {f"embeddings_300.recall1.{kind}" for kind in ("full", "text", "garbled", "foreign")} <= set(figures)
    assert all(value == 1.0 for key, value in figures.items() if "recall" in key), "without an index nothing is missed"
    Result(name="grounding", commit="", machine="", seconds=0.0, figures=figures)


def test_the_stand_in_puts_like_texts_near_each_other() -> None:
    near, far, same = np.array(HashedWords().embed_documents(["red lunch bag", "garden gnome", "red lunch bags"]))
    assert near @ same > 4 * abs(near @ far)
