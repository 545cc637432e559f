"""``python -m serving.evaluation.markdown FOLDER``: figures as Markdown tables, for the documentation.

From a study's ``evaluation.json`` where the folder has one, else from the reports beside its bundles: figures in the
documentation are this program's output, and come from nowhere else: ``--into FILE`` puts them between the file's
lines ``<!-- figures -->`` and ``<!-- end of figures -->``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.evaluation.page import headline_tables, timeframe_tables
from serving.evaluation.page.tables import KINDS, figure_table
from serving.evaluation.study.report import JSON

__all__ = ["main"]

Json = Mapping[str, Any]
_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables of the folder named on the command line; return 0, or 2 where a file cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m serving.evaluation.markdown", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of evaluation.json, or of bundles")
    parser.add_argument("--series", action="store_true", help="each timeframe's own tables as well")
    parser.add_argument("--into", type=Path, help="a Markdown file whose figures are replaced, instead of printing")
    chosen = parser.parse_args(arguments)
    try:
        text = "\n".join(_lines(chosen.folder, every_series=chosen.series))
        if chosen.into is not None:
            _put(text, chosen.into)
    except (OSError, ValueError) as error:
        print(f"no tables: {error}", file=sys.stderr)
        return 2
    print(text if chosen.into is None else f"wrote the figures into {chosen.into}")
    return 0


def _lines(folder: Path, *, every_series: bool) -> Iterator[str]:
    study, reports = folder / JSON, sorted(folder.glob("*/report.json"))
    if study.is_file():
        return _of_study(_read(study), every_series=every_series)
    if reports:
        return _of_reports([_read(path) for path in reports])
    raise ValueError(f"{folder} has no {JSON} and no bundle with a report.json: run make evaluate, or make train")


def _read(path: Path) -> Json:
    try:
        content: Json = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): write it anew") from error
    return content


def _put(text: str, page: Path) -> None:
    """Replace what stands between the marks of ``page``."""
    before, begun, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, ended, after = rest.partition(_END)
    if not begun or not ended:
        raise ValueError(f"{page} has no lines {_BEGIN} and {_END}")
    page.write_text(f"{before}{_BEGIN}\n\n{text.strip()}\n\n{_END}{after}", encoding="utf-8")


def _of_study(study: Json, *, every_series: bool) -> Iterator[str]:
    for table in headline_tables(study):
        yield from table.markdown()
    for name, part in study["timeframes"].items():
        for table in timeframe_tables(name, part) if every_series else ():
            yield from table.markdown()


def _of_reports(reports: Sequence[Json]) -> Iterator[str]:
    """Yield the tables of what training itself measured, a column per timeframe."""
    for kind in KINDS:
        parts = {
            report["timeframe"]: {kind: {"figures": {"all": report["figures"]["pooled"]}}}
            for report in reports
            if report["kind"] == kind
        }
        if table := figure_table(parts, kind, "all", "all series of the test slice"):
            yield from table.markdown()


if __name__ == "__main__":
    raise SystemExit(main())
