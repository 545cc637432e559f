"""Objects in one bucket: bytes in, bytes out. An object that is not there is None; a bucket that fails raises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fusiontrade.cloud.failures import code_of, state_errors
from fusiontrade.cloud.session import client

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

__all__ = ["Storage"]

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_PAST_THE_END = frozenset({"InvalidRange", "416"})
_CHUNK = 1 << 16
_STREAM_SECONDS = 30.0


class Storage:
    """The objects of ``bucket``; it also keeps candles for `fusiontrade.market.source`."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket

    def get(self, key: str) -> bytes | None:
        """Return the object's bytes, or None where there is none; raises `StateUnavailable`."""
        from botocore.exceptions import ClientError

        store: S3Client = client("s3")
        with state_errors("object storage"):
            try:
                return store.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            except ClientError as error:
                if code_of(error) in _MISSING:
                    return None
                raise

    def stream(self, key: str, first: int = 0) -> Iterator[bytes] | None:
        """Return the object's bytes from ``first`` on, as they come, or None where there is no such object.

        Raises
        ------
        StateUnavailable
            Here or while reading; what was read until then stands.
        """
        from botocore.exceptions import ClientError

        store: S3Client = client("s3", read_seconds=_STREAM_SECONDS)
        with state_errors("object storage"):
            try:
                body = store.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={first}-")["Body"]
            except ClientError as error:
                if code_of(error) in _MISSING:
                    return None
                if code_of(error) in _PAST_THE_END:
                    return iter(())
                raise
        return _chunks(body)

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Store the object, replacing an older one; raises `StateUnavailable`."""
        store: S3Client = client("s3")
        with state_errors("object storage"):
            store.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=content_type)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys under ``prefix``, in order; raises `StateUnavailable`."""
        store: S3Client = client("s3")
        found: list[str] = []
        with state_errors("object storage"):
            for page in store.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                found += [each["Key"] for each in page.get("Contents", [])]
        return found

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the bucket without reading it; raises `StateUnavailable`."""
        store: S3Client = client("s3")
        with state_errors("object storage"):
            store.copy_object(Bucket=self._bucket, Key=target, CopySource={"Bucket": self._bucket, "Key": source})

    def uri(self, prefix: str) -> str:
        """Return the S3 URI of a key or prefix."""
        return f"s3://{self._bucket}/{prefix}"


def _chunks(body: StreamingBody) -> Iterator[bytes]:
    with state_errors("object storage"):
        try:
            yield from body.iter_chunks(_CHUNK)
        finally:
            body.close()
