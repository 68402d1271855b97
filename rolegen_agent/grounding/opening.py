"""What compares texts with a catalogue's titles: fitted, or found where an earlier process kept it.

A folder of the store is named by a digest of titles, categories, encoder and library versions, so that another catalogue
is another folder; it appears complete or not at all. The latest few are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import numpy as np

from rolegen_errors import MissingExtraError

from ..evidence.market import Market
from ..settings import GroundingSettings
from .embedded import EmbeddingSimilarity, embedded
from .similarity import Ints, Similarity, clean
from .tfidf import TfidfSimilarity
from .vector_index import VectorIndex
from .word_index import WordIndex

if TYPE_CHECKING:
    from rolegen_backbone.text_encoder import TextEncoder

INDEX_ABOVE = 50_000
"""items up to which an exact search is quick enough"""
KEPT_FROM = 1_000
"""items from which on reading what was fitted is quicker than fitting it for every command"""
FORMAT = "2"
KEPT = 3
"""catalogues whose folders stay: those of today and of the last changes"""
BATCH = 1_024
Progress = Callable[[str, int, int], None]
"""stage, done, total"""


def silent(_stage: str, _done: int, _total: int) -> None:
    """No progress shown."""


def require_index(items: int, settings: GroundingSettings) -> None:
    """Raise ``MissingExtraError`` where so many items need a library that is not installed: before hours of training."""
    if items > settings.index_above:
        _version("tantivy" if settings.encoder == "tfidf" else "faiss-cpu")


def open_similarity(
    market: Market,
    *,
    encoder: TextEncoder | None = None,
    index_above: int = INDEX_ABOVE,
    store: Path | None = None,
    progress: Progress = silent,
) -> Similarity:
    """Compare texts with the titles of ``market``.

    Args:
        encoder: embeds titles and texts; None = TF-IDF.
        index_above: with more items than this, an index names what is compared.
        store: folder for what takes long to make: embeddings of any number, TF-IDF of more than a few titles. None keeps what
            has to be on disk in a temporary folder as long as this process needs it.

    Raises:
        MissingExtraError: an index is needed and its library is not installed.
        InputError: the encoder's answer does not fit.
    """
    titles = [clean(title) for title in market.titles]
    large = len(titles) > index_above
    if encoder is None and not large:
        if store is None or len(titles) < KEPT_FROM:
            return TfidfSimilarity.fit(titles, market.items)
        key = _digest("tfidf", "", _version("scikit-learn"), titles, None)
        return _kept(
            store,
            key,
            lambda folder: TfidfSimilarity.fit(titles, market.items).save(folder),
            lambda folder: TfidfSimilarity.load(folder, None),
        )
    if encoder is None:
        library = _version("tantivy")
        key = _digest("tfidf", library, _version("scikit-learn"), titles, market.category_code)
        return _kept(store, key, lambda folder: _write_words(folder, market, titles, progress), _read_words)
    from rolegen_backbone.text_encoder import name_of

    key = _digest(name_of(encoder), _version("faiss-cpu") if large else "", "", titles, None)
    return _kept(
        store,
        key,
        lambda folder: _write_vectors(folder, encoder, titles, large, progress),
        lambda folder: EmbeddingSimilarity(
            encoder,
            np.load(folder / "vectors.npy", mmap_mode="r"),
            VectorIndex(folder / "vectors.faiss") if large else None,
        ),
    )


def _write_words(folder: Path, market: Market, titles: Sequence[str], progress: Progress) -> None:
    progress("index", 0, 2)
    TfidfSimilarity.fit(titles, market.items).save(folder)
    progress("index", 1, 2)
    WordIndex.build(folder / "words", titles, market.category_code)
    progress("index", 2, 2)


def _read_words(folder: Path) -> TfidfSimilarity:
    return TfidfSimilarity.load(folder, WordIndex(folder / "words"))


def _write_vectors(folder: Path, encoder: TextEncoder, titles: Sequence[str], large: bool, progress: Progress) -> None:
    parts = []
    for low in range(0, len(titles), BATCH):
        progress("embeddings", low, len(titles))
        parts.append(embedded(encoder, titles[low : low + BATCH]))
    progress("embeddings", len(titles), len(titles))
    vectors = np.concatenate(parts)
    np.save(folder / "vectors.npy", vectors)
    if large:
        progress("index", 0, 1)
        VectorIndex.build(folder / "vectors.faiss", vectors)
        progress("index", 1, 1)


def _kept(
    store: Path | None, key: str, write: Callable[[Path], None], read: Callable[[Path], Similarity]
) -> Similarity:
    """What ``read`` makes of the folder ``key``, which ``write`` fills first where it is missing."""
    if store is None:
        folder = Path(mkdtemp(prefix="rolegen-grounding-"))
        write(folder)
        found = read(folder)
        weakref.finalize(found, shutil.rmtree, folder, ignore_errors=True)
        return found
    folder = store / key
    if not folder.is_dir():
        store.mkdir(parents=True, exist_ok=True)
        made = Path(mkdtemp(prefix=".", dir=store))
        try:
            write(made)
            # Another process may have been quicker with the same folder; either is as good.
            if not folder.is_dir():
                made.replace(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        _forget(store)
    found = read(folder)
    os.utime(folder)
    return found


def _forget(store: Path) -> None:
    """Remove all but the folders used last; who still reads one of them keeps what it has open."""
    folders = [folder for folder in store.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    for folder in sorted(folders, key=lambda one: one.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


def _digest(kind: str, library: str, other: str, titles: Sequence[str], categories: Ints | None) -> str:
    found = hashlib.sha256(json.dumps([FORMAT, kind, library, other, *titles]).encode())
    if categories is not None:
        found.update(categories.tobytes())
    return found.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise MissingExtraError(package, "index") from error
