"""The module against the numbers that the published code gave for a published layout, wherever they are at hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from serving.kronos.network import read_decoder, read_tokenizer
from serving.kronos.windows import normalised, stamps_of

ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path(os.environ.get("FUSIONTRADE_REAL_DATA") or ROOT.parent / "shared" / "data") / "kronos"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        not (FOLDER / "expected.npz").is_file(), reason=f"no conformance set at {FOLDER}: set FUSIONTRADE_REAL_DATA"
    ),
]


@pytest.fixture(scope="module")
def expected() -> Mapping[str, NDArray[Any]]:
    with np.load(FOLDER / "expected.npz", allow_pickle=False) as held:
        return {name: held[name] for name in held.files}


@pytest.fixture(scope="module")
def found(expected: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    tokenizer, decoder = read_tokenizer(FOLDER / "tokenizer"), read_decoder(FOLDER / "model")
    bars, stamps = normalised(expected["ohlcva"]), stamps_of(expected["timestamps_ms"])
    with torch.no_grad():
        s1, s2 = tokenizer.encode(torch.from_numpy(bars))
        context = decoder.context(s1, s2, torch.from_numpy(stamps))
        coarse = decoder.s1_logits(context)
        following = coarse[:, -1:].argmax(dim=-1)
        answers = {
            "s1_ids": s1,
            "s2_ids": s2,
            "decoded": tokenizer.decode(s1, s2),
            "decoded_s1_only": tokenizer.decode_coarse(s1),
            "s1_logits": coarse,
            "context": context,
            "s2_logits": decoder.s2_logits(context, s1),
            "next_s1": following,
            "next_s2_logits": decoder.s2_logits(context, following)[:, -1],
            "embedding": context.mean(dim=1),
        }
    return {"normalised": bars, "stamps": stamps} | {name: value.numpy() for name, value in answers.items()}


def test_every_array_of_the_set_is_reproduced(
    expected: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]
) -> None:
    assert set(found) == set(expected) - {"ohlcva", "timestamps_ms"}
    for name, values in found.items():
        wanted = expected[name]
        assert values.dtype == wanted.dtype, name
        if wanted.dtype.kind == "i":
            np.testing.assert_array_equal(values, wanted, err_msg=name)
        else:
            relative = 0.0 if name == "embedding" else 1e-5
            np.testing.assert_allclose(values, wanted, rtol=relative, atol=1e-5, err_msg=name)


def test_the_set_has_the_parameters_that_it_says() -> None:
    count = [
        sum(value.numel() for value in network.parameters())
        for network in (read_tokenizer(FOLDER / "tokenizer"), read_decoder(FOLDER / "model"))
    ]
    assert count == [167_952, 626_880]
