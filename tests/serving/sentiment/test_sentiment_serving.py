"""The program over a folder with a forecaster, an encoder and a classifier: moods over HTTP, and who answered."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiny_bundles import Program, build_bundle, serving

from fusiontrade.inference.texts import TEXTS, TextResponse
from serving import companions
from serving.companions import Companions

WORDS = ["Shares fell sharply after the report", "", "profit rose"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import kronos_parts as parts
    from classifiers import write_classifier

    from serving.bringing.classifier import import_classifier
    from serving.bringing.kronos import import_kronos
    from serving.kronos.network import write_checkpoint

    made, out = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("bundles")
    build_bundle(out, "lstm", "1h")
    import_classifier(write_classifier(made / "finbert"), out)
    for network, name in zip(parts.networks(), ("tokenizer", "model"), strict=True):
        write_checkpoint(network, made / name)
    import_kronos(made / "tokenizer", made / "model", out, sequence=10)
    return out


@pytest.fixture(scope="module")
def program(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with serving(folder, tmp_path_factory.mktemp("log") / "program.log") as running:
        yield running


def asked(program: Program, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(
        f"{program.url}/invocations", content=content, headers={"Content-Type": TEXTS, **headers}, timeout=30
    )


def test_moods_are_answered_by_the_classifier_that_was_brought_in(program: Program, folder: Path) -> None:
    answer = asked(program, {"texts": WORDS})
    assert answer.status_code == 200
    response = TextResponse.model_validate_json(answer.content)
    card = json.loads((folder / "finbert" / "model.json").read_text())
    assert response.scorer == "classifier"
    assert (response.model.id, response.model.version) == ("finbert", card["version"])
    assert [item.error and item.error.code for item in response.items] == [None, "empty", None]
    from serving.sentiment.scorer import load_classifier

    for item, own in zip(response.items, load_classifier(folder / "finbert").scores(WORDS), strict=True):
        assert item.score == (own.score and pytest.approx(own.score, abs=1e-5))


def test_the_products_client_gets_the_moods_through_the_runtime_client(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusiontrade.cloud.endpoint import SageMakerEndpoint
    from fusiontrade.cloud.session import forget_clients
    from fusiontrade.inference.client import InferenceClient

    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", program.url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    forget_clients()
    response = InferenceClient(SageMakerEndpoint("fusiontrade-local")).moods(WORDS, timeout=20)
    forget_clients()
    assert response == TextResponse.model_validate_json(asked(program, {"texts": WORDS}).content)


def test_what_serves_beside_the_forecasters_is_told(program: Program) -> None:
    told = {one["kind"]: one for one in httpx.get(f"{program.url}/models").json()["models"]}
    assert sorted(told) == ["kronos", "lstm", "sentiment"]
    assert (told["kronos"]["width"], told["kronos"]["bars"], told["kronos"]["stand_in"]) == (24, 10, False)
    assert told["sentiment"]["id"] == "finbert"


def test_a_body_may_be_gzip_and_is_refused_where_it_breaks_the_contract(program: Program) -> None:
    packed = gzip.compress(json.dumps({"texts": ["up"]}).encode())
    assert asked(program, packed, **{"Content-Encoding": "gzip"}).json()["items"][0]["error"] is None
    for body, place in (({"texts": []}, "/texts"), ({"texts": [1]}, "/texts/0"), ({"items": []}, "/texts"), (b"{", "")):
        answer = asked(program, body)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["errors"][0]["pointer"] == place
    assert asked(program, {"texts": ["up"] * 513}).status_code == 400
    refused = httpx.post(f"{program.url}/invocations", content=b"up", headers={"Content-Type": "text/plain"})
    assert refused.status_code == 415
    assert TEXTS in refused.headers["accept-post"]


def read(folder: Path, before: Companions | None = None) -> Companions:
    return Companions.read(folder, device="cpu", threads=1, before=before)


def test_companions_are_exchanged_kept_and_withdrawn(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundles"
    shutil.copytree(folder, place)
    first = read(place)
    again = read(place, first)
    assert again.encoder is first.encoder
    assert again.classifier is first.classifier
    (place / "finbert" / "tokenizer.json").write_text("{}")
    spoiled = read(place, first)
    assert spoiled.classifier is first.classifier
    assert [one.folder for one in spoiled.refused] == ["finbert"]
    assert read(place).classifier is None
    shutil.rmtree(place / "finbert")
    shutil.copytree(place / "kronos", place / "kronos-2")
    gone = read(place, spoiled)
    assert gone.classifier is None
    assert gone.encoder is first.encoder
    assert "already serves as kronos" in gone.refused[0].reason


def test_a_companion_whose_opening_breaks_is_told_and_touches_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise KeyError("no library expected that")

    first = read(folder)
    monkeypatch.setitem(companions._LOADERS, "sentiment", breaks)  # type: ignore[arg-type]
    odd = read(folder)
    assert [(one.folder, one.reason) for one in odd.refused] == [("finbert", "could not be opened: KeyError")]
    assert odd.classifier is None
    assert odd.encoder is not None
    assert read(folder, first).classifier is first.classifier


def test_of_two_encoders_the_one_serves_that_the_daily_model_learned_from(folder: Path, tmp_path: Path) -> None:
    from kronos_parts import networks

    from serving.bringing.kronos import import_kronos
    from serving.kronos.network import write_checkpoint

    place = tmp_path / "bundles"
    shutil.copytree(folder / "kronos", place / "kronos")
    for network, name in zip(networks(), ("tokenizer", "model"), strict=True):
        write_checkpoint(network, tmp_path / name)
    import_kronos(tmp_path / "tokenizer", tmp_path / "model", place, sequence=12, model_id="another")
    first = read(place)
    assert first.encoder is not None
    assert first.encoder.card.model_id == "another"
    card = json.loads((place / "kronos" / "model.json").read_text())
    (place / "swing").mkdir()
    for learned, serves in (
        (f"kronos@{card['version']}", "kronos"),
        ("kronos@0", "another"),
        (None, "another"),
        ([], "another"),
    ):
        (place / "swing" / "model.json").write_text(json.dumps({"kind": "swing", "encoder": learned}))
        found = read(place, first)
        assert found.encoder is not None
        assert found.encoder.card.model_id == serves
        assert f"{serves} already serves as kronos" in [one.reason for one in found.refused]


def test_without_a_classifier_the_lexicon_answers_and_says_so(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundles"
    place.mkdir()
    shutil.copytree(folder / "lstm-1h", place / "lstm-1h")
    with serving(place, tmp_path / "program.log") as program:
        answer = asked(program, {"texts": WORDS}).json()
        assert (answer["scorer"], answer["model"]["id"]) == ("lexicon", "finance-lexicon")
        assert answer["items"][0]["score"] < 0 < answer["items"][2]["score"]
        assert answer["items"][1]["error"]["code"] == "empty"
        assert [one["kind"] for one in httpx.get(f"{program.url}/models").json()["models"]] == ["lstm"]
