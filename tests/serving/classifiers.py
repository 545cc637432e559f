"""Folders of FinBERT's layout: the real architecture, random weights that matter, a vocabulary of a few words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification
from transformers.utils import logging

_VOCABULARY = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] shares share fell fall sharply after the report profit rose rise loss widened up "
    "down ##s ##ly ##ed on thursday meeting company raises outlook cuts dividend oil dollar euro . , ; % 2 5 a b c d "
    "e f g h i j k l m n o p q r s t u v w x y z"
)
WORDS = _VOCABULARY.split()


def write_classifier(folder: Path, labels: Sequence[str] = ("positive", "negative", "neutral"), **changes: Any) -> Path:
    """Write a classifier whose weights do not depend on the order of ``labels``."""
    folder.mkdir(parents=True, exist_ok=True)
    logging.disable_progress_bar()
    torch.manual_seed(11)
    sizes: dict[str, Any] = {
        "vocab_size": len(WORDS), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 40, "max_position_embeddings": 64, "num_labels": len(labels), "initializer_range": 0.3,
    }  # fmt: skip
    network = BertForSequenceClassification(BertConfig(**{**sizes, **changes})).eval()
    network.config.id2label = dict(enumerate(labels))
    network.config.label2id = {label: place for place, label in enumerate(labels)}
    network.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    return folder


def permuted(folder: Path, order: Sequence[int], labels: Sequence[str]) -> None:
    """Let the columns of a classifier stand in another order, names and weights alike."""
    network = BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        network.classifier.weight.copy_(network.classifier.weight[list(order)].clone())
        network.classifier.bias.copy_(network.classifier.bias[list(order)].clone())
    network.config.id2label = {place: labels[old] for place, old in enumerate(order)}
    network.config.label2id = {label: place for place, label in network.config.id2label.items()}
    network.save_pretrained(folder)
