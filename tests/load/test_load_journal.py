"""What the measurement of a long journal is judged by."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from infra.load.journal import NEVER, Pair, Question, entries_of, questions, told, variables_of

OPTIONS = argparse.Namespace(entries=1000, others=1000, rounds=5)


def pairs(asked: list[Question], ratios: list[float]) -> dict[str, list[Pair]]:
    return {
        question.name: [Pair(0.01 * n, 0.01 * n * ratio) for n, ratio in enumerate(ratios, 1)] for question in asked
    }


@pytest.mark.parametrize(
    ("ratios", "status"),
    [([1.0, 0.9, 1.1, 9.0, 7.0], 0), ([1.0, 1.6, 1.7, 1.6, 0.1], 1), ([0.5, 1.5, 1.5, 1.5, 9.0], 0)],
    ids=["two-outliers", "slower", "at-the-limit"],
)
def test_a_question_is_slower_among_others_where_half_of_the_pairs_say_so(
    ratios: list[float], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = questions(1000)
    assert told(asked, pairs(asked, ratios), OPTIONS) == status
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + len(asked) + 2
    assert printed[-1].startswith("statistics, half -> everything: ")


def test_entries_of_the_load_are_spread_over_symbols_bars_and_outcomes() -> None:
    entries = list(entries_of("a" * 32, 48))
    assert len({entry.id for entry in entries}) == 48
    assert {entry.symbol for entry in entries} == {"EURUSD=X", "USDJPY=X", "GC=F", "BTC-USD"}
    assert sorted({entry.status.value for entry in entries}) == ["LOSS", "PENDING", "WIN"]
    assert all(entry.due_at == NEVER for entry in entries if entry.is_pending)  # no verification settles them meanwhile
    assert entries == sorted(entries, key=lambda entry: -entry.opened_at)


def test_a_stack_from_a_copy_finds_the_environments_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infra import environment

    found = [variables_of(tmp_path, tmp_path / "code")["FUSIONTRADE_VENVS"]]
    monkeypatch.setenv("FUSIONTRADE_VENVS", "elsewhere")
    found.append(variables_of(tmp_path, tmp_path / "code")["FUSIONTRADE_VENVS"])
    assert found == [str(environment.ROOT / ".venv"), str(Path.cwd() / "elsewhere")]
