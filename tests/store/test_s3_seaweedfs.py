"""S3 on a real server, with real credentials."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import boto3
import pytest
from tests.store.contract import MIB
from tests.store.s3_contract import S3Contract
from tests.support.faults import FaultProxy
from tests.support.raw_s3 import RawBucket
from tests.support.s3_fixtures import open_s3_store
from tests.support.seaweedfs import Credentials, SeaweedFS

from longshore.errors import AccessDenied, StoreError
from longshore.store.contract import Store
from longshore.store.s3 import S3Store

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def shared_bucket(seaweedfs: SeaweedFS) -> str:
    return seaweedfs.make_bucket()


class TestS3StoreOnSeaweedFS(S3Contract):
    @pytest.fixture
    def endpoint_url(self, seaweedfs: SeaweedFS) -> str:
        return seaweedfs.endpoint_url

    async def test_a_folder_is_gone_with_its_last_object(self, store: Store) -> None:
        # SeaweedFS has real folders, and keeps listing one whose last object was deleted.
        await store.put("s/one/two/x", b"x")
        await store.put("s/three/x", b"x")

        await store.delete(["s/one/two/x"])

        assert "three" in [folder async for folder in store.list_folders("s/")]
        assert [info async for info in store.list("s/one/")] == []


@dataclass(frozen=True, slots=True)
class Session:
    """Credentials for one prefix."""

    access_key: str
    secret_key: str
    token: str


def assume_role(server: SeaweedFS, bucket: str, prefix: str) -> Session:
    """Get credentials that reach what begins with `prefix` and nothing else."""
    arn = f"arn:aws:s3:::{bucket}"
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Resource": f"{arn}/{prefix}*",
                "Action": [
                    "s3:GetObject",
                    "s3:PutObject",
                    "s3:DeleteObject",
                    "s3:AbortMultipartUpload",
                    "s3:ListMultipartUploadParts",
                ],
            },
            {
                "Effect": "Allow",
                "Resource": arn,
                "Action": "s3:ListBucket",
                "Condition": {"StringLike": {"s3:prefix": f"{prefix}*"}},
            },
        ],
    }
    client = boto3.client(
        "sts",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=server.broker.access_key,
        aws_secret_access_key=server.broker.secret_key,
    )
    with contextlib.closing(client):
        answer = client.assume_role(
            RoleArn=server.role_arn,
            RoleSessionName="test",
            Policy=json.dumps(policy),
            DurationSeconds=900,
        )["Credentials"]
    return Session(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])


def open_scoped_store(server: SeaweedFS, bucket: str, prefix: str, session: Session) -> S3Store:
    return open_s3_store(
        server.endpoint_url,
        bucket,
        prefix=prefix,
        credentials=Credentials(session.access_key, session.secret_key),
        token=session.token,
    )


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials("adminkey", "wrong-secret-0123456789"),
        Credentials("nobody-0123456789", "x" * 20),
    ],
    ids=["secret", "key"],
)
async def test_wrong_credentials_are_named_and_not_shown(
    seaweedfs: SeaweedFS, s3_bucket: str, credentials: Credentials
) -> None:
    async with open_s3_store(seaweedfs.endpoint_url, s3_bucket, credentials=credentials) as store:
        for attempt in (
            store.put("a/b", b"x"),
            store.get("a/b", limit_bytes=1),
            store.head("a/b"),
            store.delete(["a/b"]),
            store.create_upload("a/b"),
        ):
            with pytest.raises(AccessDenied, match="credentials") as caught:
                await attempt
            assert credentials.secret_key not in str(caught.value)
            assert credentials.access_key not in str(caught.value)


@pytest.mark.parametrize("operation", ["get", "head", "list", "list_folders", "delete"])
async def test_a_bucket_that_does_not_exist_is_named(seaweedfs: SeaweedFS, operation: str) -> None:
    # SeaweedFS makes a bucket that something is put into: see test_s3_errors.py for the others.
    async with open_s3_store(seaweedfs.endpoint_url, "no-such-bucket") as store:
        attempts: dict[str, Callable[[], Awaitable[object]]] = {
            "get": lambda: store.get("a", limit_bytes=1),
            "head": lambda: store.head("a"),
            "list": lambda: anext(store.list("")),
            "list_folders": lambda: anext(store.list_folders("")),
            "delete": lambda: store.delete(["a"]),
        }
        with pytest.raises(StoreError, match="bucket no-such-bucket does not exist") as caught:
            await attempts[operation]()
        assert type(caught.value) is StoreError


async def test_a_missing_object_is_missing_when_the_bucket_may_not_be_looked_up(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    session = assume_role(seaweedfs, s3_bucket, "projects/a/")

    async with open_scoped_store(seaweedfs, s3_bucket, "projects/a", session) as store:
        assert await store.head("missing") is None


async def test_credentials_of_one_prefix_cannot_touch_another(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    raw = RawBucket(seaweedfs.endpoint_url, s3_bucket)
    await raw.put("projects/b/secret", b"secret")
    session = assume_role(seaweedfs, s3_bucket, "projects/a/")

    async with open_scoped_store(seaweedfs, s3_bucket, "projects/a", session) as own:
        await own.put("x", b"own")
        assert [info.key async for info in own.list("")] == ["x"]
        assert (await own.get("x", limit_bytes=3)).data == b"own"
    async with open_scoped_store(seaweedfs, s3_bucket, "projects/b", session) as other:
        for attempt in (
            other.get("secret", limit_bytes=10),
            other.read("secret", 0, 1, bytearray()),
            other.head("secret"),
            other.head("missing"),
            other.put("secret", b"changed"),
            other.create_upload("secret"),
            other.delete(["secret"]),
            anext(other.list("")),
            anext(other.list_folders("")),
        ):
            with pytest.raises(AccessDenied, match="projects/b") as caught:
                await attempt
            assert session.secret_key not in str(caught.value)
            assert session.token not in str(caught.value)
        # The refusals tell the time, though these credentials may not list.
        assert abs(await other.now() - await own_time(raw)) < timedelta(seconds=5)
    assert await raw.objects() == {"projects/a/x": b"own", "projects/b/secret": b"secret"}
    raw.close()


async def own_time(raw: RawBucket) -> datetime:
    await raw.put("clock", b"")
    modified_at: datetime = raw.client.head_object(Bucket=raw.bucket, Key="clock")["LastModified"]
    raw.client.delete_object(Bucket=raw.bucket, Key="clock")
    return modified_at


async def test_a_session_with_a_changed_token_is_refused(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    session = assume_role(seaweedfs, s3_bucket, "projects/a/")
    middle = len(session.token) // 2
    other = "A" if session.token[middle] != "A" else "B"
    changed = replace(session, token=session.token[:middle] + other + session.token[middle + 1 :])

    async with open_scoped_store(seaweedfs, s3_bucket, "projects/a", changed) as store:
        with pytest.raises(AccessDenied):
            await store.put("x", b"x")


async def test_the_pieces_of_one_object_come_over_one_connection(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    async with FaultProxy("127.0.0.1", seaweedfs.port) as proxy:
        async with open_s3_store(proxy.endpoint_url, s3_bucket) as store:
            await store.put("a/b", bytes(3 * MIB))
            for start in range(3):
                await store.read("a/b", start * MIB, MIB, bytearray())
            await store.get("a/b", limit_bytes=3 * MIB)

        assert proxy.connections == 1


async def test_at_most_so_many_connections_as_operations_at_once(
    seaweedfs: SeaweedFS, s3_bucket: str
) -> None:
    async with FaultProxy("127.0.0.1", seaweedfs.port) as proxy:
        async with (
            open_s3_store(proxy.endpoint_url, s3_bucket, concurrency=3) as store,
            asyncio.TaskGroup() as group,
        ):
            for number in range(30):
                group.create_task(store.put(f"a/{number}", b"x"))

        assert proxy.connections <= 3
