"""A stage for attacks on a real server: what is foreign, who attacks, and what came of it.

The attacks are in `isolation_checks.py`. Whoever has a server with STS can have them run on it: see
`StsServer`, and `tests/security/test_isolation.py` for how it is done on SeaweedFS.
"""

from __future__ import annotations

import functools
import http.client
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as SigningCredentials
from botocore.exceptions import ClientError
from tests.support.s3_fixtures import open_s3_store
from tests.support.seaweedfs import Credentials

from longshore.core.policy import Grant, Place
from longshore.core.session_credentials import SessionCredentials
from longshore.ops.credentials import grant_credentials
from longshore.store.aws_sts import assume_role
from longshore.store.s3 import S3Store

REGION = "us-east-1"
ROOT = "cache"
PROJECT = "shop"
OWN, FALLBACK = "pr-1", "main"
OWN_PREFIX = f"{ROOT}/{PROJECT}/scopes/{OWN}/"

FOREIGN: Mapping[str, str] = {
    "the fallback scope": f"{ROOT}/{PROJECT}/scopes/{FALLBACK}/",
    "another pull request": f"{ROOT}/{PROJECT}/scopes/pr-2/",
    "another project": f"{ROOT}/acme/scopes/main/",
    "another project's scope of that name": f"{ROOT}/acme/scopes/{OWN}/",
    "a scope whose name begins alike": f"{ROOT}/{PROJECT}/scopes/{OWN}0/",
    "a scope with a name and a dash more": f"{ROOT}/{PROJECT}/scopes/{OWN}-evil/",
    "a project whose name begins alike": f"{ROOT}/{PROJECT}-evil/scopes/{OWN}/",
    "what only prune writes": f"{ROOT}/{PROJECT}/gc/",
    "a root whose name begins alike": f"{ROOT}-evil/{PROJECT}/scopes/{OWN}/",
    "the bucket's top": "",
}
"""Prefixes that are not the attacker's; the fallback scope may be read."""

_ID = "019424f8-632e-7001-8203-04050607080"


class StsServer(Protocol):
    """A server with S3 and STS on one endpoint, and a role that may do everything in S3."""

    @property
    def endpoint_url(self) -> str: ...
    @property
    def admin(self) -> Credentials: ...
    @property
    def broker(self) -> Credentials: ...
    @property
    def role_arn(self) -> str: ...
    def make_bucket(self) -> str: ...


class Refused(Exception):
    """The server said no, by a status that no exception of the client stands for."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a session must not be able to do.

    Args:
        attempt: does it. Returning means that it was done.
        refusals: the statuses that will do as an answer.
    """

    name: str
    attempt: Callable[[Attack], object]
    refusals: frozenset[int] = frozenset({403})


@dataclass(frozen=True, slots=True)
class Target:
    """Objects and an open upload below one prefix.

    Attributes:
        key: of an object that exists.
        open_key: of the upload.
        etag: of its only part.
    """

    prefix: str
    key: str
    data: bytes
    open_key: str
    upload_id: str
    etag: str

    @property
    def missing(self) -> str:
        """A key without an object."""
        return f"{self.prefix}packs/{_ID}9"


def client_of(server: StsServer, credentials: Credentials, token: str | None = None) -> Any:
    """Make an S3 client that uses these credentials and tries everything once."""
    return _client(server, "s3", credentials, token)


def sts_client_of(server: StsServer, credentials: Credentials, token: str | None = None) -> Any:
    """Make an STS client that uses these credentials and tries everything once."""
    return _client(server, "sts", credentials, token)


def _client(server: StsServer, service: str, credentials: Credentials, token: str | None) -> Any:
    return boto3.client(
        service,
        endpoint_url=server.endpoint_url,
        region_name=REGION,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=token,
        config=Config(
            signature_version="s3v4" if service == "s3" else None,
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
        ),
    )


async def hand_out(
    server: StsServer,
    bucket: str,
    *,
    project: str = PROJECT,
    scope: str = OWN,
    fallback: tuple[str, ...] = (FALLBACK,),
    read_only: bool = False,
    root: str = ROOT,
) -> SessionCredentials:
    """Get credentials as `longshore credentials` does."""
    granted = await grant_credentials(
        Grant(Place(bucket, root), project, scope, fallback, read_only),
        server.role_arn,
        duration=timedelta(minutes=15),
        assume_role=functools.partial(
            assume_role,
            endpoint_url=server.endpoint_url,
            region=REGION,
            connect_timeout=timedelta(seconds=5),
            read_timeout=timedelta(seconds=20),
            session=boto3.Session(server.broker.access_key, server.broker.secret_key),
        ),
    )
    return granted.credentials


def open_session_store(server: StsServer, bucket: str, session: SessionCredentials) -> S3Store:
    """Open the store as a build that was handed these credentials does."""
    return open_s3_store(
        server.endpoint_url,
        bucket,
        prefix=ROOT,
        credentials=Credentials(session.access_key_id, session.secret_access_key),
        token=session.session_token,
    )


@dataclass
class Stage:
    """A bucket with something of everybody's in it, and the admin who set it up."""

    server: StsServer
    bucket: str
    admin: Any
    foreign: Mapping[str, Target] = field(default_factory=dict)
    own: Target = field(init=False)

    def snapshot(self, *, with_own: bool) -> dict[str, object]:
        """Take down everything that the attacker must not have changed."""
        listed = self.admin.list_objects_v2(Bucket=self.bucket)
        assert not listed.get("IsTruncated")
        found: dict[str, object] = {}
        for item in listed.get("Contents", ()):
            key = item["Key"]
            if with_own or not key.startswith(OWN_PREFIX):
                with self.admin.get_object(Bucket=self.bucket, Key=key)["Body"] as body:
                    found[key] = (body.read(), item["LastModified"])
        for name, target in self.foreign.items():
            parts = self.admin.list_parts(
                Bucket=self.bucket, Key=target.open_key, UploadId=target.upload_id
            )
            found[f"upload of {name}"] = [part["ETag"] for part in parts["Parts"]]
        return found


@contextmanager
def stage(server: StsServer) -> Iterator[Stage]:
    """Set up a bucket in which everybody has an object and an open upload."""
    admin = client_of(server, server.admin)
    try:
        made = Stage(server, server.make_bucket(), admin)
        made.foreign = {name: _target(made, prefix) for name, prefix in FOREIGN.items()}
        made.own = _target(made, OWN_PREFIX)
        yield made
    finally:
        admin.close()


def _target(made: Stage, prefix: str) -> Target:
    key, open_key = f"{prefix}packs/{_ID}1", f"{prefix}packs/{_ID}2"
    data = f"foreign: {prefix}".encode()
    made.admin.put_object(Bucket=made.bucket, Key=key, Body=data)
    created = made.admin.create_multipart_upload(Bucket=made.bucket, Key=open_key)
    part = made.admin.upload_part(
        Bucket=made.bucket,
        Key=open_key,
        UploadId=created["UploadId"],
        PartNumber=1,
        Body=b"of one part",
    )
    return Target(prefix, key, data, open_key, created["UploadId"], part["ETag"])


@dataclass(frozen=True, slots=True)
class Attack:
    """A session at work on a stage; `client` and `sign` use its credentials."""

    stage: Stage
    session: SessionCredentials
    client: Any

    @property
    def bucket(self) -> str:
        """The bucket of the stage."""
        return self.stage.bucket

    @property
    def credentials(self) -> Credentials:
        """The session's keys, without the token."""
        return Credentials(self.session.access_key_id, self.session.secret_access_key)

    def fetch(self, method: str, url: str, body: bytes = b"", **headers: str) -> bytes:
        """Send a request as it is, such as a presigned one.

        Raises:
            Refused: the answer is no success.
        """
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        try:
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise Refused(answer.status)
        return data

    def signed(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Sign a path of the bucket exactly as it is written, dots and all, and send it.

        Raises:
            Refused: the answer is no success.
        """
        url = f"{self.stage.server.endpoint_url}/{self.bucket}/{path}"
        request = AWSRequest(method=method, url=url, data=body)
        S3SigV4Auth(
            SigningCredentials(
                self.session.access_key_id,
                self.session.secret_access_key,
                self.session.session_token,
            ),
            "s3",
            REGION,
        ).add_auth(request)
        return self.fetch(method, url, body, **dict(request.headers.items()))


@contextmanager
def attack(made: Stage, session: SessionCredentials) -> Iterator[Attack]:
    """Let a session loose on a stage."""
    keys = Credentials(session.access_key_id, session.secret_access_key)
    client = client_of(made.server, keys, session.session_token)
    try:
        yield Attack(made, session, client)
    finally:
        client.close()


def not_refused(attacker: Attack, checks: Iterable[Check]) -> dict[str, str]:
    """Try everything, and tell by name what was not refused, and how it was answered."""
    found: dict[str, str] = {}
    for check in checks:
        assert check.name not in found
        try:
            check.attempt(attacker)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code = error.response.get("Error", {}).get("Code", "")
        except Refused as refused:
            status, code = refused.status, refused.code
        else:
            found[check.name] = "allowed"
            continue
        if status not in check.refusals:
            found[check.name] = f"answered {status} {code}".rstrip()
    return found


def policy_for_all(bucket: str) -> str:
    """Write a policy that allows everybody everything in a bucket."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
                }
            ],
        }
    )
