"""The registry of model versions, in the table of models.

=============  ==============================  ===========================================================
pk             sk                              attributes
=============  ==============================  ===========================================================
``REGISTRY``   ``VERSION#<model>#<version>``   what a bundle's card and report say, status, comparison, reason
``REGISTRY``   ``ACTIVE#<model>``              version, the one that serves; previous, the one before it
``REGISTRY``   ``DEGRADED#<model>``            version, the one that serves and is DEGRADED; reason
=============  ==============================  ===========================================================

Always true here: a version is registered once and never changes but for its status, which is moved by conditional
writes alone: CANDIDATE → ACTIVE → DEGRADED → RETIRED, and RETIRED → ACTIVE, which is a rollback. At most one version of
a model is ACTIVE or DEGRADED, the one that the item ``ACTIVE#`` names: both are written in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusiontrade.clock import Clock, iso
from fusiontrade.cloud.tables import Condition, ConditionFailed, Delete, Key, Put, Table, Update, Write
from fusiontrade.cloud.values import Item
from fusiontrade.errors import NotFound

__all__ = ["ModelVersion", "Registry", "Span", "Status", "VersionPage"]

Status = Literal["CANDIDATE", "ACTIVE", "DEGRADED", "RETIRED"]
Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]

_PARTITION = "REGISTRY"
_IS_NEW = Condition("attribute_not_exists(#pk)")
_MOST_REASON = 500
_WELL: Mapping[str, Any] = {"status": "ACTIVE", "reason": None, "retraining": None}


class Span(BaseModel):
    """From when to when the bars were that a model learned from."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    since: Annotated[Instant | None, Field(alias="from")]
    until: Annotated[Instant | None, Field(alias="to")]


class ModelVersion(BaseModel):
    """One version of a model."""

    model_config = ConfigDict(
        frozen=True,
        protected_namespaces=(),
        serialize_by_alias=True,
        json_schema_extra={
            "examples": [
                {
                    "model_id": "lstm-1h",
                    "symbol": None,
                    "symbols": ["EURUSD=X", "GC=F"],
                    "interval": "1h",
                    "model_type": "lstm",
                    "version": "999e5aeff6ea",
                    "status": "ACTIVE",
                    "repo_id": None,
                    "artifact_uri": "s3://artifacts/bundles/lstm-1h/999e5aeff6ea/",
                    "sha256": "0" * 64,
                    "win_rate": 0.44,
                    "profit_factor": 1.05,
                    "track_record": {
                        "source": "journal",
                        "wins": 44,
                        "losses": 56,
                        "expired": 31,
                        "win_rate": 0.44,
                        "profit_factor": 1.05,
                        "from": "2025-05-18T12:00:00Z",
                        "to": "2025-07-31T12:00:00Z",
                    },
                    "metrics": {"direction_accuracy": {"value": 0.531, "low": 0.52, "high": 0.542, "n": 7074}},
                    "trained_on": {"from": "2015-02-10T18:00:00Z", "to": "2023-09-11T04:00:00Z"},
                    "created_at": "2025-07-31T12:00:03Z",
                    "activated_at": "2025-07-31T12:00:03Z",
                    "comparison": None,
                    "reason": None,
                    "retraining": None,
                }
            ]
        },
    )

    model_id: str
    symbol: Annotated[str | None, Field(description="The one symbol it learned from; null where there are several.")]
    symbols: Annotated[list[str], Field(description="Every symbol it learned from.")]
    interval: Annotated[str | None, Field(description="Its timeframe; null where it serves several.")] = None
    model_type: str
    version: str
    status: Status
    repo_id: Annotated[str | None, Field(description="The hub repository that it was pulled from.")] = None
    artifact_uri: str
    sha256: Annotated[str, Field(description="Of the bundle's manifest, which holds that of each file.")]
    win_rate: Annotated[
        float | None, Field(description="Of the trades of its track record that the market decided; null without any.")
    ] = None
    profit_factor: Annotated[
        float | None, Field(description="Gained over lost in its track record; 999 where nothing was lost.")
    ] = None
    track_record: Annotated[
        dict[str, Any] | None,
        Field(description="What those two rest on: its votes on the held-out bars, or settled entries of the journal."),
    ] = None
    metrics: Annotated[dict[str, Any], Field(description="Held-out figures with their intervals.")]
    trained_on: Span
    created_at: Instant
    activated_at: Instant | None = None
    comparison: Annotated[
        dict[str, Any] | None,
        Field(
            description="How it did beside the version that served, on the same held-out bars: losses, where less is "
            "better; p_better is a p-value, which is small where the difference speaks for this version."
        ),
    ] = None
    reason: Annotated[str | None, Field(description="Why it is DEGRADED or was not promoted.")] = None
    retraining: Annotated[
        str | None, Field(description="The job that trains its successor where it is DEGRADED, for admins to look at.")
    ] = None


class VersionPage(BaseModel):
    """Some versions, by model."""

    items: list[ModelVersion]
    next_cursor: str | None


class Registry:
    """The versions in one table."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def register(self, version: ModelVersion) -> ModelVersion:
        """Keep a new version; one that is there already is returned as it stands; raises `StateUnavailable`."""
        try:
            self._table.put(_item(version), condition=_IS_NEW)
        except ConditionFailed as there:
            if there.item is not None:
                return _version(there.item)
        return version

    def of(self, model_id: str, version: str) -> ModelVersion:
        """Return a version; raises `NotFound`, `StateUnavailable`."""
        item = self._table.get(_key(model_id, version))
        if item is None:
            raise NotFound(f"there is no version {version!r} of the model {model_id!r} in the registry")
        return _version(item)

    def page(self, limit: int, start: Mapping[str, Any] | None = None) -> tuple[list[ModelVersion], Item | None]:
        """Return versions in the order of models, and where the next page starts."""
        asked = Condition("#pk = :pk AND begins_with(#sk, :kind)", {"pk": _PARTITION, "kind": "VERSION#"})
        found = self._table.query(asked, limit=limit, start=None if start is None else dict(start))
        return [_version(item) for item in found.items], found.next_key

    def active(self) -> dict[str, str]:
        """Return the version that serves by model."""
        asked = Condition("#pk = :pk AND begins_with(#sk, :kind)", {"pk": _PARTITION, "kind": "ACTIVE#"})
        found = self._table.query(asked, limit=200).items
        return {str(item["sk"]).partition("#")[2]: str(item["version"]) for item in found}

    def serving(self) -> list[ModelVersion]:
        """Return every version that serves, by model; two round trips."""
        keys = [_key(model_id, version) for model_id, version in self.active().items()]
        return sorted(map(_version, self._table.get_many(keys)), key=lambda one: one.model_id)

    def active_version(self, model_id: str) -> ModelVersion | None:
        """Return the version of a model that serves, None where there is none."""
        item = self._table.get(_active_key(model_id))
        return None if item is None else self.of(model_id, str(item["version"]))

    def promote(self, model_id: str, version: str) -> ModelVersion:
        """Make a version the one that serves; the one before is RETIRED. Done already is done.

        Raises
        ------
        Conflict
            If another one was promoted in the same moment.
        NotFound
            If there is no such version.
        """
        active = self._table.get(_active_key(model_id))
        before = None if active is None else str(active["version"])
        if before == version:
            return self.of(model_id, version)
        self.of(model_id, version)
        serves = {"version": version, "previous": before, "at": self._clock()}
        held = _IS_NEW if before is None else Condition("#version = :version", {"version": before})
        writes: list[Write] = [
            Put({**_active_key(model_id), **serves}, held),
            Update(
                _key(model_id, version),
                assign={**_WELL, "activated_at": self._clock()},
                condition=_in("CANDIDATE", "RETIRED"),
            ),
        ]
        if before is not None:
            retired = {"status": "RETIRED"}
            writes.append(Update(_key(model_id, before), assign=retired, condition=_in("ACTIVE", "DEGRADED")))
            writes.append(Delete(_degraded_key(model_id)))
        self._table.transact(*writes)
        return self.of(model_id, version)

    def previous(self, model_id: str) -> str | None:
        """Return the version that served before the one that does, None where there is none."""
        active = self._table.get(_active_key(model_id))
        return None if active is None or active.get("previous") is None else str(active["previous"])

    def degrade(self, model_id: str, version: str, reason: str, *, retraining: str | None = None) -> bool:
        """Mark the version that serves as DEGRADED; False where it is not ACTIVE (any more)."""
        reason = reason[:_MOST_REASON]
        mark = Put({**_degraded_key(model_id), "version": version, "reason": reason})
        changed = {"status": "DEGRADED", "reason": reason, "retraining": retraining}
        return self._moved(model_id, version, changed, _in("ACTIVE"), mark)

    def restore(self, model_id: str, version: str) -> bool:
        """Mark a version as ACTIVE whose drift has passed; False where it is not DEGRADED."""
        unmark = Delete(_degraded_key(model_id))
        return self._moved(model_id, version, dict(_WELL), _in("DEGRADED"), unmark)

    def recorded(self, model_id: str, version: str, record: Mapping[str, Any]) -> None:
        """Write down what came of a version's forecasts; `NotFound` where there is no such version."""
        rates = {name: record[name] for name in ("win_rate", "profit_factor")}
        there = Condition("attribute_exists(#pk)")
        try:
            self._table.update(
                Update(_key(model_id, version), assign={**rates, "track_record": dict(record)}, condition=there)
            )
        except ConditionFailed:
            raise NotFound(f"there is no version {version!r} of the model {model_id!r} in the registry") from None

    def note(self, model_id: str, version: str, reason: str) -> None:
        """Write down why a candidate was not promoted."""
        self._moved(model_id, version, {"reason": reason[:_MOST_REASON]}, _in("CANDIDATE", "RETIRED"))

    def _moved(
        self, model_id: str, version: str, changed: Mapping[str, Any], condition: Condition, *beside: Write
    ) -> bool:
        try:
            self._table.transact(Update(_key(model_id, version), assign=changed, condition=condition), *beside)
        except ConditionFailed:
            return False
        return True


def _in(*statuses: Status) -> Condition:
    names = {f"is_{status.lower()}": status for status in statuses}
    return Condition(f"#status IN ({', '.join(f':{name}' for name in names)})", names)


def _key(model_id: str, version: str) -> Key:
    return {"pk": _PARTITION, "sk": f"VERSION#{model_id}#{version}"}


def _active_key(model_id: str) -> Key:
    return {"pk": _PARTITION, "sk": f"ACTIVE#{model_id}"}


def _degraded_key(model_id: str) -> Key:
    return {"pk": _PARTITION, "sk": f"DEGRADED#{model_id}"}


def _item(version: ModelVersion) -> Item:
    return {**_key(version.model_id, version.version), **version.model_dump(mode="python", by_alias=True)}


def _version(item: Item) -> ModelVersion:
    plain = {name: _plain(value) for name, value in item.items() if name not in ("pk", "sk")}
    at = plain.get("activated_at")
    return ModelVersion.model_validate({**plain, "activated_at": iso(at) if isinstance(at, int) else at})


def _plain(value: Any) -> Any:
    """Return a stored value with JSON's numbers instead of decimals."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
