"""Direction rules: a market with a signal votes, one without answers its base rate and abstains, always and exactly."""

from __future__ import annotations

import numpy as np
import pytest

from serving.calibration import Platt, sigmoid
from serving.card import DirectionRule
from serving.evaluation.metrics import Sample, log_loss
from serving.training.judging.directions import Directions, base_rates, direction_rules

HOUR = 3_600_000
ROWS = 3000
MARKETS = {"AUDUSD=X": "fx", "EURUSD=X": "fx", "BTC-USD": "crypto", "ETH-USD": "crypto"}


def given(signals: dict[str, float], *, rates: dict[str, float] | None = None, seed: int = 0) -> Directions:
    """Calibration rows of every market; a market's outcomes follow its logits by ``signals`` (0: not at all)."""
    rng = np.random.default_rng(seed)
    usual = {"any": 0.5, "fx": 0.5, "crypto": 0.5} | dict.fromkeys(MARKETS, 0.5) | (rates or {})
    logits, truth, symbol = [], [], []
    for name in MARKETS:
        logit = rng.normal(0, 1, ROWS)
        offset = np.log(usual[name] / (1 - usual[name]))
        truth.append(rng.random(ROWS) < sigmoid(signals.get(name, 0.0) * logit + offset))
        logits.append(logit)
        symbol.append(np.full(ROWS, name))
    order = np.argsort(np.tile(np.arange(ROWS), len(MARKETS)), kind="stable")
    names = np.concatenate(symbol)[order]
    return Directions(
        logits=np.concatenate(logits)[order],
        truth=np.concatenate(truth)[order].astype(np.float64),
        instants=(np.tile(np.arange(ROWS), len(MARKETS))[order] * HOUR).astype(np.int64),
        symbol=names,
        market=np.array([MARKETS[name] for name in names]),
        rates=usual,
    )


def votes(rule: DirectionRule, logits: np.ndarray) -> np.ndarray:
    probability = rule.calibration.apply(logits)
    return (probability > rule.abstain_above).astype(int) - (probability < rule.abstain_below)


LOGITS = np.linspace(-50, 50, 1001)


def test_without_a_signal_every_market_answers_its_base_rate_and_abstains_always() -> None:
    rates = {"any": 0.503, "fx": 0.49, "EURUSD=X": 0.47, "BTC-USD": 0.55}
    rules, report = direction_rules(given({}, rates=rates))
    assert set(rules) == {"any", "fx", "crypto", *MARKETS}
    for name, rule in rules.items():
        expected = base_rates(np.array([rates.get(name, 0.5)]))
        assert isinstance(rule.calibration, Platt)
        assert rule.calibration.a == 0.0
        assert (rule.calibration.apply(LOGITS) == expected).all()
        assert float(expected[0]) == pytest.approx(rates.get(name, 0.5), abs=1e-6)
        assert not votes(rule, LOGITS).any()
        assert not report["markets"][name]["votes"]


def test_luck_gives_no_market_a_vote() -> None:
    for seed in range(1, 6):
        rules, _ = direction_rules(given({}, seed=seed))
        assert not [name for name, rule in rules.items() if votes(rule, LOGITS).any()]


def test_a_market_with_a_signal_votes_and_the_others_beside_it_abstain() -> None:
    rules, report = direction_rules(given({"BTC-USD": 0.5}))
    for name in ("AUDUSD=X", "EURUSD=X", "ETH-USD", "fx"):
        assert (rules[name].calibration.apply(LOGITS) == base_rates(np.array([0.5]))[0]).all()
        assert not votes(rules[name], LOGITS).any()
    voting = rules["BTC-USD"]
    assert (votes(voting, LOGITS) == 1).any()
    assert (votes(voting, LOGITS) == -1).any()
    assert 0 < voting.abstain_below < 0.5 < voting.abstain_above < 1
    assert report["markets"]["BTC-USD"]["votes"]
    assert report["markets"]["BTC-USD"]["against_base_rate"]["difference"] < 0
    assert report["markets"]["BTC-USD"]["against_base_rate"]["adjusted"] < 0.01


def test_a_signal_in_all_of_a_kind_gives_its_rule_to_symbols_without_their_own() -> None:
    rules, _ = direction_rules(given({"BTC-USD": 0.6, "ETH-USD": 0.6}))
    assert (votes(rules["crypto"], LOGITS) == 1).any()
    assert not votes(rules["fx"], LOGITS).any()


def test_a_voting_market_keeps_the_base_rate_of_its_training_span() -> None:
    """The calibration slice rose more often than the span before it; that is no forecast."""
    rows = given(dict.fromkeys(MARKETS, 0.6), rates={"BTC-USD": 0.56})
    spans = dict(rows.rates) | {"BTC-USD": 0.5}
    rules, _ = direction_rules(Directions(**{**vars(rows), "rates": spans}))
    own = rows.symbol == "BTC-USD"
    assert rules["BTC-USD"].calibration.apply(rows.logits[own]).mean() == pytest.approx(0.5, abs=1e-4)


def test_a_kind_of_market_without_a_row_of_the_slice_abstains() -> None:
    rows = given({"BTC-USD": 0.6, "ETH-USD": 0.6})
    rules, report = direction_rules(
        Directions(**{**vars(rows), "rates": dict(rows.rates) | {"metal": 0.51, "GC=F": 0.52}})
    )
    for name in ("metal", "GC=F"):
        assert not votes(rules[name], LOGITS).any()
        assert report["markets"][name]["against_base_rate"]["n"] == 0


def test_the_log_loss_skill_of_an_abstaining_market_is_exactly_nothing_on_new_data() -> None:
    """Whatever comes: the probability is the reference's own, to the last bit."""
    rng = np.random.default_rng(4)
    spans = rng.uniform(0.3, 0.7, 7)
    rules, _ = direction_rules(given({}, rates=dict(zip(("any", "fx", "crypto", *MARKETS), spans, strict=True))))
    for name, span in zip(("any", "fx", "crypto", *MARKETS), spans, strict=True):
        truth = (rng.random(5000) < rng.uniform(0.2, 0.8)).astype(np.float64)
        probability = rules[name].calibration.apply(rng.normal(0, 3, 5000))
        reference = base_rates(np.full(5000, span))
        np.testing.assert_array_equal(probability, reference)
        figure = Sample(np.arange(5000) * HOUR, 20, 1).skill(log_loss(probability, truth), log_loss(reference, truth))
        assert (figure.value, figure.low, figure.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("rate", [1e-3, 0.25, 0.5, 0.501234567, 0.999])
def test_a_base_rate_is_kept_to_six_digits_of_its_logit(rate: float) -> None:
    found = base_rates(np.array([rate, rate]))
    assert found == pytest.approx([rate, rate], rel=1e-6)
    assert np.log(found / (1 - found)) == pytest.approx(np.round(np.log(rate / (1 - rate)), 6), abs=1e-9)
