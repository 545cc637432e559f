"""The job ``load``: let a version serve, and promote it once the program that serves has taken it.

The order is the guarantee: first it is this job's turn, then come the checks, against the version that serves now, then
the endpoint is given the set of bundles with the version in it. The program loads it beside the old one, lets it answer
its self-test, and only then exchanges them; only when the endpoint says that it serves that set does the registry's
status move. A set that the program refuses is never served, and the registry stays as it was. One exchange at a time:
the item ``ROLLOUT`` names the job whose turn it is; it is given up only once the job knows that it has promoted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fusiontrade.cloud.sagemaker import SageMaker
from fusiontrade.cloud.tables import Condition, ConditionFailed, Key, Table, Update
from fusiontrade.errors import Conflict, FusionTradeError, NotFound, StateUnavailable
from fusiontrade.forecasts.jobs import JobOrder
from fusiontrade.registry.bundles import Bundles
from fusiontrade.registry.standing import Standing, standing_of
from fusiontrade.registry.turns import CANCELLED, Again, Done
from fusiontrade.registry.versions import ModelVersion, Registry

__all__ = ["KIND", "NotPromoted", "Rollout", "exchanging", "name_of"]

KIND = "load"
_KEY: Key = {"pk": "REGISTRY", "sk": "ROLLOUT"}
_HELD_MS = 3_600_000
_WAITING = 0.01
_CHANGING = frozenset({"Updating", "SystemUpdating", "RollingBack", "Creating"})


class NotPromoted(FusionTradeError):
    """A version does not take the place of the one that serves; the message says why."""


def name_of(endpoint: str, job: str) -> str:
    """Return the name of the set of bundles, and of the endpoint's configuration, that a job exchanges."""
    return f"{endpoint}-{job[:16]}"


def exchanging(table: Table) -> str | None:
    """Return the job whose turn to exchange it is, None where it is nobody's; raises `StateUnavailable`."""
    item = table.get(_KEY) or {}
    return str(item["job"]) if "job" in item else None


class Rollout:
    """Does jobs of this kind: their request is ``model_id``, ``version``, ``force``.

    Parameters
    ----------
    registry, bundles, table
        The versions, their files, and the table that holds who is exchanging.
    sagemaker, endpoint
        Where the models are served.
    seconds
        Between two looks at an exchange.
    clock
        The present, ms.
    """

    def __init__(
        self,
        registry: Registry,
        bundles: Bundles,
        table: Table,
        *,
        sagemaker: SageMaker,
        endpoint: str,
        seconds: int,
        clock: Callable[[], int],
    ) -> None:
        self._registry, self._bundles, self._table = registry, bundles, table
        self._sagemaker, self._endpoint = sagemaker, endpoint
        self._seconds, self._clock = seconds, clock

    def turn(self, order: JobOrder, kept: Mapping[str, Any], *, cancelled: bool) -> Again | Done:
        """Begin the exchange, or look how far it is."""
        name = name_of(self._endpoint, order.id)
        if "promoted" in kept:
            self._let_go(order.id)
            return Done(dict(kept["promoted"]))
        if kept.get("begun"):
            return self._looked(order, name, kept)
        if cancelled:
            raise FusionTradeError(CANCELLED)
        return self._begun(order, name, kept)

    def abandon(self, order: JobOrder, kept: Mapping[str, Any]) -> None:  # noqa: ARG002 - as every work
        """Let others exchange."""
        self._let_go(order.id)

    def _begun(self, order: JobOrder, name: str, kept: Mapping[str, Any]) -> Again:
        model_id, version = str(order.request["model_id"]), str(order.request["version"])
        if not self._claim(order.id):
            return Again(self._seconds, _WAITING, step="waiting for another exchange to end")
        chosen = self._registry.of(model_id, version)  # as it is now that nobody else exchanges
        if self._registry.active().get(model_id) == version:
            return self._promoted(chosen, kept, "it serves already")
        standing = self.standing(chosen)
        if not standing.may_serve and not order.request.get("force"):
            self._registry.note(model_id, version, standing.reason)
            raise NotPromoted(f"version {version} of {model_id} was not promoted: {standing.reason}")
        reason = standing.reason if standing.may_serve else f"it was forced, although {standing.reason}"
        begun = Again(self._seconds, 0.5, {"reason": reason, "begun": True}, "the new version is being loaded")
        state = self._sagemaker.endpoint(self._endpoint)
        if state is not None and state.configuration == name:  # begun by a worker that died before it said so
            return begun
        if state is not None and state.status in _CHANGING:  # by whoever else changes it: a scaling, a deployment
            return Again(self._seconds, _WAITING, step="waiting for a change of the endpoint to end")
        members = {one.model_id: one for one in (*self._registry.serving(), chosen)}
        uri = self._bundles.assemble(name, members.values())
        self._sagemaker.roll_out(self._endpoint, name, uri)
        return begun

    def standing(self, candidate: ModelVersion) -> Standing:
        """Return whether a version may take the place of the one that serves."""
        active = self._registry.active_version(candidate.model_id)
        mine = self._bundles.report(candidate.model_id, candidate.version)
        theirs: dict[str, Any] | None = None
        if active is not None:
            try:
                theirs = self._bundles.report(active.model_id, active.version)
            except NotFound:
                theirs = None
        return standing_of(candidate, active, mine, theirs)

    def _looked(self, order: JobOrder, name: str, kept: Mapping[str, Any]) -> Again | Done:
        model_id, version = str(order.request["model_id"]), str(order.request["version"])
        state = self._sagemaker.endpoint(self._endpoint)
        if state is not None and state.status in _CHANGING:
            return Again(self._seconds, 0.75, step="the new version answers its self-test beside the old one")
        if state is None or state.status != "InService" or state.configuration != name:
            said = "" if state is None else state.failure
            failure = said or "the program that serves did not take it; the old one still serves"
            self._registry.note(model_id, version, failure)
            raise NotPromoted(f"version {version} of {model_id} was not promoted: {failure}")
        try:
            promoted = self._registry.promote(model_id, version)
        except Conflict as error:  # the endpoint has it already: the registry has to follow, however often it is asked
            raise StateUnavailable("the registry is being changed by others", retry_after=self._seconds) from error
        return self._promoted(promoted, kept, str(kept.get("reason", "")))

    def _promoted(self, version: ModelVersion, kept: Mapping[str, Any], reason: str) -> Again:
        told = {
            "model_id": version.model_id,
            "version": version.version,
            "status": version.status,
            "previous": self._registry.previous(version.model_id),
            "reason": reason,
        }
        return Again(0, 0.95, {**kept, "promoted": told})

    def _claim(self, job: str) -> bool:
        """Return whether it is this job's turn; one that has held it for an hour has died."""
        free = Condition(
            "attribute_not_exists(#job) OR #job = :job OR #since < :long_ago",
            {"job": job, "long_ago": self._clock() - _HELD_MS},
        )
        try:
            self._table.update(Update(_KEY, assign={"job": job, "since": self._clock()}, condition=free))
        except Conflict:
            return False
        return True

    def _let_go(self, job: str) -> None:
        try:
            self._table.update(Update(_KEY, remove=("job", "since"), condition=Condition("#job = :job", {"job": job})))
        except ConditionFailed:
            return
