"""``python -m serving.evaluation.joining FOLDER FOLDER ... --out FOLDER``: studies of different parts as one.

A study takes minutes for each timeframe; where one bundle is newer than the rest, only its part is judged anew. Always
true: a joined study holds each part as it was judged, once; targets and warnings are reckoned from the parts. Studies
with other settings, of another form or of the same part are refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusiontrade.market.timeframes import Timeframe
from serving.evaluation.study.acceptance import acceptance
from serving.evaluation.study.report import JSON, write
from serving.evaluation.study.running import warnings_of

__all__ = ["joined", "main"]

Json = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Join what the command line names; return 0, or 2 where the studies do not belong together."""
    parser = argparse.ArgumentParser(prog="python -m serving.evaluation.joining", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="folders that serving.evaluation wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder the joined study goes to")
    chosen = parser.parse_args(arguments)
    try:
        paths = write(joined([json.loads((one / JSON).read_bytes()) for one in chosen.folders]), chosen.out)
    except (OSError, ValueError, KeyError) as error:
        print(f"not joined: {error}", file=sys.stderr)
        return 2
    print(*(f"wrote {path}" for path in paths), sep="\n")
    return 0


def joined(studies: Sequence[Mapping[str, Any]]) -> Json:
    """Return one study of the parts of several.

    Raises
    ------
    ValueError
        If their forms or settings differ, or two of them judged the same part.
    """
    first = studies[0]
    for other in studies[1:]:
        if (other["schema"], other["settings"]) != (first["schema"], first["settings"]):
            raise ValueError("the studies have other settings or another form: judge their parts with the same options")
    parts = _once("timeframe", [one["timeframes"] for one in studies])
    sections = _once("universe", [one.get("cross_sections", {}) for one in studies])
    timeframes = dict(sorted(parts.items(), key=lambda item: Timeframe(item[0]).milliseconds))
    own = {warning for one in studies for warning in warnings_of(one["timeframes"])}
    told = dict.fromkeys(warning for one in studies for warning in one["warnings"] if warning not in own)
    others = [warning for warning in told if not (sections and warning.startswith("1d: "))]
    runs = [one["run"] for one in studies]
    found: Json = {
        "schema": first["schema"],
        "run": {
            **runs[0],
            "started": min(run["started"] for run in runs),
            "seconds": round(sum(run["seconds"] for run in runs), 1),
            "seconds_by_part": {name: took for run in runs for name, took in run["seconds_by_part"].items()},
            "command": "; ".join(run["command"] for run in runs),
        },
        "settings": first["settings"],
        "bundles": [bundle for one in studies for bundle in one["bundles"]],
        "warnings": [*warnings_of(timeframes), *others],
        "acceptance": acceptance(timeframes),
        "timeframes": timeframes,
    }
    return found | ({"cross_sections": sections} if sections else {})


def _once(what: str, several: Sequence[Mapping[str, Any]]) -> Json:
    found: Json = {}
    for parts in several:
        if twice := sorted(found.keys() & parts.keys()):
            raise ValueError(f"{what} {', '.join(twice)} is in two of the studies: leave one of them out")
        found |= parts
    return found


if __name__ == "__main__":
    raise SystemExit(main())
