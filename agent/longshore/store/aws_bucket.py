"""The properties of a bucket: read them, write them, create it.

What a server does not have is an answer here, not a failure: S3's relatives have some of these
properties each. The calls block: run them in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from longshore.core.bucket_plan import BucketState, Name, Property, Step, Unknown
from longshore.core.foreign_words import endpoint_name
from longshore.errors import AccessDenied, StoreError
from longshore.store.aws import open_client, translated
from longshore.store.aws_properties import (
    NEVER_SET,
    WHAT,
    NotAnswered,
    read_property,
    write_property,
)
from longshore.store.s3_errors import Request, Unsupported

_DEFAULT_REGION = "us-east-1"  # which S3 wants not to be named when a bucket is created
_NOT_IMPLEMENTED = {"MethodNotAllowed", "NotImplemented", "UnsupportedOperation", "XNotImplemented"}


@contextmanager
def open_bucket(
    bucket: str,
    *,
    region: str | None,
    endpoint_url: str | None,
    connect_timeout: timedelta,
    read_timeout: timedelta,
) -> Iterator[AwsBucket]:
    """Open a bucket, there or not. For the arguments see `AwsBucket` and `open_client`.

    Raises:
        StoreError: the AWS configuration cannot be used.
    """
    request = Request("open", f"s3://{bucket}", bucket, endpoint_name(endpoint_url))
    with ExitStack() as opened:
        with translated(request):
            client = opened.enter_context(
                open_client(
                    "s3",
                    region=region,
                    endpoint_url=endpoint_url,
                    connect_timeout=connect_timeout,
                    read_timeout=read_timeout,
                )
            )
        yield AwsBucket(client, bucket, region=region, endpoint_url=endpoint_url)


class AwsBucket:
    """One bucket, there or not.

    Args:
        client: of boto3, for S3.
        region: where to create it; the client's own, if it is `None`.
        endpoint_url: of a server that is not AWS.
    """

    def __init__(
        self, client: Any, bucket: str, *, region: str | None, endpoint_url: str | None
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._endpoint_url = endpoint_url
        self._region = region
        self._url: str = client.meta.endpoint_url

    @property
    def is_aws(self) -> bool:
        """Whether this is Amazon's own S3, which has every property."""
        host = urlsplit(self._url).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    @property
    def partition(self) -> str:
        """The part of AWS that its ARNs begin with."""
        return str(self._client.meta.partition) if self.is_aws else "aws"

    @property
    def region_for_new(self) -> str | None:
        """Where the bucket would be created; `None` if the server decides."""
        if self._region is not None or not self.is_aws:
            return self._region
        known = str(self._client.meta.region_name)
        return _DEFAULT_REGION if known == "aws-global" else known

    def read(self) -> BucketState | None:
        """Read all properties; `None` if there is no such bucket.

        Raises:
            StoreError: the server does not answer, or the bucket is not the caller's.
        """
        try:
            with translated(self._request("read")):
                found = self._client.head_bucket(Bucket=self._bucket)
        except StoreError as error:
            if _status(error) == 404:
                return None
            raise
        region = found.get("BucketRegion") or self._location()
        return BucketState(
            region=region,
            ownership=self._property("ownership"),
            encryption=self._property("encryption"),
            policy=self._property("tls"),
            public_access=self._property("public-access"),
            lifecycle=self._property("uploads"),
        )

    def create(self) -> None:
        """Create the bucket.

        Raises:
            StoreError: it cannot be created here, or somebody else has one of this name.
        """
        arguments: dict[str, Any] = {}
        region = self.region_for_new
        if region not in (None, _DEFAULT_REGION):
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": region}
        try:
            with translated(self._request("create")):
                self._client.create_bucket(Bucket=self._bucket, **arguments)
        except StoreError as error:
            if _code(error) == "BucketAlreadyExists":
                raise StoreError(
                    f"cannot create s3://{self._bucket}: somebody else has a bucket of this name;"
                    " choose another one for --store"
                ) from error
            raise

    def cannot_encrypt(self, step: Step, prefix: str) -> Unknown | None:
        """Tell why the encryption of a step would make every upload fail; `None` if it would not.

        Ceph without a key server takes it as a bucket's default, and refuses each object from then
        on. So other servers than AWS are asked for one such upload, which is given up at once.

        Raises:
            StoreError: the server failed.
        """
        if self.is_aws or step.value is None:
            return None
        wanted = step.value["Rules"][0]["ApplyServerSideEncryptionByDefault"]
        arguments = {"ServerSideEncryption": wanted["SSEAlgorithm"]}
        if "KMSMasterKeyID" in wanted:
            arguments["SSEKMSKeyId"] = wanted["KMSMasterKeyID"]
        upload = {"Bucket": self._bucket, "Key": f"{prefix}longshore-setup"}
        try:
            with translated(self._request("try an encrypted upload to")):
                begun = self._client.create_multipart_upload(**upload, **arguments)
                self._client.abort_multipart_upload(**upload, UploadId=begun["UploadId"])
        except AccessDenied as error:
            return Unknown(str(error))
        except StoreError as error:
            if self._is_missing(error, "encryption"):
                return Unknown(
                    "this server refuses objects that are encrypted so", unsupported=True
                )
            raise
        return None

    def write(self, step: Step) -> None:
        """Write one property.

        Raises:
            Unsupported: the server has no such property.
            StoreError: it refused or failed.
        """
        assert step.value is not None
        try:
            with translated(self._request(f"set the {WHAT[step.name]} of")):
                write_property(self._client, self._bucket, step.name, step.value)
        except StoreError as error:
            if self._is_missing(error, step.name):
                raise Unsupported(self._lacks(step.name)) from error
            raise

    def _property(self, name: Name) -> Property:
        try:
            with translated(self._request(f"read the {WHAT[name]} of")):
                return read_property(self._client, self._bucket, name)
        except NotAnswered:
            return Unknown(self._lacks(name), unsupported=True)
        except AccessDenied as error:
            return Unknown(str(error))
        except StoreError as error:
            if _code(error) in NEVER_SET:
                return None
            if self._is_missing(error, name):
                return Unknown(self._lacks(name), unsupported=True)
            raise

    def _location(self) -> str | None:
        """Ask for the region, where the first answer did not tell; only AWS has regions to tell."""
        if not self.is_aws:
            return None
        with translated(self._request("read")):
            found = self._client.get_bucket_location(Bucket=self._bucket)
        return found.get("LocationConstraint") or _DEFAULT_REGION

    def _is_missing(self, error: StoreError, name: Name) -> bool:
        if isinstance(error, Unsupported) or _code(error) in _NOT_IMPLEMENTED:
            return True
        # Ceph without a key server says 400 to every kind of encryption.
        return name == "encryption" and not self.is_aws and _status(error) == 400

    def _lacks(self, name: Name) -> str:
        return f"this server has no {WHAT[name]}"

    def _request(self, verb: str) -> Request:
        endpoint = endpoint_name(self._endpoint_url)
        return Request(verb, f"s3://{self._bucket}", self._bucket, endpoint)


def _code(error: StoreError) -> str:
    answer = error.__cause__
    return answer.response["Error"].get("Code", "") if isinstance(answer, ClientError) else ""


def _status(error: StoreError) -> int:
    answer = error.__cause__
    if not isinstance(answer, ClientError):
        return 0
    return int(answer.response["ResponseMetadata"].get("HTTPStatusCode", 0))
