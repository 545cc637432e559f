"""What is sent to the serving program is enough for what it computes."""

from __future__ import annotations

from fusiontrade.inference import contract
from serving import features


def test_as_many_bars_are_sent_as_the_longest_input_needs() -> None:
    assert max(features.BARS_NEEDED, features.PATCHTST_BARS_NEEDED) <= contract.BARS_NEEDED
