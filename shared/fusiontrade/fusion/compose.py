"""From the container's items to the published blocks: pure mapping, no rule of its own.

Always true here: a block is made of the numbers the models gave and of nothing else; what they did not give is null
or ``N/A``. Nonsense (a band upside down, a probability above 1) raises `ValueError`; the service makes an error of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fusiontrade.clock import iso
from fusiontrade.fusion.agreement import Fusion, LstmView, PatchTstView, Signal, TimeframeView, TimeframeVote, vote_on
from fusiontrade.fusion.response import (
    Logic,
    ModelUsed,
    TargetsBlock,
    TimeframeBlock,
    TimeframesBlock,
    TouchBlock,
    TouchLevels,
)
from fusiontrade.fusion.targets import Outlook, Targets
from fusiontrade.inference.contract import TOUCH_LEVELS, ItemForecast, LstmForecast, PatchTstForecast
from fusiontrade.market.timeframes import INTRADAY, Timeframe

__all__ = [
    "Items",
    "contradictions",
    "logic_of",
    "models_of",
    "outlooks_of",
    "targets_block",
    "timeframes_block",
    "views_of",
]

Items = Mapping[Timeframe, ItemForecast]
"""The answered item of each timeframe; a timeframe without an answer is absent."""


def views_of(items: Items) -> list[TimeframeView]:
    """Return what the models say, as the agreement reads it; one view for each of the four timeframes."""
    return [_view(timeframe, items.get(timeframe)) for timeframe in INTRADAY]


def outlooks_of(items: Items) -> dict[Timeframe, Outlook]:
    """Return ATR, horizon and win probabilities of each timeframe."""
    return {timeframe: _outlook(item.atr, item.lstm) for timeframe, item in items.items() if item.atr is not None}


def timeframes_block(fusion: Fusion, items: Items) -> TimeframesBlock:
    """Return the four timeframes; those without an answer are ``N/A`` and null throughout."""
    votes = {vote.timeframe: vote for vote in fusion.votes}
    blocks = {
        timeframe: _block(votes.get(timeframe) or vote_on(TimeframeView(timeframe, None, None)), items.get(timeframe))
        for timeframe in INTRADAY
    }
    return TimeframesBlock(
        m15=blocks[Timeframe.M15], m30=blocks[Timeframe.M30], h1=blocks[Timeframe.H1], h4=blocks[Timeframe.H4]
    )


def targets_block(targets: Targets, items: Items) -> TargetsBlock:
    """Return the targets with the touch probabilities of their timeframe."""
    item = items.get(targets.timeframe) if targets.timeframe else None
    return TargetsBlock(
        tp1=targets.tp1,
        tp2=targets.tp2,
        tp3=targets.tp3,
        sl=targets.sl,
        atr=targets.atr,
        p_win=targets.p_win,
        horizon_bars=targets.horizon_bars,
        entry=targets.entry,
        timeframe=targets.timeframe,
        touch=_touch(item.lstm) if item and item.lstm else None,
    )


def logic_of(fusion: Fusion) -> Logic:
    """Return the sign of each model's weighted vote and whether both point in one direction."""
    return Logic(
        primary_lstm=fusion.primary.value, secondary_patchtst=fusion.secondary.value, confluence=fusion.confluence
    )


def models_of(items: Items) -> list[ModelUsed]:
    """Return the bundles that answered, shortest timeframe first, LSTM before PatchTST."""
    return [
        ModelUsed(timeframe=timeframe, id=forecast.model.id, version=forecast.model.version)
        for timeframe in INTRADAY
        if timeframe in items
        for forecast in _forecasts(items[timeframe])
    ]


def contradictions(fusion: Fusion, items: Items) -> list[str]:
    """Say where an LSTM's two heads disagree: it votes one way and its predicted close lies the other."""
    return [
        f"{vote.timeframe}: the LSTM votes {Signal.of(vote.lstm)} while its predicted close lies "
        f"{'below' if vote.lstm > 0 else 'above'} the price; its confidence is the size of that change, no direction"
        for vote in fusion.votes
        if vote.lstm and (lstm := items[vote.timeframe].lstm) and lstm.change * vote.lstm < 0
    ]


def _forecasts(item: ItemForecast) -> Iterable[LstmForecast | PatchTstForecast]:
    return (forecast for forecast in (item.lstm, item.patchtst) if forecast is not None)


def _view(timeframe: Timeframe, item: ItemForecast | None) -> TimeframeView:
    return TimeframeView(
        timeframe,
        _lstm_view(item.lstm) if item and item.lstm else None,
        _patchtst_view(item.patchtst) if item and item.patchtst else None,
    )


def _lstm_view(lstm: LstmForecast) -> LstmView:
    return LstmView(lstm.probability_up, lstm.abstain_below, lstm.abstain_above, lstm.change, lstm.change_scale)


def _patchtst_view(patchtst: PatchTstForecast) -> PatchTstView:
    return PatchTstView(patchtst.up, patchtst.flat, patchtst.down, patchtst.abstains)


def _outlook(atr: float, lstm: LstmForecast | None) -> Outlook:
    return Outlook(atr, lstm.win_long, lstm.win_short, lstm.horizon_bars) if lstm else Outlook(atr)


def _block(vote: TimeframeVote, item: ItemForecast | None) -> TimeframeBlock:
    lstm = item.lstm if item else None
    patchtst = item.patchtst if item else None
    return TimeframeBlock(
        lstm=Signal.of(vote.lstm).value,
        patchtst=Signal.of(vote.patchtst).value,
        agreement=vote.agreement,
        lstm_confidence=vote.lstm_confidence,
        lstm_direction_confidence=lstm and lstm.probability_up,
        lstm_direction_accuracy=lstm and lstm.direction_accuracy,
        patchtst_confidence=vote.patchtst_confidence,
        patchtst_prob_up=patchtst and patchtst.up,
        patchtst_prob_flat=patchtst and patchtst.flat,
        patchtst_prob_down=patchtst and patchtst.down,
        current_price=item and item.current_price,
        predicted_price=lstm and lstm.predicted_price,
        interval_90=lstm and lstm.interval_90,
        calibrated_prob_up=lstm and lstm.probability_up,
        atr=item and item.atr,
        expected_range=lstm and lstm.expected_range,
        horizon_bars=lstm and lstm.horizon_bars,
        bar_close=iso(item.bar_close) if item and item.bar_close is not None else None,
        touch=lstm and _touch(lstm),
    )


def _touch(lstm: LstmForecast) -> TouchBlock:
    return TouchBlock(up=_levels(lstm.touch_up), down=_levels(lstm.touch_down))


def _levels(probabilities: Sequence[float]) -> TouchLevels:
    return TouchLevels.model_validate(
        {f"{level:g}": probability for level, probability in zip(TOUCH_LEVELS, probabilities, strict=True)}
    )
