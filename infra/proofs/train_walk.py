"""Trainings and exchanges on a running laptop stack: ``python -m infra.proofs.train_walk [--api URL] [--state DIR]``.

Walks as a client does, through the gateway: a training whose every process is killed on the way, its report, its
exchange under load, what is refused and why, a fine-tuning, a way back, a cancellation, a backtest, and the drift of a
model. Run it with ``.venv/run/bin/python`` beside ``make run`` on a market with history (MARKET_DATA=files or
simulated); it takes about ten minutes and leaves the version that served before it. Ends with 0 when every step
answered as the API says.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import urllib.parse
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.proofs import hand
from infra.proofs.crowd import Seen, asking
from infra.proofs.laptop import Client, Json, Stack, WalkFailure, until

PASSWORD = "walk the registry 1"  # noqa: S105 - of an account that this walk makes
QUEUE = "fusiontrade-local-TrainingQueue"
_TRAINING_SECONDS = 1200.0
_CLIENTS = 4
_ENDED = ("SUCCEEDED", "FAILED")


def main(arguments: list[str] | None = None) -> int:
    """Walk; return the exit status."""
    options = _options(arguments)
    stack = Stack(options.state.resolve(), options.emulator_port)
    os.environ.pop("AWS_PROFILE", None)
    os.environ.update(stack.variables)
    try:
        walk = Walk.begun(options, stack)
        for step in STEPS:
            print(f"\n--- {(step.__doc__ or '').splitlines()[0]}", flush=True)
            step(walk)
    except WalkFailure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    print("\nevery step answered as the API says")
    return 0


@dataclass
class Walk:
    """Who walks where, and what was made on the way."""

    admin: Client
    user: Client
    crowd: list[Client]
    stack: Stack
    symbol: str
    interval: str
    bars: int
    epochs: int
    first: str = ""
    made: str = ""
    seed: int = field(default_factory=lambda: uuid.uuid4().int % 2**31)

    @classmethod
    def begun(cls, options: argparse.Namespace, stack: Stack) -> Walk:
        """Sign an admin and a user in."""
        caller, name = Client(options.api, say=_say), uuid.uuid4().hex[:10]
        found = []
        for number, tier in enumerate(["admin", "pro", *["free"] * _CLIENTS]):
            email = f"walk-{name}-{number}@example.com"
            stack.make_account(email, PASSWORD, tier)
            found.append(caller.signed_in(email, PASSWORD))
        asked = options.symbol, options.interval, options.bars, options.epochs
        return cls(found[0], found[1], found[2:], stack, *asked)

    @property
    def model_id(self) -> str:
        """The model that is trained."""
        return f"lstm-{self.interval}"

    @property
    def quiet(self) -> Client:
        """The admin, whose requests are not shown."""
        return Client(self.admin.api, self.admin.token)

    def version_of(self, version: str) -> Json:
        """Return what the registry says of a version."""
        page = self.quiet.expect(200, "GET", "/api/v1/ml/registry?limit=200")
        found = [one for one in page["items"] if (one["model_id"], one["version"]) == (self.model_id, version)]
        _must(len(found) == 1, f"version {version} stands {len(found)} times in the registry")
        return dict(found[0])

    def serving(self) -> Json:
        """Return what the registry says of the version that serves."""
        told = self.quiet.expect(200, "GET", "/api/v1/ml/model/info")
        return next(dict(one) for one in told["models"] if one["model_id"] == self.model_id)

    @property
    def wanted(self) -> Json:
        """The training of this walk; its seed makes it one that was not made before."""
        size = {"bars": self.bars, "epochs": self.epochs, "seed": self.seed}
        return {"symbol": self.symbol, "interval": self.interval, **size}

    def train(self, **changed: Any) -> Json:
        """Ask for a training; return its job."""
        return self.admin.expect(202, "POST", "/api/v1/ml/train", self.wanted | changed)

    def load(self, version: str, *, force: bool = False) -> Json:
        """Ask for an exchange; return its job when it is over."""
        return self.followed(self.exchange(version, force=force))

    def exchange(self, version: str, *, force: bool = False) -> Json:
        """Ask for an exchange; return its job."""
        body = {"model_id": self.model_id, "version": version, "force": force}
        return self.admin.expect(202, "POST", "/api/v1/ml/model/load", body)

    def job(self, identity: str) -> Json:
        """Return a job as it is now."""
        return self.quiet.expect(200, "GET", f"/api/v1/ml/jobs/{identity}")

    def followed(self, job: Json, *, to: float = 2.0) -> Json:
        """Stay with a job until it has ended, or is as far as ``to``; show its progress."""
        shown: list[float] = []
        said = ""

        def far() -> Json | None:
            nonlocal said
            told = self.job(job["id"])
            shown.append(told["progress"])
            text = f"{told['status']:9} {told['progress']:.3f} {told['step'] or ''}"
            if text != said:
                _say(f"       job {job['id'][:12]} {job['kind']:9} {text}")
            said = text
            return told if told["status"] in _ENDED or told["progress"] >= to else None

        told = until(far, _TRAINING_SECONDS, f"the end of the job {job['id']}", pause=1.0)
        _must(shown == sorted(shown), f"progress went back: {shown}")
        if told["error"]:
            _say(f"       it says: {told['error']}")
        return dict(told)


# --- steps ------------------------------------------------------------------------------------------------------------


def known(walk: Walk) -> None:
    """What serves is in the registry; who may not train is told so"""
    walk.first = walk.serving()["version"]
    walk.user.expect(200, "GET", "/api/v1/ml/registry?limit=5")
    body = {"symbol": walk.symbol, "interval": walk.interval}
    walk.user.expect(403, "POST", "/api/v1/ml/train", body)
    walk.user.expect(403, "POST", "/api/v1/ml/model/load", {"model_id": walk.model_id, "version": walk.first})
    Client(walk.user.api, say=_say).expect(401, "POST", "/api/v1/ml/train", body)


def hostile(walk: Walk) -> None:
    """What leads elsewhere, has no end or is no number is a 422"""
    train, load = {"symbol": walk.symbol, "interval": walk.interval}, {"model_id": walk.model_id, "version": "x"}
    span = {**train, "from": "2025-02-01", "to": "2025-01-01"}
    walk.admin.expect(422, "POST", "/api/v1/ml/train", {**train, "bars": 10**12})
    walk.admin.expect(422, "POST", "/api/v1/ml/model/load", {**load, "model_id": "../../users"})
    walk.admin.expect(422, "POST", "/api/v1/ml/model/load", {**load, "version": "..%2f..%2fx"})
    walk.admin.expect(422, "POST", "/api/v1/ml/backtest/trigger", span)
    walk.admin.expect(422, "POST", "/api/v1/ml/backtest/trigger", b'{"costs_bps": NaN}')


def train_and_kill(walk: Walk) -> None:
    """A training shows its progress and survives kill -9 of its program, of its keeper and of the function"""
    key = uuid.uuid4().hex
    job, again = (
        walk.admin.expect(202, "POST", "/api/v1/ml/train", walk.wanted, Idempotency_Key=key) for _ in range(2)
    )
    _must(again["id"] == job["id"], "the same Idempotency-Key made a second job")
    walk.user.expect(404, "GET", f"/api/v1/ml/jobs/{job['id']}")
    walk.user.expect(404, "DELETE", f"/api/v1/ml/jobs/{job['id']}")
    epoch = 0.9 / walk.epochs
    for number, what in enumerate(("training", "trainings"), 1):
        walk.followed(job, to=number * epoch)
        _killed(walk, what)
        until(lambda: walk.stack.processes("training"), 60, "the training's next process")
    walk.followed(job, to=3 * epoch)
    _kill_in_the_middle(walk)
    told = walk.followed(job)
    _must(told["status"] == "SUCCEEDED", "the training came to nothing")
    walk.made = told["result"]["version"]
    _must(walk.version_of(walk.made)["status"] == "CANDIDATE", "it is no candidate")
    report = walk.admin.expect(200, "GET", f"/api/v1/ml/registry/{walk.model_id}/report?version={walk.made}")
    _must({"figures", "curves", "slices"} <= report.keys(), f"its report has only {sorted(report)}")
    pooled = report["figures"]["pooled"]
    shown = {name: pooled[name]["value"] for name in ("coverage_90", "pinball_ratio", "touch_skill_over_climatology")}
    _say(f"       {walk.model_id} version {walk.made}, held out: {shown}")


def refuse_the_uncovering(walk: Walk) -> None:
    """A candidate that does not know every symbol of the version that serves is not promoted, in words"""
    told = walk.load(walk.made)
    _must(told["status"] == "FAILED" and "was not promoted" in told["error"], "it was promoted")
    _must(walk.serving()["version"] == walk.first, "the version that serves has changed")


def load_under_load(walk: Walk) -> None:
    """An exchange under load fails no request"""
    with _clients(walk) as seen:
        told = walk.load(walk.made, force=True)
        _must(told["status"] == "SUCCEEDED", "it was not promoted")
        until(lambda: seen.answered[walk.made] >= 5, 60, "an answer of the new version")
    _say(seen.judged(walk.first, walk.made))
    statuses = [walk.version_of(version)["status"] for version in (walk.first, walk.made)]
    _must(statuses == ["RETIRED", "ACTIVE"], f"the registry says {statuses}")


def refuse_the_worse(walk: Walk) -> None:
    """A candidate that is worse on the same held-out bars is not promoted, and its losses are told"""
    told = walk.followed(walk.train(epochs=1, batch=4096))
    worse = told["result"]["version"]
    losses = told["result"]["comparison"]["losses"]
    _say("       " + ", ".join(f"{name} {one['candidate']} against {one['active']}" for name, one in losses.items()))
    told = walk.load(worse)
    _must(told["status"] == "FAILED" and "may be worse than version" in told["error"], "it was promoted")
    _must("may be worse" in str(walk.version_of(worse)["reason"]), "the registry does not say why")


def refuse_the_damaged(walk: Walk) -> None:
    """A bundle that fails its self-test is refused by name, and the old one serves on without a failed request"""
    version = hand.damaged(walk.model_id, walk.made)
    with _clients(walk) as seen:
        told = walk.load(version, force=True)
    _must(told["status"] == "FAILED" and walk.model_id in told["error"], "it was promoted")
    _must(walk.version_of(version)["status"] == "CANDIDATE", "the registry calls it more than a candidate")
    _say(seen.judged(walk.made))


def finetune(walk: Walk) -> None:
    """A fine-tuned version takes over only where it is not worse"""
    path = f"/api/v1/fusion/{urllib.parse.quote(walk.symbol)}/finetune"
    job = walk.admin.expect(202, "POST", path, {"timeframe": walk.interval, "epochs": 1})
    told = walk.followed(job)
    _must(told["status"] == "SUCCEEDED", "the fine-tuning came to nothing")
    version, comparison = told["result"]["version"], told["result"]["comparison"]
    promotion = walk.followed({"id": told["result"]["promotion"], "kind": "load"})
    promoted = promotion["status"] == "SUCCEEDED"
    _must(promoted == comparison["not_worse"], f"not_worse is {comparison['not_worse']}, the promotion {promotion}")
    _must(walk.serving()["version"] == (version if promoted else walk.made), "another version serves")
    _say(f"       {version} is {'not worse and serves' if promoted else 'worse and stays a candidate'}")


def back(walk: Walk) -> None:
    """The version that served before comes back under load, without a failed request"""
    now = walk.serving()["version"]
    with _clients(walk) as seen:
        told = walk.load(walk.first)
        _must(told["status"] == "SUCCEEDED", "it did not come back")
        until(lambda: seen.answered[walk.first] >= 5, 60, "an answer of the version that is back")
    _say(seen.judged(now, walk.first))
    _must(walk.serving()["version"] == walk.first, "another version serves")


def two_at_once(walk: Walk) -> None:
    """Two exchanges at once come one after the other, and one version serves"""
    with _clients(walk) as seen:
        jobs = [walk.exchange(version, force=True) for version in (walk.made, walk.first)]
        ended = [walk.followed(job)["status"] for job in jobs]
    _must(ended == ["SUCCEEDED"] * 2, f"they ended {ended}")
    _say(seen.judged(walk.first, walk.made))
    page = walk.quiet.expect(200, "GET", "/api/v1/ml/registry?limit=200")["items"]
    active = [one["version"] for one in page if one["model_id"] == walk.model_id and one["status"] == "ACTIVE"]
    _must(active == [walk.serving()["version"]], f"{active} are ACTIVE")
    if active != [walk.first]:
        _must(walk.load(walk.first)["status"] == "SUCCEEDED", "the first one did not come back")


def cancel(walk: Walk) -> None:
    """A cancelled training ends within seconds, with its process, and leaves no version"""
    before = len(walk.quiet.expect(200, "GET", "/api/v1/ml/registry?limit=200")["items"])
    job = walk.train(epochs=100)
    walk.followed(job, to=0.9 * 2 / 100)
    begun = time.monotonic()
    walk.admin.expect(202, "DELETE", f"/api/v1/ml/jobs/{job['id']}")
    told = walk.followed(job)
    _must((told["status"], told["error"]) == ("FAILED", "it was cancelled"), "it was not cancelled")
    until(lambda: not walk.stack.processes("training"), 15, "the end of its process")
    _say(f"       cancelled in {time.monotonic() - begun:.1f} s")
    after = len(walk.quiet.expect(200, "GET", "/api/v1/ml/registry?limit=200")["items"])
    _must(after == before, "it left a version")


def backtest(walk: Walk) -> None:
    """A backtest returns its trades, its equity and the deflated Sharpe ratio"""
    first, last = hand.span_of(walk.quiet, "BTC-USD", days=20)
    asked = {"symbol": "BTC-USD", "interval": "1h", "from": first, "to": last}
    told = walk.followed(walk.admin.expect(202, "POST", "/api/v1/ml/backtest/trigger", asked))
    _must(told["status"] == "SUCCEEDED", "the backtest came to nothing")
    result = told["result"]
    deflated, of_trades = result["deflated_sharpe"], result["performance"]["of_trades"]
    _must(len(result["equity"]) > 1 and isinstance(result["trades"], list), "it has no equity or no trades")
    _must({"sharpe", "probability", "trials"} <= deflated.keys(), f"the deflated Sharpe ratio is {deflated}")
    _say(f"       {result['bars']} bars, {len(result['trades'])} trades {of_trades}")
    _say(f"       equity {result['capital']:.0f} -> {result['final']:.2f}, deflated Sharpe {deflated}")


def drift(walk: Walk) -> None:
    """The daily check marks a model DEGRADED whose forecasts came true less well, and asks for its retraining"""
    hand.journal_of_a_drift(walk.model_id, walk.first, walk.symbol, walk.interval)
    told = walk.stack.fire("schedule", {"task": "drift", "scheduled_at": hand.another_day()})
    done = walk.followed({"id": told["job"], "kind": "drift"})
    _say(f"       {done['result']['models'][walk.model_id]['reason']}")
    serves = walk.serving()
    _must(serves["status"] == "DEGRADED", f"it is {serves['status']}")
    info = walk.user.expect(200, "GET", "/api/v1/ml/model/info")
    _must(any(walk.model_id in warning for warning in info["warnings"]), "model/info does not warn")
    retraining = {"id": serves["retraining"], "kind": "train"}
    walk.followed(retraining, to=0.005)
    walk.admin.expect(202, "DELETE", f"/api/v1/ml/jobs/{retraining['id']}")
    _must(walk.followed(retraining)["status"] == "FAILED", "the retraining was not cancelled")
    _must(walk.serving()["version"] == walk.first, "a retrained version serves by itself")
    hand.forget_the_drift(walk.model_id, walk.first, walk.symbol, walk.interval)


STEPS: tuple[Callable[[Walk], None], ...] = (
    known, hostile, train_and_kill, refuse_the_uncovering, load_under_load, refuse_the_worse, refuse_the_damaged,
    finetune, back, two_at_once, cancel, backtest, drift,
)  # fmt: skip


# --- what steps share -------------------------------------------------------------------------------------------------


def _clients(walk: Walk) -> AbstractContextManager[Seen]:
    """Let clients ask for the symbol's forecast all the time."""
    path = f"/api/v1/fusion/{urllib.parse.quote(walk.symbol)}?include_sentiment=false"
    return asking([Client(each.api, each.token) for each in walk.crowd], path, walk.model_id)


def _killed(walk: Walk, what: str) -> None:
    pids = until(lambda: walk.stack.kill(what), 60, f"a process to kill ({what})", pause=0.01)
    _say(f"       kill -9 of {what}: {pids}")


def _kill_in_the_middle(walk: Walk) -> None:
    """Kill the function while it has a turn's message in hand; some turns are over before the kill reaches it."""
    for _ in range(10):
        until(lambda: walk.stack.messages_in_hand(QUEUE), 120, "a turn", pause=0.0)
        _killed(walk, "train_worker")
        time.sleep(1.0)
        if left := walk.stack.messages_in_hand(QUEUE):
            _say(f"       {left} message of the dead function lies in hand, and comes again when its time is over")
            return
    raise WalkFailure("ten turns were over before the function was killed")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise WalkFailure(otherwise)


def _say(text: str) -> None:
    print(text, flush=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.proofs.train_walk", description=__doc__)
    parser.add_argument("--api", default="http://127.0.0.1:2001")
    parser.add_argument("--state", type=Path, default=Path(".local"), help="the stack's state folder")
    parser.add_argument("--emulator-port", type=int, default=4566)
    parser.add_argument("--symbol", default="EURUSD=X")
    parser.add_argument("--interval", default="1h")
    parser.add_argument("--bars", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=5)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
