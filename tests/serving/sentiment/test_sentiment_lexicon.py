"""The lexicon by hand: what leans, what is denied, and that it never claims to know."""

from __future__ import annotations

import pytest

from serving.sentiment.lexicon import Lexicon


@pytest.mark.parametrize(
    ("text", "up", "down"),
    [
        ("Shares surge as profit beats forecasts", 3, 0),
        ("Stock plunges after the company warns of weaker demand", 0, 3),
        ("Profit falls", 1, 1),
        ("The board meets on Thursday", 0, 0),
        ("The results did not disappoint", 1, 0),
        ("Growth isn\u2019t strong", 1, 1),
        ("No recession, no panic; then shares fell", 2, 1),
        ("RALLY!", 1, 0),
    ],
)
def test_words_are_counted_and_denials_turn_them_round(text: str, up: int, down: int) -> None:
    (score,) = Lexicon().scores([text])
    assert score.error is None
    whole = up + down + 1
    assert (score.positive, score.negative, score.neutral) == pytest.approx((up / whole, down / whole, 1 / whole))
    assert score.score == pytest.approx((up - down) / whole)


def test_an_empty_text_is_an_error_of_its_own() -> None:
    scores = Lexicon().scores(["", "rise", " \n"])
    assert [score.error and score.error.code for score in scores] == ["empty", None, "empty"]


def test_a_text_without_words_is_not_neutral() -> None:
    unread = ["🚀🚀", "株式市場は上昇", "акции упали", "\u200b", "\x00", "123 456 %", "...!!!"]
    scores = Lexicon().scores([*unread, "🚀 profit", " " * 25_000 + "profit"])
    assert [score.error and score.error.code for score in scores] == ["empty"] * len(unread) + [None, None]
    assert "no word that the lexicon could know" in str(scores[0].error)
    assert [(score.score, score.truncated) for score in scores[-2:]] == [(0.5, False)] * 2


def test_what_is_read_of_a_long_text_is_said() -> None:
    short, long = Lexicon().scores(["rise " * 10, "rise " * 10_000])
    assert (short.truncated, long.truncated) == (False, True)
    assert not Lexicon().scores(["x" * 20_000])[0].truncated


def test_no_word_leans_both_ways_and_the_version_is_of_the_words() -> None:
    from serving.sentiment import lexicon

    assert not lexicon._UP & lexicon._DOWN
    assert not (lexicon._UP | lexicon._DOWN) & lexicon._DENIALS
    assert Lexicon().reference == Lexicon().reference
    assert Lexicon().reference.id == "finance-lexicon"
