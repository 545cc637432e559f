from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusiontrade.clock import parse_iso
from fusiontrade.deadline import Deadline
from fusiontrade.errors import InvalidInput
from fusiontrade.market.factory import candle_source, provider_from
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import INTRADAY
from fusiontrade.settings import Settings


@dataclass(frozen=True)
class Choice:
    """The three settings that are read here."""

    market_data: str = "yahoo"
    market_data_dir: Path | None = None
    market_data_as_of: int | None = None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "instruments.toml").write_text(
        '[symbols."EURUSD=X"]\nfiles = { "1h" = "eurusd.parquet" }\n', encoding="utf-8"
    )
    return tmp_path


@pytest.mark.parametrize("name", ["yahoo", "simulated"])
def test_the_configured_provider_is_made(name: str) -> None:
    assert provider_from(Choice(name)).name == name


def test_the_settings_of_a_process_choose_the_folder_and_its_present(folder: Path) -> None:
    settings = Settings.from_environment(
        {
            "STAGE": "local",
            "MARKET_DATA": "files",
            "MARKET_DATA_DIR": str(folder),
            "MARKET_DATA_AS_OF": "2025-07-01T12:00:00Z",
        }
    )
    provider = provider_from(settings)
    assert provider.name == "files"
    assert provider.now(parse_symbol("EURUSD=X")) == parse_iso("2025-07-01T12:00:00Z")


def test_files_without_a_folder_are_refused() -> None:
    with pytest.raises(InvalidInput, match="MARKET_DATA=files needs MARKET_DATA_DIR"):
        provider_from(Choice("files"))


def test_a_provider_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'bloomberg' is no provider: use yahoo, files or simulated"):
        provider_from(Choice("bloomberg"))


class Untouched:
    """A store that must not be used."""

    def get(self, key: str) -> bytes | None:
        raise AssertionError(f"asked for {key}")

    def put(self, key: str, body: bytes) -> None:
        raise AssertionError(f"given {key}")


def test_a_local_provider_leaves_the_archive_alone() -> None:
    source = candle_source(Choice("simulated"), storage=Untouched())
    symbol = parse_symbol("EURUSD=X")
    answers = source.many(
        symbol, INTRADAY, count=5, as_of=parse_iso("2025-07-23T15:00:00Z"), deadline=Deadline.after(60)
    )
    assert [len(answer.frame) for answer in answers.values()] == [5, 5, 5, 5]
    assert all(answer.warnings[0].startswith("simulated market") for answer in answers.values())


def test_choosing_yahoo_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from types import SimpleNamespace\n"
        "from fusiontrade.market.factory import candle_source\n"
        "candle_source(SimpleNamespace(market_data='yahoo', market_data_dir=None, market_data_as_of=None))\n"
        "print(sorted({'pandas', 'yfinance', 'curl_cffi', 'exchange_calendars', 'pyarrow'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
