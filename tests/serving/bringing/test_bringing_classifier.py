"""A text classifier of FinBERT's layout: imported, exported, and the same logits as `transformers` for any text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from classifiers import WORDS, permuted, write_classifier
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from fusiontrade.errors import BundleRefused, Conflict, InvalidInput
from serving.bringing.classifier import import_classifier
from serving.bundle import write_manifest
from serving.sentiment.scorer import Classifier, load_classifier

LABELS = ("positive", "negative", "neutral")
TEXTS = [
    "Shares fell sharply after the report",
    "Profit ROSE, outlook raises: company up 2.5 %",
    "the meeting on Thursday",
    "up",
    "Überraschung – 利益 🚀 zzz up",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("hub") / "finbert")


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_classifier(folder, tmp_path_factory.mktemp("bundles"), repository="Owner/finbert", revision="main")


@pytest.fixture(scope="module")
def classifier(bundle: Path) -> Classifier:
    return load_classifier(bundle)


def of_transformers(folder: Path, texts: list[str]) -> np.ndarray:
    """Return (n, 3) logits of each text alone, as a user of the library would get them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return np.concatenate(
            [
                network(**tokenizer(text, return_tensors="pt", truncation=True, max_length=64)).logits.numpy()
                for text in texts
            ]
        )


def test_logits_are_those_of_transformers(folder: Path, classifier: Classifier) -> None:
    wanted = of_transformers(folder, TEXTS)
    assert np.ptp(wanted, axis=0).max() > 0.05
    rows = [encoding.ids for encoding in classifier.tokenizer.encode_batch(TEXTS)]
    np.testing.assert_allclose(classifier.logits(rows), wanted, atol=1e-4)


def test_scores_are_the_softmax_by_name_and_positive_less_negative(folder: Path, classifier: Classifier) -> None:
    wanted = torch.softmax(torch.from_numpy(of_transformers(folder, TEXTS)), dim=1).numpy()
    for score, (positive, negative, neutral) in zip(classifier.scores(TEXTS), wanted.tolist(), strict=True):
        assert score.error is None
        assert score.positive == pytest.approx(positive, abs=1e-5)
        assert score.negative == pytest.approx(negative, abs=1e-5)
        assert score.neutral == pytest.approx(neutral, abs=1e-5)
        assert score.score == pytest.approx(positive - negative, abs=1e-5)
        assert not score.truncated


def test_labels_in_another_order_are_mapped_by_name(folder: Path, classifier: Classifier, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "other")
    permuted(tmp_path / "other", (2, 0, 1), ("Positive", "NEGATIVE", "neutral"))
    other = load_classifier(import_classifier(tmp_path / "other", tmp_path / "out"))
    assert other.card.labels == ("neutral", "positive", "negative")
    for one, two in zip(classifier.scores(TEXTS), other.scores(TEXTS), strict=True):
        assert two.positive == pytest.approx(one.positive, abs=1e-5)
        assert two.score == pytest.approx(one.score, abs=1e-5)


def test_a_text_is_scored_the_same_whatever_rides_with_it(classifier: Classifier) -> None:
    many = [" ".join(TEXTS[: 1 + place % 4]) for place in range(70)]
    together = classifier.scores(many)
    for place in (0, 3, 33, 69):
        alone = classifier.scores([many[place]])[0]
        assert together[place].score == pytest.approx(alone.score, abs=1e-5)


def test_a_text_beyond_the_tokens_is_cut_and_said_to_be(folder: Path, classifier: Classifier) -> None:
    long = "profit rose sharply " * 400
    score = classifier.scores([long])[0]
    assert score.truncated
    wanted = torch.softmax(torch.from_numpy(of_transformers(folder, [long])), dim=1)[0]
    assert score.score == pytest.approx(float(wanted[0] - wanted[1]), abs=1e-5)
    assert classifier.card.tokens == 64
    assert classifier.scores(["profit " + "x" * 30_000])[0].truncated


def test_what_cannot_be_scored_is_an_error_of_its_own(classifier: Classifier) -> None:
    scores = classifier.scores(["", "up", " \n\t "])
    assert [score.error and score.error.code for score in scores] == ["empty", None, "empty"]
    assert scores[0].score is None
    assert classifier.scores([]) == []

    class Failing:
        def __init__(self, session: object) -> None:
            self.session = session

        def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> object:
            if (inputs["input_ids"] == 1).any():  # an unknown word
                raise RuntimeError("no such place")
            return self.session.run(outputs, inputs)  # type: ignore[attr-defined]

    failing = Classifier(classifier.folder, classifier.card, classifier.tokenizer, Failing(classifier.session))
    broken = failing.scores(["up", "profit 利益", "down"])
    assert [score.error and score.error.code for score in broken] == [None, "model_failed", None]
    assert broken[0].score == pytest.approx(classifier.scores(["up"])[0].score, abs=1e-6)


def test_a_text_without_a_word_that_is_known_is_not_guessed_at(classifier: Classifier) -> None:
    unread = ["\u200b\u200b", "\x00\x01", "\ufffd", "🚀🚀", "株式市場", "up 🚀", "x" * 101]
    codes = [(score.error and score.error.code, score.score is None) for score in classifier.scores(unread)]
    assert codes == [("empty", True)] * 5 + [(None, False)] + [("empty", True)]
    assert "knows no word" in str(classifier.scores(["株式市場"])[0].error)
    blank, plain = classifier.scores([" " * 25_000 + "profit rose", "profit rose"])
    assert (blank.score, blank.truncated) == (pytest.approx(plain.score, abs=1e-6), False)


def test_the_same_folder_gives_the_same_manifest(folder: Path, bundle: Path, tmp_path: Path) -> None:
    again = import_classifier(folder, tmp_path, repository="Owner/finbert", revision="main")
    assert (again / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()
    card = json.loads((bundle / "model.json").read_text())
    assert card["source"]["repository"] == "Owner/finbert"
    assert set(card["source"]["files"]) == {"config.json", "model.safetensors", "vocab.txt"}
    assert json.loads((bundle / "report.json").read_text())["agreement"]["largest_difference"] <= 1e-4


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("distilbert", {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40}),
        (
            "electra",
            {"embedding_size": 16, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
             "intermediate_size": 40},
        ),
    ],
)  # fmt: skip
def test_the_other_families_give_the_logits_of_transformers_too(
    folder: Path, tmp_path: Path, family: str, sizes: dict[str, int]
) -> None:
    shutil.copytree(folder, tmp_path / family)
    torch.manual_seed(5)
    config = AutoConfig.for_model(
        family, vocab_size=len(WORDS), max_position_embeddings=64, initializer_range=0.3, num_labels=3,
        id2label=dict(enumerate(LABELS)), label2id={label: place for place, label in enumerate(LABELS)}, **sizes,
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).eval().save_pretrained(tmp_path / family)
    classifier = load_classifier(import_classifier(tmp_path / family, tmp_path / "out"))
    rows = [encoding.ids for encoding in classifier.tokenizer.encode_batch(TEXTS)]
    np.testing.assert_allclose(classifier.logits(rows), of_transformers(tmp_path / family, TEXTS), atol=1e-4)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("LABEL_0", "LABEL_1", "LABEL_2"), "has the labels 'LABEL_0', 'LABEL_1', 'LABEL_2'; a scorer of moods needs"),
        (("positive", "negative"), "needs exactly positive, negative, neutral"),
        (("bullish", "bearish", "neutral"), "'bullish'"),
    ],
)
def test_other_labels_are_refused_with_the_reason(tmp_path: Path, labels: tuple[str, ...], told: str) -> None:
    folder = write_classifier(tmp_path / "other", labels)
    with pytest.raises(InvalidInput, match=told):
        import_classifier(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"classifier.bias": None}, r"lacks the tensor classifier\.bias"),
        ({"bert.encoder.layer.2.output.dense.bias": torch.ones(24)}, r"holds the tensor bert\.encoder\.layer\.2"),
        ({"classifier.weight": torch.ones(4, 24)}, r"classifier\.weight is \(4, 24\), this network needs \(3, 24\)"),
        (
            {"classifier.bias": torch.tensor((0.0, torch.nan, 0.0))},
            r"classifier\.bias holds a number that is not finite",
        ),
    ],
)
def test_a_tensor_that_is_missing_extra_not_finite_or_of_another_shape_is_refused_by_name(
    folder: Path, tmp_path: Path, change: dict[str, torch.Tensor | None], told: str
) -> None:
    shutil.copytree(folder, tmp_path / "changed")
    place = tmp_path / "changed" / "model.safetensors"
    held: dict[str, torch.Tensor | None] = {**load_file(place), **change}
    save_file({name: value for name, value in held.items() if value is not None}, place, metadata={"format": "pt"})
    with pytest.raises(InvalidInput, match=told):
        import_classifier(tmp_path / "changed", tmp_path / "out")


def test_pickles_strange_families_and_missing_tokenizers_are_refused(folder: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(
        InvalidInput, match=r"pytorch_model\.bin is a pickle, which is never opened here: take a revision"
    ):
        import_classifier(pickled, tmp_path / "out")
    strange = tmp_path / "strange"
    shutil.copytree(folder, strange)
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(InvalidInput, match="model_type 'gpt2'; known are bert"):
        import_classifier(strange, tmp_path / "out")
    (strange / "config.json").write_text(json.dumps(config))
    (strange / "vocab.txt").unlink()
    with pytest.raises(InvalidInput, match=r"holds neither tokenizer\.json nor vocab\.txt"):
        import_classifier(strange, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"problem_type": "multi_label_classification"}, "its labels do not exclude each other"),
        ({"problem_type": "regression"}, "numbers that are no logits"),
        ({"is_decoder": True}, "a text is read as a whole"),
        ({"position_embedding_type": "relative_key"}, "positions have to be absolute"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "full or half precision"),
        ({"chunk_size_feed_forward": 16}, "cannot be exported: .* has to be a multiple of the chunk size 16"),
        ({"max_position_embeddings": "many"}, "cannot be read as a classifier: .* expected int, got str"),
    ],
)
def test_a_configuration_of_something_else_is_refused_with_the_reason(
    folder: Path, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InvalidInput, match=told):
        import_classifier(other, tmp_path / "out")


def test_weights_in_several_files_are_refused_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "sharded")
    network = AutoModelForSequenceClassification.from_pretrained(folder)
    (tmp_path / "sharded" / "model.safetensors").unlink()
    network.save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    with pytest.raises(InvalidInput, match=r"come in several files .*: join them into one model\.safetensors"):
        import_classifier(tmp_path / "sharded", tmp_path / "out")


def test_a_text_is_cut_where_the_folders_tokenizer_cuts_it(folder: Path, tmp_path: Path) -> None:
    shorter = tmp_path / "shorter"
    shutil.copytree(folder, shorter)
    said = json.loads((shorter / "tokenizer_config.json").read_text())
    (shorter / "tokenizer_config.json").write_text(json.dumps(said | {"model_max_length": 12}))
    classifier = load_classifier(import_classifier(shorter, tmp_path / "out"))
    assert classifier.card.tokens == 12
    text = "profit rose sharply " * 9
    tokenizer = AutoTokenizer.from_pretrained(shorter)
    assert classifier.tokenizer.encode(text).ids == tokenizer(text, truncation=True)["input_ids"]
    (shorter / "tokenizer_config.json").write_text(json.dumps(said | {"model_max_length": 4}))
    with pytest.raises(InvalidInput, match="reads 4 tokens of a text: too few"):
        import_classifier(shorter, tmp_path / "out")


def test_a_name_that_is_no_folders_is_refused_before_anything_is_made(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'\.\./Evil' is no name of a bundle"):
        import_classifier(folder, tmp_path / "out", model_id="../Evil")
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_beyond_the_classifiers_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "larger")
    vocabulary = tmp_path / "larger" / "vocab.txt"
    words = vocabulary.read_text().split()
    vocabulary.write_text("\n".join([*(word for word in words if word != "shares"), "x1", "x2", "shares"]) + "\n")
    with pytest.raises(InvalidInput, match="gives tokens beyond the"):
        import_classifier(tmp_path / "larger", tmp_path / "out")


def test_a_vocabulary_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    known = len(WORDS) + 128
    folder = write_classifier(tmp_path / "cut", vocab_size=known)
    with pytest.raises(
        InvalidInput, match=rf"knows {len(WORDS)} of the classifier's {known} tokens: its vocabulary was"
    ):
        import_classifier(folder, tmp_path / "out")
    import_classifier(write_classifier(tmp_path / "rounded", vocab_size=known - 1), tmp_path / "out")


def test_a_bundle_never_takes_the_place_of_the_checkpoint_that_it_is_made_of(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "finbert")
    with pytest.raises(Conflict, match="is there already and no bundle"):
        import_classifier(tmp_path / "finbert", tmp_path)
    assert (tmp_path / "finbert" / "vocab.txt").is_file()


def test_a_bundle_that_was_changed_is_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "finbert")
    (tmp_path / "finbert" / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleRefused, match=r"tokenizer\.json has sha256"):
        load_classifier(tmp_path / "finbert")
    write_manifest(tmp_path / "finbert")
    with pytest.raises(BundleRefused, match="its content is version"):
        load_classifier(tmp_path / "finbert")
