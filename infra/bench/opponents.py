"""What the product is measured against inside one process, each written the way its own users would write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fusiontrade.market.candles import CandleFrame
    from serving.bundle import Bundle


def walk(count: int) -> CandleFrame:
    """Return ``count`` hourly bars of a seeded random walk with volume."""
    import numpy as np

    from fusiontrade.market.candles import CandleFrame
    from fusiontrade.market.timeframes import Timeframe

    random = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.002, count)))
    opened = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(opened, close) * (1 + random.uniform(0, 0.001, count))
    low = np.minimum(opened, close) * (1 - random.uniform(0, 0.001, count))
    time = np.arange(count, dtype=np.int64) * 3_600_000
    return CandleFrame("BTC-USD", Timeframe.H1, time, opened, high, low, close, random.uniform(1, 9, count))


def talib_indicators(frame: CandleFrame) -> list[NDArray[Any]]:
    """Return every column that TA-Lib has a function for, over the whole frame; numpy for simple rest."""
    import numpy as np
    import talib as ta

    o, h, low, c = frame.open, frame.high, frame.low, frame.close
    v = np.ones_like(c) if frame.volume is None else frame.volume
    mean = (h + low + c) / 3
    change = np.diff(c, prepend=c[0])
    smooth, atr = ta.EMA(c, 20), ta.ATR(h, low, c, 14)
    rates = [ta.SMA(ta.ROC(c, n), m) for n, m in ((10, 10), (15, 10), (20, 10), (30, 15))]
    strength = rates[0] + 2 * rates[1] + 3 * rates[2] + 4 * rates[3]
    money = ((c - low) - (h - c)) / (h - low) * v
    middle = [(ta.MAX(h, n) + ta.MIN(low, n)) / 2 for n in (9, 26, 52)]
    fall = 100 * (c - ta.MAX(c, 14)) / ta.MAX(c, 14)
    columns = [c / (c - change) - 1, np.log(c / (c - change)), change, h - low, (c - o) / (h - low)]
    columns += [np.diff(v, prepend=v[0]), ta.SMA(v, 20), ta.STDDEV(v, 20), ta.OBV(c, v), np.cumsum(v * change / c)]
    columns += [ta.RSI(c, 14), *ta.STOCHF(h, low, c, 14, 3, 0), ta.WILLR(h, low, c, 14), ta.ROC(c, 12), ta.MOM(c, 10)]
    columns += [ta.ULTOSC(h, low, c, 7, 14, 28), *(ta.SMA(c, n) for n in (20, 50, 200)), ta.EMA(c, 12), ta.EMA(c, 26)]
    columns += [*ta.MACD(c, 12, 26, 9), ta.ADX(h, low, c, 14), ta.CCI(h, low, c, 20), ta.TRIX(c, 15)]
    columns += [c - np.roll(ta.SMA(c, 20), 11), *(bands := ta.BBANDS(c, 20, 2, 2, 0)), bands[0] - bands[2], atr]
    columns += [smooth + 2 * atr, smooth - 2 * atr, ta.SUM(money, 20) / ta.SUM(v, 20), ta.EMA(change * v, 13)]
    columns += [ta.AD(h, low, c, v), np.diff((h + low) / 2, prepend=0) * (h - low) / v]
    columns += [ta.SUM(mean * v, 14) / ta.SUM(v, 14), (middle[0] + middle[1]) / 2, middle[2], ta.SAR(h, low, 0.02, 0.2)]
    columns += [strength, ta.SMA(strength, 9), np.sqrt(ta.SMA(fall**2, 14))]
    columns += [(c - ta.SMA(c, 14)) / ta.EMA(ta.TRANGE(h, low, c), 14), ppo := ta.PPO(c, 12, 26, 1), ta.EMA(ppo, 9)]
    return columns


def ta_indicators(frame: CandleFrame) -> Any:
    """Return everything ``ta`` computes."""
    import warnings

    import pandas as pd
    import ta  # type: ignore[import-untyped]

    table = pd.DataFrame({name: getattr(frame, name) for name in ("open", "high", "low", "close", "volume")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ta.add_all_ta_features(table, "open", "high", "low", "close", "volume")


def inputs_of(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """Return one random window for the bundle's graph."""
    import numpy as np

    random, features = np.random.default_rng(2), bundle.card.features
    shape = (1, features.sequence, len(features.columns))
    width = len(features.calendar)
    calendar = (1, features.sequence, width) if bundle.card.kind == "lstm" else (1, width)
    name = "features" if bundle.card.kind == "lstm" else "candles"
    shapes = {name: shape, "calendar": calendar, "volatility": (1, len(features.volatility))}
    return {key: random.normal(0, 1, size).astype(np.float32) for key, size in shapes.items()}


def eager_models(bundles: Sequence[Bundle]) -> list[Callable[[Mapping[str, NDArray[Any]]], object]]:
    """Return the bundles' networks in eager torch, one thread; with their own weights where bundles ship them."""
    import torch
    from safetensors.torch import load_file

    from serving.models import LstmConfig, LstmModel, PatchTstConfig, PatchTstForecaster

    torch.set_num_threads(1)

    def eager(bundle: Bundle) -> Callable[[Mapping[str, NDArray[Any]]], object]:
        sizes: Any = bundle.card.config["model"]
        lstm = bundle.card.kind == "lstm"
        chosen = LstmModel(LstmConfig(**sizes)) if lstm else PatchTstForecaster(PatchTstConfig(**sizes))
        model = chosen.eval()
        if (weights := bundle.folder / "weights.safetensors").is_file():
            model.load_state_dict(load_file(weights))

        def run(feed: Mapping[str, NDArray[Any]]) -> object:
            with torch.inference_mode():
                return model(*(torch.from_numpy(feed[name]) for name in model.inputs))

        return run

    return [eager(bundle) for bundle in bundles]
