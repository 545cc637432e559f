"""The page of a study: one HTML file that needs nothing else, made from the study's JSON alone.

Always true: every value from the JSON is escaped; nothing in the page names another address; what is missing is N/A.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serving.evaluation.page.plots import Plot, all_plots, timeframe_plots
from serving.evaluation.page.tables import (
    KINDS,
    Table,
    acceptance_table,
    bundle_table,
    comparison_table,
    coverage_table,
    data_table,
    figure_table,
    left_out_table,
    series_table,
    walk_forward_table,
)
from serving.evaluation.page.together import ensemble_table

__all__ = ["Part", "headline_tables", "rendered", "timeframe_tables"]

Json = Mapping[str, Any]
TITLE = "FusionTrade: forecasts judged on the untouched slice"


@dataclass(frozen=True)
class Part:
    """One timeframe of the page."""

    name: str
    anchor: str
    tables: tuple[Table, ...]
    plots: tuple[Plot, ...]


def headline_tables(study: Json) -> Iterator[Table]:
    """Yield the tables over all timeframes: targets, figures of each kind, symbols left out, universes, bundles."""
    from serving.evaluation.cross_section.tables import cross_section_tables

    timeframes = study["timeframes"]
    if study["acceptance"]:
        yield acceptance_table(study["acceptance"])
    if together := ensemble_table(timeframes):
        yield together
    for kind in KINDS:
        for scope, words in (("reference_five", "the reference five"), ("all", "all series")):
            if table := figure_table(timeframes, kind, scope, words):
                yield table
    if unseen := left_out_table(timeframes, study["acceptance"]):
        yield unseen
    for name, part in study.get("cross_sections", {}).items():
        yield from cross_section_tables(name, part)
    yield bundle_table(study["bundles"])


def timeframe_tables(name: str, part: Json) -> Iterator[Table]:
    """Yield the tables of one timeframe: each series, tests against the baselines, coverage, folds, candles."""
    for kind in KINDS:
        for table in (series_table(name, part, kind), comparison_table(name, part, kind)):
            if table:
                yield table
    for found in (coverage_table(name, part), walk_forward_table(name, part)):
        if found:
            yield found
    yield data_table(name, part)


def rendered(study: Json) -> str:
    """Return the page of a study (the content of ``evaluation.json``)."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("serving.evaluation", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    timeframes = study["timeframes"]
    parts = [
        Part(name, f"t{name}", tuple(timeframe_tables(name, part)), tuple(timeframe_plots(name, part)))
        for name, part in timeframes.items()
    ]
    return environment.get_template("template.html").render(
        title=TITLE,
        summary=_summary(study),
        warnings=study["warnings"],
        tables=list(headline_tables(study)),
        plots=list(all_plots(timeframes)),
        parts=parts,
        about=list(_about(study)),
    )


def _summary(study: Json) -> str:
    """Return what was judged, and how many of the targets were met."""
    judged = [
        f"{name} {part['judged']['rows']:,} rows from {part['judged']['from'][:10]} to {part['judged']['to'][:10]}"
        for name, part in study["timeframes"].items()
    ]
    met = [row["met"] for row in study["acceptance"]]
    counts = f"{met.count(True)} of {len(met)} targets met, {met.count(False)} missed, {met.count(None)} not known."
    return f"Judged: {'; '.join(judged)}. None of these rows trained or calibrated the bundles. {counts}"


def _about(study: Json) -> Iterator[tuple[str, str]]:
    """Yield what a reader needs to do it again."""
    run, settings = study["run"], study["settings"]
    yield "command", run["command"]
    yield "run on", f"{run['started'][:10]}, {run['cores']} cores, Python {run['python']}, {run['system']}"
    yield "took", f"{run['seconds']:.0f} s ({', '.join(f'{k} {v:.0f} s' for k, v in run['seconds_by_part'].items())})"
    yield "seed and resamples", f"{settings['seed']}, {settings['resamples']} resamples of days behind each interval"
    if settings["until"]:
        yield "bars read until", settings["until"]
    yield "libraries", ", ".join(f"{name} {version}" for name, version in settings["libraries"].items())
    yield "FusionTrade", settings["fusiontrade"]
    for one in study["bundles"]:
        yield f"data of {one['model_id']} {one['version']}", f"sha256 {one['data_fingerprint']}"
