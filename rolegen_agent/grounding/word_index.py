"""Candidates by words for TF-IDF, from a full-text index (tantivy, BM25).

Items are found by words and pairs of neighbouring words. Character n-grams stay out of it: so many items share them that
asking for them costs more than an exact search, to which a text of unknown words is therefore left (``evals/LOG.md``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .similarity import Ints

if TYPE_CHECKING:
    import tantivy

WORD = re.compile(r"\w+")
COUNT = 500
"""items named"""
MOST = 10_000
"""items looked at for that, where a filter lets only some pass"""
MOST_WORDS = 24
"""words of a text that are looked for, the rarest: what bounds the time of a long text"""
KNOWN = 0.5
"""share of a text's words that must be in some title; below it the n-grams have to tell"""
HEAP = 1_000_000_000
"""bytes for building, enough for one segment of some million titles"""


class WordIndex:
    """An index in a folder; safe for several threads. Its library is an extra, of which ``opening`` makes sure."""

    def __init__(self, folder: Path) -> None:
        import tantivy

        self._schema = _schema()
        index = tantivy.Index(self._schema, path=str(folder))
        index.reload()
        self._searcher = index.searcher()

    @staticmethod
    def build(folder: Path, titles: Sequence[str], categories: Ints) -> None:
        """Write an index over cleaned ``titles``, whose place is their code."""
        import tantivy

        folder.mkdir(parents=True, exist_ok=True)
        # One thread, so that the same catalogue always makes the same index.
        writer = tantivy.Index(_schema(), path=str(folder)).writer(heap_size=HEAP, num_threads=1)
        for code, (title, category) in enumerate(zip(titles, categories.tolist(), strict=True)):
            words = WORD.findall(title)
            document = tantivy.Document()
            document.add_text("words", " ".join(words))
            document.add_text("pairs", " ".join(_pairs(words)))
            document.add_unsigned("category", category)
            document.add_unsigned("code", code)
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()

    def nearest(self, text: str, allowed: Ints, category: int | None, among: int) -> Ints | None:
        """Up to ``COUNT`` of the ``allowed`` codes, the likeliest by BM25; see :class:`~.similarity.Similarity`.

        None where most words of the text are in no title, and where so few of the items searched are allowed that
        ``MOST`` of them would not hold enough.
        """
        from tantivy import Occur, Query

        limit = -(-COUNT * among // max(len(allowed), 1))
        words = WORD.findall(text)
        found = {word: self._searcher.doc_freq("words", word) for word in dict.fromkeys(words)}
        known = sorted((word for word, count in found.items() if count), key=lambda word: (found[word], word))
        if limit > MOST or not known or len(known) < KNOWN * len(found):
            return None
        told = set(known[:MOST_WORDS])
        terms = [("words", word) for word in known[:MOST_WORDS]]
        terms += [
            ("pairs", pair)
            for pair in dict.fromkeys(_pairs(words))
            if not told.isdisjoint(pair.split("+")) and len(terms) < 3 * MOST_WORDS
        ]
        asked = Query.boolean_query([(Occur.Should, Query.term_query(self._schema, *term)) for term in terms])
        if category is not None:
            here = Query.const_score_query(Query.term_query(self._schema, "category", category), 0.0)
            asked = Query.boolean_query([(Occur.Must, asked), (Occur.Must, here)])
        hits = self._searcher.search(asked, limit, count=False).hits
        codes = np.array(self._searcher.fast_field_values("code", [address for _, address in hits]), np.int64).ravel()
        place = np.minimum(np.searchsorted(allowed, codes), len(allowed) - 1)
        named: Ints = codes[allowed[place] == codes][:COUNT]
        return named


def _pairs(words: Sequence[str]) -> list[str]:
    return [f"{one}+{other}" for one, other in pairwise(words)]


def _schema() -> tantivy.Schema:
    import tantivy

    builder = tantivy.SchemaBuilder()
    # Whether a title holds a word, not how often or where: it says the same of titles at a third of the size.
    builder.add_text_field("words", tokenizer_name="whitespace", index_option="basic")
    builder.add_text_field("pairs", tokenizer_name="whitespace", index_option="basic")
    builder.add_unsigned_field("category", indexed=True)
    builder.add_unsigned_field("code", fast=True)
    return builder.build()
