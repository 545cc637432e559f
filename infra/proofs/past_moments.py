"""Past moments, three ways: ``python -m infra.proofs.past_moments --data DIR [--api URL] [--moments 200]``.

For each symbol, random past moments are asked of the running stack (``as_of``); each answer is compared with a
recomputation from the Parquet files (`infra.proofs.offline`), number by number, and with the product's own answer
over a folder in which every bar after the moment was altered, which must be the same to the last digit. Exits 1 if
anything differs by more than 1e-6 (relative where numbers are above 1), or if no symbol was a BUY or none a SELL.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import tomllib
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusiontrade.clock import iso
from fusiontrade.fusion.service import FusionService
from fusiontrade.inference import wire
from fusiontrade.inference.client import InferenceClient
from fusiontrade.market.providers.files import FilesProvider
from fusiontrade.market.source import CandleSource
from fusiontrade.market.timeframes import Timeframe
from infra.proofs.offline import Model, Series, expected, read_series
from serving.engine import Engine, load_engine

TOLERANCE = 1e-6
HOUR = 3_600_000
LEAST_BARS = 800
KEPT_BEFORE, KEPT_AFTER = 260 * 24 * HOUR, 10 * 24 * HOUR


class EngineEndpoint:
    """The serving engine called in this process, behind the port of the endpoint."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def invoke(self, body: bytes, *, content_type: str, timeout: float) -> bytes:  # noqa: ARG002 - it answers at once
        """Return the engine's answer to ``body``."""
        return self._engine.answer(wire.decode(body)).model_dump_json().encode()


def main(arguments: list[str] | None = None) -> int:
    """Check every symbol; return the exit status."""
    options = _options(arguments)
    models = {(m.card.kind, m.card.timeframe): m for m in map(Model.load, _bundles(options.bundles))}
    engine = load_engine(options.bundles)
    token = sign_in(options.api, options.email, options.password)
    failed, directions = 0, set[str]()
    for symbol in options.symbols:
        series = read_series(options.data, symbol)
        verdicts: Counter[str] = Counter()
        worst, faults = 0.0, []
        for number, instant in enumerate(moments(series, options.moments, options.seed)):
            answer = ask(options.api, token, symbol, instant)
            verdicts[answer["verdict"]] += 1
            differences = dict(compare(expected(series, models, instant), answer))
            worst = max([worst, *differences.values()])
            faults += [f"{iso(instant)} {where}" for where, by in differences.items() if by > TOLERANCE]
            if number < options.altered and (told := altered_answer(options.data, symbol, instant, engine)) != answer:
                faults.append(f"{iso(instant)} the altered future shows: {_first_difference(told, answer)}")
        directions |= {text.split()[-1] for text in verdicts}
        failed += bool(faults)
        print(
            f"{symbol}: {dict(verdicts.most_common())}; largest difference {worst:.1e}; {len(faults)} faults",
            flush=True,
        )
        print(*(f"  {fault}" for fault in faults[:5]), sep="\n", end="\n" if faults else "")
    return min(1, failed + (not {"BUY", "SELL"} <= directions))


def moments(series: dict[Timeframe, Series], count: int, seed: int) -> list[int]:
    """Return ``count`` random instants (ms, whole seconds) at which every timeframe has enough bars behind it."""
    first = max(int(one.frame.close_time[LEAST_BARS]) for one in series.values())
    last = min(int(one.frame.close_time[-1]) for one in series.values())
    seconds = np.random.default_rng(seed).integers(first // 1000, last // 1000, count)
    return [int(second) * 1000 for second in np.sort(seconds)]


def compare(wanted: Any, given: Any, where: str = "") -> Iterator[tuple[str, float]]:
    """Yield the difference of each number of ``wanted`` from its counterpart: absolute up to 1, relative above."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            yield from compare(value, given[key], f"{where}/{key}")
    elif isinstance(wanted, list):
        for index, value in enumerate(wanted):
            yield from compare(value, given[index], f"{where}/{index}")
    elif isinstance(wanted, float) and given is not None:
        yield where, abs(wanted - given) / max(1.0, abs(wanted))
    else:
        yield where, 0.0 if wanted == given else float("inf")


def altered_answer(folder: Path, symbol: str, instant: int, engine: Engine) -> dict[str, Any]:
    """Return the product's answer over a folder whose bars not finished by ``instant`` were altered."""
    with tempfile.TemporaryDirectory() as scratch:
        altered = Path(scratch)
        shutil.copy(folder / "instruments.toml", altered)
        listing = tomllib.loads((folder / "instruments.toml").read_text())["symbols"][symbol]["files"]
        for timeframe, path in listing.items():
            (altered / path).parent.mkdir(parents=True, exist_ok=True)
            _alter(folder / path, altered / path, instant, Timeframe(timeframe).milliseconds)
        service = FusionService(CandleSource(FilesProvider(altered)), InferenceClient(EngineEndpoint(engine)))
        response = service.fused(symbol, as_of=iso(instant))
        return json.loads(response.model_dump_json(by_alias=True))


def _alter(source: Path, target: Path, instant: int, length: int) -> None:
    """Write the bars around ``instant`` with everything that was not finished by then made up."""
    bounds = [pd.Timestamp(instant + shift, unit="ms", tz="UTC") for shift in (-KEPT_BEFORE, KEPT_AFTER)]
    bars = pd.read_parquet(source, filters=[("timestamp", ">=", bounds[0]), ("timestamp", "<=", bounds[1])])
    opened = bars["timestamp"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[ms]")
    after = opened.astype(np.int64) + length > instant
    factor = np.random.default_rng(instant).uniform(0.5, 2.0, int(after.sum()))
    for name in ("open", "high", "low", "close", "volume"):
        column = bars[name].to_numpy(np.float64, copy=True)
        column[after] *= factor
        bars[name] = column
    bars.to_parquet(target)


def sign_in(api: str, email: str, password: str) -> str:
    """Return an access token of the account."""
    body = json.dumps({"email": email, "password": password}).encode()
    request = urllib.request.Request(f"{api}/api/v1/auth/login", body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return str(json.load(answer)["access_token"])


def ask(api: str, token: str, symbol: str, instant: int) -> dict[str, Any]:
    """Return the stack's answer for ``symbol`` as of ``instant``."""
    query = urllib.parse.urlencode({"as_of": iso(instant)})
    url = f"{api}/api/v1/fusion/{urllib.parse.quote(symbol)}?{query}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return dict(json.load(answer))


def _first_difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    return next((f"{where} by {by}" for where, by in compare(one, other) if by), "field names")


def _bundles(folder: Path) -> list[Path]:
    return [path.parent for path in sorted(folder.glob("*/model.json"))]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.proofs.past_moments", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder that MARKET_DATA_DIR names")
    parser.add_argument("--api", default="http://127.0.0.1:2001")
    parser.add_argument("--bundles", type=Path, default=Path("serving/starter"))
    parser.add_argument("--symbols", nargs="+", default=["EURUSD=X", "GC=F", "BTC-USD", "USDJPY=X"])
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--altered", type=int, default=200, help="of those, how many with an altered future")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--email", default="devtest@fusiontrade.ai")
    parser.add_argument("--password", default="DevTest123!")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
