"""The forecast in a readable paragraph, computed from its numbers and from nothing else."""

from __future__ import annotations

from fusiontrade.fusion.agreement import Fusion, Signal, TimeframeVote, Verdict
from fusiontrade.fusion.response import TargetsBlock, TimeframesBlock, TouchBlock

__all__ = ["reasoning_of"]


def reasoning_of(symbol: str, fusion: Fusion, timeframes: TimeframesBlock, targets: TargetsBlock) -> str:
    """Return why the verdict is what it is, and what stands whatever the direction."""
    sentences = [f"{symbol}: {fusion.text}, score {fusion.score:.0f} of 100.", _why(fusion), _votes(fusion)]
    if targets.entry is not None:
        sentences.append(_plan(targets))
    sentences.append(_outlook(timeframes))
    return " ".join(sentence for sentence in sentences if sentence)


def _why(fusion: Fusion) -> str:
    if fusion.verdict is Verdict.DIVERGENT:
        return (
            f"The models do not confirm each other: the weighted LSTM vote is {fusion.primary}, "
            f"PatchTST's is {fusion.secondary}, so no trade is suggested."
        )
    if fusion.confluence:
        return f"The weighted votes of LSTM and PatchTST both say {fusion.verdict}."
    if Signal.MISSING in (fusion.primary, fusion.secondary):
        return "One of the two models is missing on every timeframe, so nothing confirms the other."
    return "Neither model has a direction once its timeframes are weighed; without skill there is no trade."


def _votes(fusion: Fusion) -> str:
    return "Timeframes: " + "; ".join(_vote(vote) for vote in fusion.votes) + "."


def _vote(vote: TimeframeVote) -> str:
    if vote.lstm is None and vote.patchtst is None:
        return f"{vote.timeframe} did not answer"
    lstm, patchtst = Signal.of(vote.lstm), Signal.of(vote.patchtst)
    return (
        f"{vote.timeframe} LSTM {lstm}, PatchTST {patchtst} "
        f"(agreement {vote.agreement:.1f}, confidence {vote.confidence:.2f})"
    )


def _plan(targets: TargetsBlock) -> str:
    chance = "" if targets.p_win is None else f"; the chance of tp1 before the stop is {targets.p_win:.0%}"
    return (
        f"From {targets.entry:.6g}, with the {targets.timeframe} ATR of {targets.atr:.4g}: stop {targets.sl:.6g}, "
        f"targets {targets.tp1:.6g}, {targets.tp2:.6g} and {targets.tp3:.6g}{chance}."
    )


def _outlook(timeframes: TimeframesBlock) -> str:
    named = {"4h": timeframes.h4, "1h": timeframes.h1, "30m": timeframes.m30, "15m": timeframes.m15}
    for name, block in named.items():
        if block.interval_90 and block.touch:
            return _ranges(name, block.interval_90, block.touch, block.horizon_bars)
    return ""


def _ranges(name: str, interval: tuple[float, float], touch: TouchBlock, bars: int | None) -> str:
    low, high = interval
    return (
        f"Whatever the direction: nine in ten of the next {name} closes should fall between {low:.6g} and {high:.6g}; "
        f"within {bars} bars a move of 1 ATR up has a chance of {touch.up.one:.0%}, down {touch.down.one:.0%}."
    )
