"""What the roles' policies allow, a real server allows, and what they do not, it refuses.

The server's own role has all rights. Each of longshore's is tried as a session policy of it, which
can only take rights away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError
from tests.support.raw_s3 import RawBucket
from tests.support.seaweedfs import BROKER, SeaweedFS

from longshore.core.keys import Ref, entries_prefix, scope_prefix
from longshore.core.oidc_roles import oidc_roles
from longshore.core.policy import Place, compact
from longshore.core.roles import Role, broker_role, prune_role
from longshore.core.subjects import parse_issuer, subjects_of

pytestmark = pytest.mark.s3

ID = "019424f8-632e-7001-8203-040506070809"
GITHUB = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
SOMEBODY = "arn:aws:iam::123456789012:role/somebody"
SCOPES = {"default": "main", "branches": "main/x", "pulls": "pr:17", "tags": "tag:main"}
WRITTEN = {kind: {kind} for kind in SCOPES} | {"broker": set(SCOPES), "prune": set(SCOPES)}
READ = {kind: {kind, "default"} for kind in SCOPES} | {"broker": set(SCOPES), "prune": set(SCOPES)}


def roles_for(bucket: str) -> tuple[Role, ...]:
    place = Place(bucket, "cache")
    jobs = oidc_roles(
        place,
        "shop",
        parse_issuer(GITHUB, None, "github"),
        subjects_of("github", "acme/shop", "main"),
        default_branch="main",
    )
    return (broker_role(place, SOMEBODY), prune_role(place, SOMEBODY), *jobs)


def client(server: SeaweedFS, service: str, *keys: str) -> Any:
    key, secret, *token = keys
    return boto3.client(
        service,
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token[0] if token else None,
        config=Config(s3={"addressing_style": "path"}),
    )


@contextlib.contextmanager
def session_of(server: SeaweedFS, role: Role) -> Iterator[Any]:
    """Take the server's role with the rights of one of ours."""
    with contextlib.closing(client(server, "sts", BROKER.access_key, BROKER.secret_key)) as sts:
        made = sts.assume_role(
            RoleArn=server.role_arn,
            RoleSessionName=role.kind,
            Policy=compact(role.permissions),
        )["Credentials"]
    keys = (made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    with contextlib.closing(client(server, "s3", *keys)) as s3:
        yield s3


def is_allowed(call: Any, **arguments: Any) -> bool:
    try:
        call(**arguments)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return False
    return True


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_role_does_on_a_real_server_what_it_may_and_no_more(
    seaweedfs: SeaweedFS, s3_bucket: str, kind: str
) -> None:
    (role,) = (role for role in roles_for(s3_bucket) if role.kind == kind)
    keys = {owner: f"cache/{Ref(scope, ID).key('shop')}" for owner, scope in SCOPES.items()}
    raw = RawBucket(seaweedfs.endpoint_url, s3_bucket)
    for key in (*keys.values(), f"cache/{Ref('main', ID).key('shop-evil')}"):
        raw.client.put_object(Bucket=s3_bucket, Key=key, Body=b"x")
    raw.close()

    with session_of(seaweedfs, role) as s3:
        for owner, scope in SCOPES.items():
            at = {"Bucket": s3_bucket, "Key": keys[owner]}
            assert is_allowed(s3.get_object, **at) == (owner in READ[kind]), owner
            assert is_allowed(s3.put_object, Body=b"y", **at) == (owner in WRITTEN[kind]), owner
            begun = is_allowed(s3.create_multipart_upload, **at)
            assert begun == (owner in WRITTEN[kind]), owner
            for below in (scope_prefix("shop", scope), entries_prefix("shop", scope, "web")):
                listed = is_allowed(s3.list_objects_v2, Bucket=s3_bucket, Prefix=f"cache/{below}")
                assert listed == (owner in READ[kind]), owner
            assert is_allowed(s3.delete_object, **at) == (kind == "prune")
        other = f"cache/{Ref('main', ID).key('shop-evil')}"
        for call in (s3.get_object, s3.put_object):
            whole = kind in ("broker", "prune")
            assert is_allowed(call, Bucket=s3_bucket, Key=other) == whole
        for prefix in ("", "cache/", "cache/shop/", "cache/shop/scopes/p"):
            listed = is_allowed(s3.list_objects_v2, Bucket=s3_bucket, Prefix=prefix)
            inside = prefix.startswith("cache/shop/scopes/") and kind == "broker"
            assert listed == (inside or (kind == "prune" and prefix != ""))
        mark = {"Bucket": s3_bucket, "Key": f"cache/shop/gc/{ID}.mark"}
        assert is_allowed(s3.put_object, Body=b"", **mark) == (kind == "prune")
