"""From a Hugging Face sequence classifier (FinBERT's layout) to a bundle: read, exported, set against torch, written.

Always true of a bundle that was made: every weight of the classifier was in the folder, no code of the folder was run
and no pickle opened, the graph gives the logits that `transformers` gives for the same texts, and each of its columns
is positive, negative or neutral by the name that the folder's configuration gives it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

import fusiontrade
from fusiontrade.errors import InvalidInput
from fusiontrade.inference.texts import MOODS
from serving.bringing.folders import WEIGHTS, json_object, place_of, weights_of
from serving.bringing.placing import sha256_of
from serving.bundle import GRAPH
from serving.models.protocol import Exporter
from serving.sealed import Source, write_sealed
from serving.sentiment.scorer import TOKENIZER, SentimentCard, load_classifier, tokenizer_of
from serving.training.bundle import libraries
from serving.training.export import TOLERANCE, ExportFailure, export, largest_difference, run_graph
from serving.training.fit import deterministic

__all__ = ["import_classifier", "labels_of"]

CONFIG = "config.json"
_TOKENIZER_FILES = (TOKENIZER, "vocab.txt")
_FAMILIES = ("bert", "distilbert", "electra")  # absolute positions that begin at 0
_TOKENS, _LEAST_TOKENS = 512, 8
_UNLIKE = (
    ("problem_type", "multi_label_classification", "its labels do not exclude each other, as moods have to"),
    ("problem_type", "regression", "it answers numbers that are no logits of moods"),
    ("is_decoder", True, "a text is read as a whole here, not from its beginning on"),
    ("position_embedding_type", "relative_key", "positions have to be absolute"),
    ("position_embedding_type", "relative_key_query", "positions have to be absolute"),
)
_PADDING = 128  # tokens that a classifier may have beyond its tokenizer's: sizes are rounded up
_MASKED = -1e9  # added to a score that is not to count
_TEXTS = (  # from one token to more than 512
    "Shares rise after the company raises its outlook",
    "The group posts a wider loss than expected and cuts its dividend",
    "The annual meeting will be held on Thursday",
    "up",
    "Oil slips 2.5 % as inventories build; dollar firms against the euro, yields little changed " * 40,
)


def import_classifier(
    folder: Path, out: Path, *, model_id: str = "finbert", repository: str = "", revision: str = ""
) -> Path:
    """Write the bundle of a sequence classifier to ``out/<model_id>``; return that folder.

    Parameters
    ----------
    folder
        Holds ``config.json``, ``model.safetensors``, and ``tokenizer.json`` or ``vocab.txt``.
    repository, revision
        Where it came from, where that is known.

    Raises
    ------
    InvalidInput
        If something of the folder cannot be used; says what and why.
    Conflict
        If something that is no bundle stands where this one is to be.
    serving.training.export.ExportFailure
        If the graph does not give torch's numbers.
    BundleRefused
        If serving would refuse the bundle.
    """
    begun = time.time()
    place_of(out, model_id)
    labels, config = labels_of(folder)
    network = _network(folder)
    content, pad, longest = _tokenizer(folder, network.config.vocab_size)
    tokens = min(_TOKENS, longest, network.config.max_position_embeddings)
    if tokens < _LEAST_TOKENS:
        raise InvalidInput(CONFIG, f"{folder.name} reads {tokens} tokens of a text: too few to score a headline")
    graph = _graph(network, folder.name)
    difference, compared = _compared(network, graph, tokenizer_of(content, tokens), pad)
    names = [CONFIG, WEIGHTS, *(name for name in _TOKENIZER_FILES if (folder / name).is_file())]
    card = SentimentCard(
        model_id=model_id,
        labels=labels,
        tokens=tokens,
        pad=pad,
        config={name: config[name] for name in sorted(config) if isinstance(config[name], int | float | str)},
        source=Source(
            how="imported",
            repository=repository,
            revision=revision,
            files={name: sha256_of(folder / name) for name in names},
        ),
        code_version=fusiontrade.__version__,
        libraries=libraries(),
    )
    report = {
        "agreement": {"largest_difference": difference, "texts": compared, "tolerance": TOLERANCE},
        "parameters": sum(value.numel() for value in network.parameters()),
    }
    run = {"written": time.time(), "seconds": round(time.time() - begun, 3)}
    return write_sealed(out, card, {GRAPH: graph, TOKENIZER: content}, report, run, load=load_classifier)


def labels_of(folder: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the moods in the order of the classifier's columns, and its configuration; raises `InvalidInput`."""
    where = f"{folder.name}/{CONFIG}"
    config = json_object(folder, CONFIG)
    if (family := config.get("model_type")) not in _FAMILIES:
        raise InvalidInput(where, f"{where} has model_type {family!r}; known are {', '.join(_FAMILIES)}")
    named = config.get("id2label")
    if not isinstance(named, dict) or sorted(named) != [str(place) for place in range(len(named))]:
        raise InvalidInput(where, f"{where} has id2label {named!r}: it has to name every column from '0' on")
    found = tuple(str(named[str(place)]).strip().lower() for place in range(len(named)))
    if sorted(found) != sorted(MOODS):
        told = f"{where} has the labels {', '.join(map(repr, named.values()))}"
        raise InvalidInput(where, f"{told}; a scorer of moods needs exactly {', '.join(MOODS)}, in any order")
    for name, value, why in _UNLIKE:
        if config.get(name) == value:
            raise InvalidInput(where, f"{where} has {name} {value!r}: {why}")
    if config.get("quantization_config"):
        raise InvalidInput(where, f"{where} has a quantization_config: take weights of full or half precision")
    return found, config


class _Logits(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """The classifier as a graph of tokens and their mask; segments are one, positions count from 0."""

    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")
    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    exporter: ClassVar[Exporter] = "trace"
    sampled: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")  # the axis of tokens is free

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.family = network.config.model_type

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return (n, 3) logits of (n, T) int64 tokens and (n, T) int64 mask."""
        masked = (1.0 - attention_mask[:, None, None, :].float()) * _MASKED
        places: dict[str, torch.Tensor] = {}
        if self.family != "distilbert":
            segments = torch.zeros_like(input_ids)
            places = {"token_type_ids": segments, "position_ids": torch.cumsum(segments + 1, dim=1) - 1}
        return self.network(input_ids=input_ids, attention_mask=masked, **places).logits

    def example(self, rows: int) -> tuple[torch.Tensor, ...]:
        """Return ``rows`` texts of seven tokens."""
        return torch.ones(rows, 7, dtype=torch.int64), torch.ones(rows, 7, dtype=torch.int64)


def _graph(network: Any, name: str) -> bytes:
    """Return the classifier as a graph; raises `InvalidInput` where its configuration makes one that cannot run."""
    try:
        return export(_Logits(network))
    except (ValueError, TypeError, RuntimeError, LookupError) as error:
        told = " ".join(str(error).split())[:300]
        raise InvalidInput(CONFIG, f"the classifier of {name} cannot be exported: {told}") from None


def _network(folder: Path) -> Any:
    """Return the classifier in evaluation mode, every weight of it read from the folder."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    where = f"{folder.name}/{weights_of(folder).name}"
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        network, read = AutoModelForSequenceClassification.from_pretrained(  # nosec B615 - a local folder alone
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            attn_implementation="eager",
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    except (SafetensorError, StrictDataclassError, OSError, ValueError, TypeError, RuntimeError, LookupError) as error:
        told = " ".join(str(error).split())[:300]
        raise InvalidInput(where, f"{folder.name} cannot be read as a classifier: {told}") from None
    _check(read, where)
    for name, value in network.named_parameters():
        if not torch.isfinite(value).all():
            raise InvalidInput(where, f"{where}: the tensor {name} holds a number that is not finite")
    return network.eval()


def _check(read: Mapping[str, Any], where: str) -> None:
    """Refuse weights that are not all of the classifier's, by name."""
    if wrong := sorted(read["mismatched_keys"]):
        name, found, needed = wrong[0]
        raise InvalidInput(where, f"{where}: the tensor {name} is {tuple(found)}, this network needs {tuple(needed)}")
    if missing := sorted(read["missing_keys"]):
        raise InvalidInput(where, f"{where} lacks the tensor {missing[0]}{_more(missing)}")
    if unknown := sorted(read["unexpected_keys"]):
        raise InvalidInput(where, f"{where} holds the tensor {unknown[0]}{_more(unknown)}, which this network has not")
    if read["error_msgs"]:
        raise InvalidInput(where, f"{where}: {read['error_msgs'][0]}")


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _tokenizer(folder: Path, known: int) -> tuple[bytes, int, int]:
    """Return ``tokenizer.json`` as `transformers` reads the folder, the id that fills texts up, and where it cuts.

    ``known`` are the tokens that the classifier has rows for; a vocabulary far shorter is not the whole of it.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise InvalidInput(folder.name, f"{folder.name} holds neither {' nor '.join(_TOKENIZER_FILES)}")
    try:
        made = AutoTokenizer.from_pretrained(  # nosec B615 - a local folder alone
            folder, local_files_only=True, trust_remote_code=False, use_fast=True
        )
        backend = made.backend_tokenizer
    except Exception as error:  # the tokenizers library raises nothing more precise
        told = str(error).splitlines()[0][:300]
        raise InvalidInput(folder.name, f"the tokenizer of {folder.name} cannot be read: {told}") from None
    if made.pad_token_id is None:
        raise InvalidInput(folder.name, f"the tokenizer of {folder.name} has no padding token")
    if (found := backend.get_vocab_size(with_added_tokens=True)) <= known - _PADDING:
        told = f"the tokenizer of {folder.name} knows {found} of the classifier's {known} tokens"
        raise InvalidInput(folder.name, f"{told}: its vocabulary was cut off, download it again")
    backend.no_truncation()
    backend.no_padding()
    return backend.to_str().encode("utf-8"), int(made.pad_token_id), int(made.model_max_length)


def _compared(network: Any, graph: bytes, tokenizer: Any, pad: int) -> tuple[float, int]:
    """Return the largest difference between the logits of torch and of the graph, and of how many texts."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(_TEXTS))]
    size = network.config.vocab_size
    if max(pad, *(token for row in rows for token in row)) >= size:
        raise InvalidInput(TOKENIZER, f"the tokenizer gives tokens beyond the {size} that the classifier knows")
    length = max(map(len, rows))
    tokens = np.full((len(rows), length), pad, np.int64)
    mask = np.zeros((len(rows), length), np.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)], mask[place, : len(row)] = row, 1
    with deterministic(1), torch.no_grad():  # the report is part of the manifest
        wanted = network(input_ids=torch.from_numpy(tokens), attention_mask=torch.from_numpy(mask)).logits.numpy()
    if not np.isfinite(wanted).all():
        raise ExportFailure("the classifier's own logits are not finite on plain English: its weights are no good")
    given: Any = {"input_ids": tokens, "attention_mask": mask}
    found = run_graph(graph, iter([given]), ("logits",))
    return largest_difference({"logits": wanted}, found), len(rows)
