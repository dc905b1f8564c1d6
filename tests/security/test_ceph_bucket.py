"""What settings of a bucket are worth on Ceph's gateway, which differs from AWS in two of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.support.ceph import Ceph
from tests.support.raw_s3 import RawBucket

pytestmark = pytest.mark.s3


@pytest.fixture
def bucket(ceph: Ceph) -> Iterator[RawBucket]:
    """A bucket in the hands of its owner, over plain HTTP."""
    with contextlib.closing(RawBucket(ceph.endpoint_url, ceph.make_bucket())) as made:
        yield made


@pytest.mark.parametrize(("operator", "refuses"), [("Bool", False), ("BoolIfExists", True)])
async def test_requests_without_tls_are_refused_if_the_condition_counts_what_is_missing(
    bucket: RawBucket, operator: str, refuses: bool
) -> None:
    # The gateway has aws:SecureTransport for requests with TLS only.
    everything = [f"arn:aws:s3:::{bucket.bucket}", f"arn:aws:s3:::{bucket.bucket}/*"]
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": everything,
        "Condition": {operator: {"aws:SecureTransport": "false"}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    bucket.client.put_bucket_policy(Bucket=bucket.bucket, Policy=json.dumps(policy))

    assert await is_refused(bucket) == (403 if refuses else None)


async def test_without_a_key_server_a_default_encryption_refuses_every_write(
    bucket: RawBucket,
) -> None:
    rules = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
    bucket.client.put_bucket_encryption(
        Bucket=bucket.bucket, ServerSideEncryptionConfiguration={"Rules": rules}
    )

    assert await is_refused(bucket) == 400
    bucket.client.delete_bucket_encryption(Bucket=bucket.bucket)
    assert await is_refused(bucket) is None


async def is_refused(bucket: RawBucket) -> Any:
    """Put an object; tell the status of a refusal."""
    try:
        await bucket.put("x", b"x")
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]
    return None
