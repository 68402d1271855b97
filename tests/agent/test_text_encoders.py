"""What ``[backbone] encoder`` may name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from rolegen_agent.facade import RoleGen
from rolegen_agent.settings import LlmSettings
from rolegen_agent.text_encoders import text_encoder
from rolegen_backbone.artefact import TrainedBackbone
from rolegen_errors import ProjectError
from tests.support.shop import small_log, write_project

LLM = LlmSettings()
READY = DeterministicFakeEmbedding(size=3)


def test_tfidf_is_fitted_with_the_backbone() -> None:
    assert text_encoder("tfidf", LLM) is None


def test_an_openai_compatible_endpoint_is_asked_in_plain_text(httpserver: HTTPServer) -> None:
    def answer(request: Request) -> Response:
        asked = json.loads(request.get_data())
        assert asked["model"] == "small"
        assert asked["input"] == ["red mug", "oak tray"]
        assert request.headers["Authorization"] == "Bearer secret-key"
        data = [{"object": "embedding", "index": k, "embedding": [float(k), 1.0]} for k in range(2)]
        told = {"object": "list", "data": data, "model": "small", "usage": {"prompt_tokens": 4, "total_tokens": 4}}
        return Response(json.dumps(told), content_type="application/json")

    httpserver.expect_request("/v1/embeddings", method="POST").respond_with_handler(answer)
    llm = LLM.model_copy(update={"base_url": httpserver.url_for("/v1"), "api_key": SecretStr("secret-key")})
    encoder = text_encoder("openai:small", llm)
    assert encoder is not None
    assert encoder.embed_documents(["red mug", "oak tray"]) == [[0.0, 1.0], [1.0, 1.0]]


def test_an_object_or_what_makes_one_is_imported_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_vectors.py").write_text(
        "from langchain_core.embeddings import DeterministicFakeEmbedding\n"
        "ready = DeterministicFakeEmbedding(size=3)\n"
        "def make():\n    return DeterministicFakeEmbedding(size=4)\n"
        "def nonsense():\n    return 7\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, width in (("ready", 3), ("make", 4)):
        encoder = text_encoder(f"my_vectors:{name}", LLM)
        assert isinstance(encoder, DeterministicFakeEmbedding)
        assert len(encoder.embed_documents(["red mug"])[0]) == width
    with pytest.raises(ProjectError, match="gives a int, which does not embed"):
        text_encoder("my_vectors:nonsense", LLM)
    with pytest.raises(ProjectError, match="cannot be imported"):
        text_encoder("my_vectors:elsewhere", LLM)
    sys.modules.pop("my_vectors")


@pytest.mark.parametrize("name", ["bert", "no.such.module:encoder"])
def test_a_name_that_means_nothing_says_what_to_write(name: str) -> None:
    with pytest.raises(ProjectError, match=r"\[backbone\] encoder: write tfidf, sentence, openai:MODEL"):
        text_encoder(name, LLM)


def test_a_training_takes_encoder_and_quantiser_from_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(BaseException):
        pass

    def fit(*_items_and_log: object, **told: object) -> NoReturn:
        raise Told(told)

    monkeypatch.setattr(TrainedBackbone, "fit", fit)
    write_project(tmp_path, small_log(50), f'quantiser = "plain"\nencoder = "{__name__}:READY"\n')
    with RoleGen.open(tmp_path) as shop:
        shop.ingest()
        with pytest.raises(Told) as caught:
            shop.train("2011-09-01")
    told = caught.value.args[0]
    assert told["encoder"] is READY
    assert told["sizes"].quantiser == "plain"
