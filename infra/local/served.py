"""Which bundles the models' program of a laptop serves, as SageMaker's endpoint: configurations, and an exchange.

Always true here: the program reads one folder, looks at it by itself, and takes what is new beside what is old; an
exchange is over when it says that it serves every bundle of the set. Where it refuses one, the folder is put back, the
old set's configuration stays, and the program's reason is the endpoint's. An exchange is written down before it begins:
one that a kill interrupts is put back at the next start, before anything reads the folder, and then made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fusiontrade.errors import FusionTradeError
from infra.local.options import HOST
from infra.local.trainings import Bucket, Refusal, written

__all__ = ["Served", "filled"]

_SECONDS_TO_EXCHANGE = 60.0
_LOOK_SECONDS = 0.3
_UNREAD_SECONDS = 2.5
"""What the program says it refused is of an earlier reading until it has looked at its folder twice."""

_STATE, _FROM, _MANIFEST = "endpoint.json", "from.json", "manifest.json"
_SERVING, _FRESH, _OLD = "bundles", "fresh", "old"
_FIRST = "starter"


def filled(folder: Path, bundles: Path) -> Path:
    """Copy ``bundles`` to where the program reads them, but for those that came from there before; return that folder.

    What was exchanged since stays, until that bundle is another one in ``bundles``.
    """
    _put_back(folder)
    serving, stamp, wanted = folder / _SERVING, folder / _FROM, _fingerprint(bundles)
    known = json.loads(stamp.read_text("utf-8")) if serving.is_dir() and stamp.exists() else None
    if known == wanted:
        return serving
    (folder / _STATE).unlink(missing_ok=True)
    if known is None or any((each / _MANIFEST).exists() for each in (serving, bundles)):  # nothing, or one bundle alone
        shutil.rmtree(serving, ignore_errors=True)
        shutil.copytree(bundles, serving)
    else:
        _exchanged(serving, bundles, known, wanted, folder / _FRESH)
    stamp.write_text(json.dumps(wanted), encoding="utf-8")
    return serving


def _exchanged(serving: Path, bundles: Path, known: Mapping[str, str], wanted: Mapping[str, str], fresh: Path) -> None:
    """Make ``serving`` hold what is new or other in ``bundles``, and no more what is gone from there."""
    for name in known.keys() - wanted.keys():
        shutil.rmtree(serving / name, ignore_errors=True)
    for name in wanted:
        if known.get(name) == wanted[name] or (name not in known and (serving / name).exists()):
            continue
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(bundles / name, fresh)
        shutil.rmtree(serving / name, ignore_errors=True)
        fresh.rename(serving / name)


class Served:
    """The endpoint of a laptop.

    Parameters
    ----------
    folder
        Holds ``bundles``, which the program serves, and what is known of configurations.
    bucket
        Where sets of bundles are.
    port
        Of the program.
    seconds
        The most that an exchange may take.
    wanted
        Whether somebody still waits for the exchange to a configuration that a kill interrupted: where the same kill
        took the last seconds of the tables as well, nobody knows of it, and what served before goes on.
    """

    def __init__(
        self,
        folder: Path,
        bucket: Bucket,
        port: int,
        *,
        seconds: float = _SECONDS_TO_EXCHANGE,
        wanted: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._folder, self._bucket, self._port, self._seconds = folder, bucket, port, seconds
        self._lock = threading.RLock()
        _put_back(folder)
        known = _known(folder)
        self._models: dict[str, Any] = dict(known.get("models", {}))
        self._configurations: dict[str, Any] = dict(known.get("configurations", {}))
        self._state: dict[str, Any] = {"configuration": _FIRST, "failure": "", **known, "status": "InService"}
        if name := known.get("exchange"):
            if wanted(str(name)):
                self._begin(str(name))
            else:
                self._keep(exchange="", before={})

    def describe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``DescribeEndpoint``."""
        state = self._state
        told = {
            "EndpointName": request["EndpointName"],
            "EndpointArn": f"arn:aws:sagemaker:us-east-1:000000000000:endpoint/{request['EndpointName']}",
            "EndpointConfigName": state["configuration"],
            "EndpointStatus": state["status"],
            "CreationTime": 0,
            "LastModifiedTime": 0,
        }
        return told | ({"FailureReason": state["failure"]} if state["failure"] else {})

    def describe_configuration(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``DescribeEndpointConfig``."""
        name = request["EndpointConfigName"]
        variants = self._configurations.get(name, [{"VariantName": "live", "ModelName": name}])
        arn = f"arn:aws:sagemaker:us-east-1:000000000000:endpoint-config/{name}"
        return {
            "EndpointConfigName": name,
            "EndpointConfigArn": arn,
            "ProductionVariants": variants,
            "CreationTime": 0,
        }

    def describe_model(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``DescribeModel``."""
        name = request["ModelName"]
        arn = f"arn:aws:sagemaker:us-east-1:000000000000:model/{name}"
        model = self._models.get(name, {"PrimaryContainer": {"Image": "laptop"}, "ExecutionRoleArn": arn})
        return {**model, "ModelName": name, "ModelArn": arn, "CreationTime": 0}

    def create_model(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``CreateModel``."""
        self._models[request["ModelName"]] = dict(request)
        self._keep()
        return {"ModelArn": self.describe_model(request)["ModelArn"]}

    def create_configuration(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``CreateEndpointConfig``."""
        self._configurations[request["EndpointConfigName"]] = request["ProductionVariants"]
        self._keep()
        return {"EndpointConfigArn": self.describe_configuration(request)["EndpointConfigArn"]}

    def update(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """``UpdateEndpoint``: begin the exchange."""
        name = request["EndpointConfigName"]
        if name not in self._configurations:
            raise Refusal("ValidationException", f"Could not find endpoint configuration {name}.")
        with self._lock:
            if self._state["configuration"] == name and self._state["status"] == "InService":
                return {"EndpointArn": self.describe(request)["EndpointArn"]}
            if self._state["status"] != "InService":
                raise Refusal("ValidationException", "Cannot update in-progress endpoint.")
            self._begin(name)
        return {"EndpointArn": self.describe(request)["EndpointArn"]}

    def _begin(self, name: str) -> None:
        self._keep(status="Updating", failure="", exchange=name)
        threading.Thread(target=self._exchange_or_tell, args=(name,), daemon=True).start()

    def _keep(self, **changed: Any) -> None:
        with self._lock:
            kept = {**self._state, **changed, "models": self._models, "configurations": self._configurations}
            written(self._folder / _STATE, kept)
            self._state = kept

    def _exchange_or_tell(self, name: str) -> None:
        try:
            failure = self._exchange(name)
        except FusionTradeError as error:
            failure = str(error)
        except Exception as error:  # whatever it is, the endpoint must not stay in between
            print(f"the exchange of {name} failed: {error!r}", flush=True)
            failure = "the bundles could not be put where the program reads them; the log says why"
        if failure:
            _put_back(self._folder)
        kept = self._state["configuration"] if failure else name
        self._keep(status="InService", configuration=kept, failure=failure, exchange="", before={})

    def _exchange(self, name: str) -> str:
        """Put the set of a configuration where the program reads it; return why it was put back, empty where not."""
        model = self._models[self._configurations[name][0]["ModelName"]]
        uri = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"]
        fresh, old, serving = (self._folder / part for part in (_FRESH, _OLD, _SERVING))
        for folder in (fresh, old):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        wanted = self._fetched(uri, fresh)
        before = {model_id: _version(serving / model_id) for model_id in wanted}
        changed = [model_id for model_id in wanted if before[model_id] != wanted[model_id]]
        self._keep(before={model_id: before[model_id] for model_id in changed})
        for model_id in changed:
            _replaced(serving / model_id, fresh / model_id, old / model_id)
        return self._refusal(wanted, changed)

    def _fetched(self, uri: str, folder: Path) -> dict[str, str]:
        prefix = uri.removeprefix("s3://").partition("/")[2]
        for key in self._bucket.keys(prefix):
            path = folder / key.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._bucket.get(key) or b"")
        return {path.parent.name: _version(path.parent) for path in sorted(folder.glob("*/model.json"))}

    def _refusal(self, wanted: Mapping[str, str], changed: list[str]) -> str:
        """Wait until the program serves what was changed; return its reason where it does not."""
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < self._seconds:
            told = self._told()
            serves = {one.get("id"): one.get("version") for one in told.get("models", [])}
            if all(serves.get(model_id) == wanted[model_id] for model_id in changed):
                return ""
            refused = [*told.get("not_exchanged", []), *told.get("refused", [])]
            reasons = [one["reason"] for one in refused if one.get("folder") in changed]
            if reasons and passed > _UNREAD_SECONDS:
                return str(reasons[0])
            time.sleep(_LOOK_SECONDS)
        return f"the program did not take it within {self._seconds:.0f} s"

    def _told(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            connection.request("GET", "/models")
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found
        return {}


def _put_back(folder: Path) -> None:
    """Make the folder that is served what it was before the exchange that is under way; nothing where none is."""
    serving, old = folder / _SERVING, folder / _OLD
    for model_id, version in _known(folder).get("before", {}).items():
        if version and _version(serving / model_id) == version:
            continue
        shutil.rmtree(serving / model_id, ignore_errors=True)
        if (old / model_id).exists():
            (old / model_id).rename(serving / model_id)


def _known(folder: Path) -> dict[str, Any]:
    """Return what was written of the endpoint in ``folder``."""
    path = folder / _STATE
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def _replaced(serving: Path, fresh: Path, old: Path) -> None:
    """Exchange a bundle's folder in two renames; the program looks twice before it believes that one is gone."""
    if serving.exists():
        serving.rename(old)
    fresh.rename(serving)


def _version(bundle: Path) -> str:
    try:
        return str(json.loads((bundle / "model.json").read_text("utf-8"))["version"])
    except (OSError, ValueError, KeyError):
        return ""


def _fingerprint(bundles: Path) -> dict[str, str]:
    paths = [*bundles.glob(_MANIFEST), *bundles.glob(f"*/{_MANIFEST}")]  # one bundle, or a folder of them
    found = {path.parent.name: path for path in sorted(paths)}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}
