"""The page of a study: complete in itself, escaped, and honest about what is missing."""

from __future__ import annotations

import base64
import re
from copy import deepcopy
from html.parser import HTMLParser
from typing import Any

import pytest
from sample_study import sample_study

from serving.evaluation.page import headline_tables, rendered, timeframe_tables
from serving.evaluation.page.tables import left_out_table, told
from serving.evaluation.study.acceptance import acceptance


class Reader(HTMLParser):
    """What a browser would fetch, and the tables it would show."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag == "img":
            self.images.append(dict(attrs))


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    return sample_study()


@pytest.fixture(scope="module")
def page(study: dict[str, Any]) -> str:
    return rendered(study)


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    reader = Reader(page)
    assert all(address.startswith(("data:image/svg+xml;base64,", "#")) for address in reader.addresses)
    assert not {"script", "link", "iframe", "object"} & set(reader.tags)
    assert "@import" not in page
    assert "url(" not in page
    assert len(page) < 1_000_000


def test_plots_are_images_that_follow_the_colour_scheme_and_say_what_they_show(page: str) -> None:
    images = Reader(page).images
    assert len(images) == 6  # pinball, walk-forward; curves, reliability, sweep, months
    for image in images:
        source = base64.b64decode((image["src"] or "").partition(",")[2])
        assert b"prefers-color-scheme:dark" in source
        assert b"#010203" not in source
        assert not re.search(rb'(?:href|src)="(?!#)', source)
        assert image["alt"]


def test_the_same_study_gives_the_same_page(study: dict[str, Any], page: str) -> None:
    assert rendered(deepcopy(study)) == page


def test_every_table_has_a_caption_and_the_acceptance_comes_first(page: str) -> None:
    tags = Reader(page).tags
    assert tags.count("caption") == tags.count("table") > 5
    first = page[page.index("<caption>") + 9 : page.index("</caption>")]
    assert first == "Targets set before training, and what was reached"


def test_what_comes_from_the_data_is_escaped(study: dict[str, Any]) -> None:
    evil = deepcopy(study)
    evil["warnings"] = ["<script>alert(1)</script>"]
    evil["timeframes"]["1h"]["data"]["series"][0]["symbol"] = "<img src=x onerror=alert(2)>"
    page = rendered(evil)
    assert "<script>" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_page_says_what_would_repeat_it(page: str, study: dict[str, Any]) -> None:
    for said in (study["run"]["command"], "2 cores", "numpy 2.4.6", "2026-11-21", "0123456789ab", "f" * 64):
        assert said in page
    assert "1h: not in the folder, or too few bars: EURUSD=X." in page


def test_a_missing_figure_is_shown_as_such_and_never_as_zero(study: dict[str, Any]) -> None:
    poorer = deepcopy(study)
    del poorer["timeframes"]["1h"]["lstm"]["figures"]["by_symbol"]["BTC-USD"]["coverage_90"]
    (series,) = [t for t in timeframe_tables("1h", poorer["timeframes"]["1h"]) if t.caption.endswith("each series")]
    row = next(row for row in series.rows if row[0].text == "BTC-USD")
    assert row[series.columns.index("coverage")].text == "N/A"
    poorer["acceptance"][0] |= {"met": None, "value": None}
    first = next(headline_tables(poorer)).rows[0]
    assert (first[-1].text, first[-1].tone) == ("N/A", "unknown")


def test_a_study_of_nothing_but_a_patchtst_has_a_page(study: dict[str, Any]) -> None:
    other = deepcopy(study)
    part = other["timeframes"]["1h"]
    del part["lstm"], part["left_out"], part["walk_forward"]
    part["patchtst"] = {"figures": {"all": {"accuracy": {"value": 0.4, "low": 0.39, "high": 0.41, "n": 10}}}}
    other["acceptance"] = []
    page = rendered(other)
    assert "accuracy of the likeliest class" in page
    assert "0 of 0 targets met" in page


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (None, "N/A"),
        ({"value": None}, "N/A"),
        ({"value": 0.5}, "0.5000"),
        ({"value": 0.5, "low": 0.4, "high": 0.6, "n": 3}, "0.5000 [0.4000, 0.6000]"),
        ({"value": 0.01, "noise_floor": 0.004, "n": 3}, "0.0100 (floor 0.0040)"),
    ],
)
def test_a_figure_in_words(figure: dict[str, Any] | None, words: str) -> None:
    assert told(figure) == words


def test_coverage_is_shown_by_fifths_of_volatility(study: dict[str, Any]) -> None:
    (table,) = [t for t in timeframe_tables("1h", study["timeframes"]["1h"]) if "by volatility" in t.caption]
    assert [row[0].text for row in table.rows] == ["all series", "BTC-USD"]
    assert [cell.text for cell in table.rows[1][5:]] == ["0.910 [0.900, 0.920]", "0.030 [0.020, 0.040]", "", ""]
    btc = study["timeframes"]["1h"]["lstm"]["coverage"]["by_symbol"]["BTC-USD"]
    btc |= {"spread_by_chance": 0.0412, "lowest_rolling": 0.87}
    (table,) = [t for t in timeframe_tables("1h", study["timeframes"]["1h"]) if "by volatility" in t.caption]
    assert [cell.text for cell in table.rows[1][7:]] == ["0.0412", "0.8700"]


def test_folds_are_columns_and_their_figures_are_named_in_words(study: dict[str, Any]) -> None:
    (table,) = [t for t in timeframe_tables("1h", study["timeframes"]["1h"]) if "walk-forward" in t.caption]
    assert table.columns == ("figure", "2022-01-01 to 2022-07-01", "2023-01-01 to 2023-07-01")
    assert table.rows[1][0].text == "LightGBM: next bar: pinball loss / rolling-500 quantiles"
    assert table.rows[1][2].text == "0.9530 [0.9430, 0.9630]"


def test_baselines_stand_under_the_figure_they_belong_to(study: dict[str, Any]) -> None:
    (table,) = [t for t in headline_tables(study) if t.caption.startswith("lstm, all series")]
    names = [row[0].text for row in table.rows]
    place = names.index("±1 ATR touched, either side: AUC")
    assert names[place + 1] == "… weekday × hour climatology"
    assert table.rows[place + 1][1].text == "0.7100 [0.7000, 0.7200]"


@pytest.mark.parametrize(
    ("low", "high", "verdict", "tone"), [(-0.02, -0.01, "missed", "bad"), (-0.02, 0, "met", "good")]
)
def test_what_an_unseen_symbol_loses_is_called_a_miss_where_its_interval_leaves_zero_out(
    low: float, high: float, verdict: str, tone: str
) -> None:
    study = sample_study()
    difference = {"value": -0.01, "low": low, "high": high, "n": 9}
    for part in study["timeframes"].values():
        for figures in part.get("left_out", {"by_symbol": {}})["by_symbol"].values():
            figures["either_touch_auc"]["difference"] = difference
    targets = acceptance(study["timeframes"])
    rows = left_out_table(study["timeframes"], targets).rows
    cell = next(row[-1] for row in rows if row[3].text == "touch AUC")
    assert (cell.text, cell.tone) == (f"{told(difference)} – {verdict}", tone)
    assert all(row[-1].tone == "" for row in left_out_table(study["timeframes"], []).rows)
